"""A component's IAM policy, read from its class: nothing that it does not declare is allowed.

Every job reads and writes the store: its inputs, its results, its manifest. The rest comes from
the class: `access` (see `contract.resources.Access`), `secrets`, and `needs.network`, without
which a job has its artifacts and may declare nothing else.

Reading a bucket includes `s3:ListBucket` on the whole of it. S3 says "not there" (404) only to one
who may list, and a condition on `s3:prefix` would not hold for that question; so a role sees the
names of all keys of a bucket it reads, but opens those alone that it may. That is why store,
releases and fleet are best given a bucket each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from slimline.contract.errors import BadParameters
from slimline.contract.resources import Access

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slimline.contract.component import Component

Statement = dict[str, Any]

JOB = (
    Access("store", "read"),
    Access("store", "write"),
    Access("store", "delete", "jobs/*/checkpoint"),
)
"""What every job does: see `contract.job` and `contract.cache`."""

WORKER = (
    Access("store", "read"),
    Access("store", "write", "latest/*"),
    Access("store", "delete"),
    Access("releases", "read", "artifacts/*"),
    Access("data", "read"),
)
"""What an Airflow worker does itself: look jobs up, fingerprint sources, read verdicts, sweep."""

_S3: Mapping[str, tuple[str, ...]] = {
    "read": ("s3:GetObject",),
    "write": ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
    "delete": ("s3:DeleteObject",),
}
_KMS: Mapping[str, tuple[str, ...]] = {
    "read": ("kms:Decrypt",),
    "write": ("kms:Decrypt", "kms:GenerateDataKey"),  # an upload in parts decrypts its parts
    "delete": (),
}
_SAGEMAKER = (
    *("DescribeEndpoint", "DescribeEndpointConfig", "DescribeModel"),
    *("CreateEndpoint", "CreateEndpointConfig", "CreateModel"),
    *("UpdateEndpoint", "DeleteEndpoint", "InvokeEndpoint"),
)


@dataclass(frozen=True)
class Bucket:
    """Where a place lies: `arn` of the bucket, `prefix` within it, `key` that encrypts it or ""."""

    arn: str
    prefix: str = ""
    key: Any = ""

    def objects(self, keys: str) -> str:
        """The ARN of the objects that a key pattern names."""
        return f"{self.arn}/{self.prefix}{keys}"


@dataclass(frozen=True)
class Cloud:
    """The ARNs that policies speak of: literal ones, or text for `Fn::Sub`.

    Attributes:
        buckets: by place; a place that lies outside S3 is not there, and gets no statement.
        sagemaker: beginning of SageMaker's ARNs, `arn:aws:sagemaker:REGION:ACCOUNT`.
        endpoints: pattern of the names of endpoints.
        endpoint_role: ARN of the role that SageMaker runs endpoints with.
        secrets: beginning of the ARNs of secrets, to which `slimline_<name>` is added.
    """

    buckets: Mapping[str, Bucket]
    sagemaker: str
    endpoints: str
    endpoint_role: str
    secrets: str


def cloud_of(
    *,
    store: str,
    releases: str,
    fleet: str,
    data: str,
    key: str,
    endpoints: str,
    prefix: str,
    account: str,
    region: str,
) -> Cloud:
    """Literal ARNs from URIs, `s3://bucket/prefix`; a place elsewhere is left out."""
    given = {"store": store, "releases": releases, "fleet": fleet, "data": data}
    partition = _partition(region)
    return Cloud(
        buckets={
            place: _bucket_of(uri, key if place != "data" else "", partition)
            for place, uri in given.items()
            if uri.startswith("s3://")
        },
        sagemaker=f"arn:{partition}:sagemaker:{region}:{account}",
        endpoints=endpoints,
        endpoint_role=f"arn:{partition}:iam::{account}:role/{prefix}-endpoint",
        secrets=f"arn:{partition}:secretsmanager:{region}:{account}:secret:{prefix}/",
    )


def policy(component: type[Component], cloud: Cloud) -> dict[str, Any]:
    """The whole policy of a component, as a document for IAM."""
    return document((*statements(JOB, cloud, "Job"), *own_statements(component, cloud)))


def own_statements(component: type[Component], cloud: Cloud) -> tuple[Statement, ...]:
    """What a component may do beyond what every job does.

    Raises:
        BadParameters: when it declares access that needs a network, and declares no network.
    """
    outside = sorted({a.place for a in component.access if not _of_artifacts(a)})
    if outside and not component.needs.network:
        msg = (
            f"{component.component_name()}: access to {', '.join(outside)} needs a network: "
            "set needs.network to True, or take it out of access"
        )
        raise BadParameters(msg)
    return (*statements(component.access, cloud), *_secrets(component.secrets, cloud))


def statements(access: Iterable[Access], cloud: Cloud, name: str = "") -> tuple[Statement, ...]:
    """Statements that allow what is declared; their Sids begin with `name`."""
    found: list[Statement] = []
    ordered = sorted(access, key=lambda a: (a.place, a.action))
    for place, group in groupby(ordered, key=lambda a: a.place):
        declared = list(group)
        if place == "endpoints":
            found += _endpoints({a.action for a in declared}, cloud, name)
        elif place in cloud.buckets:
            found += _bucket(declared, cloud.buckets[place], f"{name}{place.title()}")
    return tuple(found)


def document(allowed: Iterable[Statement]) -> dict[str, Any]:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(allowed)}


def allow(sid: str, actions: Iterable[str], *resources: Any) -> Statement:
    """One statement; `Sid` is its name."""
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": _one_or_all(list(actions)),
        "Resource": _one_or_all(list(resources)),
    }


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _of_artifacts(access: Access) -> bool:
    """True for what the contract itself does: its store, and an input that was released."""
    return access.place == "store" or (access.place, access.action) == ("releases", "read")


def _bucket_of(uri: str, key: str, partition: str) -> Bucket:
    name, _, prefix = uri.removeprefix("s3://").rstrip("/").partition("/")
    return Bucket(f"arn:{partition}:s3:::{name}", f"{prefix}/" if prefix else "", key)


def _partition(region: str) -> str:
    found = next((p for p in ("cn", "us-gov") if region.startswith(f"{p}-")), "")
    return f"aws-{found}" if found else "aws"


def _bucket(declared: list[Access], bucket: Bucket, name: str) -> list[Statement]:
    found = []
    for action in ("read", "write", "delete"):
        objects = [bucket.objects(a.keys) for a in declared if a.action == action]
        if objects:
            found.append(allow(f"{name}{action.title()}", _S3[action], *objects))
    actions = {a.action for a in declared}
    if "read" in actions:
        found.append(allow(f"{name}List", ["s3:ListBucket"], bucket.arn))
    if "write" in actions:  # an upload that was killed goes on from its parts
        found.append(allow(f"{name}Uploads", ["s3:ListBucketMultipartUploads"], bucket.arn))
    uses = sorted({use for action in actions for use in _KMS[action]})
    if uses and bucket.key:
        found.append(allow(f"{name}Key", uses, bucket.key))
    return found


def _endpoints(actions: set[str], cloud: Cloud, name: str) -> list[Statement]:
    verbs = _SAGEMAKER if "write" in actions else _SAGEMAKER[:3]
    kinds = ("endpoint", "endpoint-config", "model")
    arns = [f"{cloud.sagemaker}:{kind}/{cloud.endpoints}" for kind in kinds]
    found = [allow(f"{name}Endpoints", [f"sagemaker:{verb}" for verb in verbs], *arns)]
    if "write" in actions:
        passed = allow(f"{name}EndpointsRole", ["iam:PassRole"], cloud.endpoint_role)
        passed["Condition"] = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        found.append(passed)
    return found


def _secrets(names: tuple[str, ...], cloud: Cloud) -> list[Statement]:
    if not names:
        return []
    # AWS appends a hyphen and six random characters to a secret's name
    arns = [f"{cloud.secrets}slimline_{name}-??????" for name in names]
    return [allow("Secrets", ["secretsmanager:GetSecretValue"], *arns)]
