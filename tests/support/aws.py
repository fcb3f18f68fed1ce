"""The stacks of infra/aws/ on moto, with its IAM switched on, and roles to act under.

What moto does not do is mended here, as little as it takes, so that the policies that AWS would
see are the ones that are evaluated:

- it keeps inline policies of a template as Python objects, and forgets `ManagedPolicyArns`;
- it judges every call but S3's against the resource "*": here against the ARN that the call names;
- it reads `?` in a pattern as a regular expression does, and knows no policy variables: the role
  `device` is that of the thing `d1`.

It evaluates actions and resources of identity policies. It does not evaluate conditions, policy
variables, policies of buckets and keys, permissions boundaries, nor that a key is needed to read.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import boto3
from moto.cloudformation.models import cloudformation_backends
from moto.cloudformation.parsing import clean_json
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.authorization import disable_iam_authentication, enable_iam_authentication
from moto.iam.access_control import IAMPolicyStatement
from moto.iam.models import iam_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.server import ThreadedMotoServer

from support import web

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATES = Path(__file__).parents[2] / "infra" / "aws"
STACKS = ("storage", "registry", "serving", "roles", "iot")
REGION = "eu-central-1"
THING = "d1"
_NAMES = {"EndpointName": "endpoint", "EndpointConfigName": "endpoint-config", "ModelName": "model"}
_OWN = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
_FREE = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Aws(NamedTuple):
    """A cloud on loopback in which the stacks are deployed."""

    url: str
    outputs: dict[str, dict[str, str]]
    """By stack and by output."""

    def bucket(self, place: str) -> str:
        return f"slimline-{place}-{ACCOUNT}-{REGION}"

    def uri(self, place: str) -> str:
        return f"s3://{self.bucket(place)}"

    def client(self, service: str) -> Any:
        """A client with the credentials that the environment holds now."""
        given = {f"aws_{name.lower()}": os.environ.get(f"AWS_{name}") for name in _OWN}
        return _session().client(service, **given)

    def resource(self, stack: str, name: str) -> dict[str, Any]:
        """A resource's properties, with the template's functions worked out."""
        stacks = cloudformation_backends[ACCOUNT][REGION].stacks.values()
        found = next(s for s in stacks if s.name == f"slimline-{stack}").resource_map
        properties = found._resource_json_map[name]["Properties"]
        resolved: dict[str, Any] = clean_json(properties, found)
        return resolved

    def trust(self, role: str, prefix: str = "slimline") -> dict[str, Any]:
        """Who may take a role."""
        iam = self.client("iam")
        found: dict[str, Any] = iam.get_role(RoleName=f"{prefix}-{role}")["Role"]
        document: dict[str, Any] = found["AssumeRolePolicyDocument"]
        return {**document, "Statement": [s for s in document["Statement"] if s]}

    def secret(self, name: str) -> None:
        """Put a secret where a connection of that name lies."""
        manager = self.client("secretsmanager")
        manager.create_secret(Name=f"slimline/slimline_{name}", SecretString="a secret")

    @contextmanager
    def role(self, name: str) -> Iterator[None]:
        """Act under the role `slimline-<name>`, in this process and its children, IAM on."""
        arn = f"arn:aws:iam::{ACCOUNT}:role/slimline-{name}"
        sts = self.client("sts")
        taken = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        keys = (taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
        given = {f"AWS_{name}": value for name, value in zip(_OWN, keys, strict=True)}
        with patch.dict(os.environ, given), enable_iam_authentication():
            yield


@contextmanager
def deployed(**parameters: dict[str, str]) -> Iterator[Aws]:
    """Deploy all stacks; `parameters` by stack. AWS_* of this process point there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": REGION, **_FREE}
    environment |= {"AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    mends = (
        patch.object(SageMakerResponse, "_determine_resource", _sagemaker_arn, create=True),
        patch.object(SecretsManagerResponse, "_determine_resource", _secret_arn, create=True),
        patch.object(IAMPolicyStatement, "_match", staticmethod(matches)),
    )
    with (
        patch.dict(os.environ, environment),
        disable_iam_authentication(),
    ):
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
            os.environ.pop(name, None)
        for mend in mends:
            mend.start()
        web.post(f"{environment['AWS_ENDPOINT_URL']}/moto-api/reset")
        try:
            outputs = {name: deploy(name, **parameters.get(name, {})) for name in STACKS}
            _mend_roles()
            yield Aws(environment["AWS_ENDPOINT_URL"], outputs)
        finally:
            for mend in mends:
                mend.stop()
            server.stop()


@cache
def _session() -> boto3.Session:
    """One session for all clients: it reads each service's description once."""
    return boto3.Session()


def matches(pattern: str, text: str) -> re.Match[str] | None:
    """How IAM compares: `*` is any text, `?` is one character, the rest is itself."""
    parts = {"*": ".*", "?": "."}
    return re.fullmatch("".join(parts.get(c) or re.escape(c) for c in pattern), text, re.DOTALL)


def deploy(name: str, prefix: str = "slimline", **parameters: str) -> dict[str, str]:
    """Make one stack; returns its outputs."""
    client, stack = _session().client("cloudformation"), f"{prefix}-{name}"
    parameters["Prefix"] = prefix
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # no policies of buckets
        client.create_stack(
            StackName=stack,
            TemplateBody=(TEMPLATES / f"{name}.yaml").read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        )
    made = client.describe_stacks(StackName=stack)["Stacks"][0]
    assert made["StackStatus"] == "CREATE_COMPLETE", made
    return {o["OutputKey"]: o["OutputValue"] for o in made.get("Outputs", [])}


def _mend_roles() -> None:
    iam = _session().client("iam")
    common = {"worker", "endpoint", "device"}
    for role in iam_backends[ACCOUNT]["aws"].roles.values():
        for name, document in list(role.policies.items()):
            if isinstance(document, dict):
                kept = [s for s in document["Statement"] if s]
                text = json.dumps({**document, "Statement": kept})
                role.policies[name] = text.replace("${credentials-iot:ThingName}", THING)
        if role.name.removeprefix("slimline-") not in common:
            job = f"arn:aws:iam::{ACCOUNT}:policy/slimline-job"
            iam.attach_role_policy(RoleName=role.name, PolicyArn=job)


def _sagemaker_arn(response: Any) -> str:
    given = json.loads(response.body or "{}")
    order = ("EndpointName", "EndpointConfigName", "ModelName")
    name = next((n for n in order if n in given), "")
    kind, value = _NAMES.get(name, "*"), given.get(name, "*")
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{value}"


def _secret_arn(response: Any) -> str:
    name = json.loads(response.body or "{}").get("SecretId", "*")
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"
