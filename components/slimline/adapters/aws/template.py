"""`infra/aws/roles.yaml`: a CloudFormation template with a role for each component.

Who may take a role: the worker's role, for the jobs that it starts itself (`adapters.aws.role`);
and by parameter the service account `<prefix>-<component>` of a Kubernetes cluster, through EKS
Pod Identity or through the cluster's OpenID Connect provider (IRSA).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from slimline.adapters.aws.policy import (
    JOB,
    WORKER,
    Bucket,
    Cloud,
    allow,
    document,
    own_statements,
    statements,
)
from slimline.contract.component import component_names, load_component

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slimline.adapters.aws.policy import Statement
    from slimline.contract.component import Component

Fields = dict[str, Any]

_HEAD = """\
# Made from the components' classes: slimline iam --template > infra/aws/roles.yaml
# Do not edit: declare `access` or `secrets` in a component's spec.py and write it anew.
"""
_ACCOUNT = "${AWS::AccountId}"
_ROLE = f"arn:${{AWS::Partition}}:iam::{_ACCOUNT}:role/${{Prefix}}"
_NOTHING = {"Ref": "AWS::NoValue"}
_OPTIONAL = {"DataBucket": "", "PermissionsBoundary": "", "OidcProvider": "", "PodIdentity": "no"}
"""Parameters that may be left out, each with the value that says so."""
_PARAMETERS = {
    "Prefix": {
        "Type": "String",
        "Default": "slimline",
        "AllowedPattern": "[a-z][a-z0-9-]{1,19}",
        "Description": "Beginning of every name; the same in all stacks",
    },
    "DataBucket": {
        "Type": "String",
        "Default": "",
        "Description": "Bucket of source data that check_data and adopt may read; none if empty",
    },
    "Endpoints": {
        "Type": "String",
        "Default": "slimline-*",
        "MinLength": 1,
        "Description": "Names of the SageMaker endpoints that deploy may touch, with * and ?",
    },
    "WorkerService": {
        "Type": "String",
        "Default": "ec2.amazonaws.com",
        "AllowedValues": ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"],
        "Description": "The service that runs Airflow's workers, outside Kubernetes",
    },
    "PodIdentity": {
        "Type": "String",
        "Default": "no",
        "AllowedValues": ["no", "yes"],
        "Description": "Whether service accounts may take their roles by EKS Pod Identity",
    },
    "OidcProvider": {
        "Type": "String",
        "Default": "",
        "Description": "A cluster's OIDC issuer without https://, for IRSA instead of PodIdentity",
    },
    "Namespace": {
        "Type": "String",
        "Default": "slimline",
        "Description": "Kubernetes namespace of the service accounts",
    },
    "PermissionsBoundary": {
        "Type": "String",
        "Default": "",
        "Description": "ARN of a policy that bounds every role; none if empty",
    },
}
_OUTPUTS = {
    "WorkerRole": {
        "Description": "Role of Airflow's scheduler and workers",
        "Value": {"Fn::GetAtt": "WorkerRole.Arn"},
    },
    "Environment": {
        "Description": "Setting for Airflow's workers: jobs that they start get their own role",
        "Value": {"Fn::Sub": f"SLIMLINE_ROLES={_ROLE}-{{component}}"},
    },
}


def template() -> str:
    """The template as YAML, the same text for the same components."""
    resources: Fields = {"JobPolicy": _job_policy(), "WorkerRole": _worker()}
    for name in component_names():
        resources[f"{name.title().replace('_', '')}Role"] = _role(load_component(name))
    body: Fields = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Slimline: roles of the Airflow workers and of each component",
        "Parameters": _PARAMETERS,
        "Conditions": {
            f"Has{name}": {"Fn::Not": [{"Fn::Equals": [{"Ref": name}, off]}]}
            for name, off in _OPTIONAL.items()
        },
        "Resources": _substituted(resources),
        "Outputs": _OUTPUTS,
    }
    # What has no inner lists stands on one line: beyond 51,200 bytes a template needs a bucket.
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=100, default_flow_style=None)
    return _HEAD + text


class _Dumper(yaml.SafeDumper):
    """YAML as CloudFormation reads it: no anchors, functions as tags.

    Tags also keep the text below the 51,200 bytes that a template may have without a bucket.
    """

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _mapping(dumper: _Dumper, data: Fields) -> yaml.Node:
    name, value = next(iter(data.items()), ("", None))
    tag = f"!{name.removeprefix('Fn::')}"
    if isinstance(value, str) and name in ("Ref", "Fn::Sub", "Fn::GetAtt"):
        return dumper.represent_scalar(tag, value, style="|" if "\n" in value else None)
    if isinstance(value, list) and name in ("Fn::If", "Fn::Not", "Fn::Equals"):
        return dumper.represent_sequence(tag, value)
    return dumper.represent_dict(data)


_Dumper.add_representer(dict, _mapping)


def cloud() -> Cloud:
    """What the other stacks of `infra/aws/` make, as text for `Fn::Sub`."""
    return Cloud(
        buckets={
            **{place: _own_bucket(place) for place in ("store", "releases", "fleet")},
            "data": Bucket("arn:${AWS::Partition}:s3:::${DataBucket}"),
        },
        sagemaker=f"arn:${{AWS::Partition}}:sagemaker:${{AWS::Region}}:{_ACCOUNT}",
        endpoints="${Endpoints}",
        endpoint_role=f"{_ROLE}-endpoint",
        secrets=f"arn:${{AWS::Partition}}:secretsmanager:${{AWS::Region}}:{_ACCOUNT}"
        ":secret:${Prefix}/",
    )


def _own_bucket(place: str) -> Bucket:
    arn = f"arn:${{AWS::Partition}}:s3:::${{Prefix}}-{place}-{_ACCOUNT}-${{AWS::Region}}"
    return Bucket(arn, key={"Fn::ImportValue": f"${{Prefix}}-{place}-key"})


def _job_policy() -> Fields:
    made = document(statements(JOB, cloud(), "Job"))
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {
            "ManagedPolicyName": "${Prefix}-job",
            "Description": "What every job does with the store: inputs, results, manifest",
            "PolicyDocument": made,
        },
    }


def _worker() -> Fields:
    store = cloud().buckets["store"]
    jobs = [_arn(load_component(name)) for name in component_names()]
    made = [
        *statements(WORKER, cloud()),
        allow("Abort", ["s3:AbortMultipartUpload"], store.objects("*")),
        allow("Secrets", ["secretsmanager:GetSecretValue"], f"{cloud().secrets}slimline_*"),
        allow("Roles", ["sts:AssumeRole"], *jobs),
    ]
    machine = _trust("sts:AssumeRole", Service={"Ref": "WorkerService"})
    return _iam_role("worker", "Airflow's scheduler and workers", machine, made)


def _role(component: type[Component]) -> Fields:
    worker = _trust("sts:AssumeRole", AWS="${WorkerRole.Arn}")
    made = own_statements(component, cloud())
    role = _iam_role(_name(component), component.summary(), worker, made)
    role["Properties"]["ManagedPolicyArns"] = [{"Ref": "JobPolicy"}]
    return role


def _iam_role(name: str, description: str, trusted: Statement, made: Iterable[Statement]) -> Fields:
    properties: Fields = {
        "RoleName": f"${{Prefix}}-{name}",
        "Description": description,
        "AssumeRolePolicyDocument": _who_may_take(name, trusted),
        "PermissionsBoundary": {
            "Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundary"}, _NOTHING]
        },
    }
    inline = _inline(name, list(made))
    return {"Type": "AWS::IAM::Role", "Properties": {**properties, **inline}}


def _inline(name: str, made: list[Statement]) -> Fields:
    """The inline policy; IAM takes none without a statement, so data alone decides about all."""
    if not made:
        return {}
    if all(map(_about_data, made)):
        policies = [{"PolicyName": name, "PolicyDocument": document(made)}]
        return {"Policies": {"Fn::If": ["HasDataBucket", policies, _NOTHING]}}
    kept = [{"Fn::If": ["HasDataBucket", s, _NOTHING]} if _about_data(s) else s for s in made]
    return {"Policies": [{"PolicyName": name, "PolicyDocument": document(kept)}]}


def _about_data(statement: Statement) -> bool:
    return str(statement["Sid"]).startswith("Data")


def _who_may_take(name: str, trusted: Statement) -> Fields:
    """The trust policy: `trusted`, and the service account of that name.

    The provider's name is part of a condition's key, which no function of CloudFormation can make;
    so that form is JSON text for `Fn::Sub`.
    """
    pods = {
        **_trust("sts:AssumeRole", Service="pods.eks.amazonaws.com"),
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {
            "StringEquals": {
                "aws:RequestTag/kubernetes-namespace": {"Ref": "Namespace"},
                "aws:RequestTag/kubernetes-service-account": f"${{Prefix}}-{name}",
            }
        },
    }
    provider = f"arn:${{AWS::Partition}}:iam::{_ACCOUNT}:oidc-provider/${{OidcProvider}}"
    irsa = {
        **_trust("sts:AssumeRoleWithWebIdentity", Federated=provider),
        "Condition": {
            "StringEquals": {
                "${OidcProvider}:aud": "sts.amazonaws.com",
                "${OidcProvider}:sub": f"system:serviceaccount:${{Namespace}}:${{Prefix}}-{name}",
            }
        },
    }
    either = ",\n".join(json.dumps(statement) for statement in (_as_text(trusted), irsa))
    as_text = f'{{"Version": "2012-10-17", "Statement": [\n{either}\n]}}\n'
    pods_too = {"Fn::If": ["HasPodIdentity", pods, _NOTHING]}
    return {"Fn::If": ["HasOidcProvider", {"Fn::Sub": as_text}, document([trusted, pods_too])]}


def _trust(action: str, **principal: Any) -> Statement:
    return {"Effect": "Allow", "Principal": principal, "Action": action}


def _as_text(statement: Statement) -> Statement:
    """A trust statement whose references are text for `Fn::Sub`."""
    principal = {
        kind: f"${{{who['Ref']}}}" if isinstance(who, dict) else who
        for kind, who in statement["Principal"].items()
    }
    return {**statement, "Principal": principal}


def _substituted(value: Any) -> Any:
    """Wrap each text with a variable in `Fn::Sub`."""
    if isinstance(value, str):
        return {"Fn::Sub": value} if "${" in value else value
    if isinstance(value, list):
        return [_substituted(item) for item in value]
    if isinstance(value, dict) and "Fn::Sub" not in value:
        return {name: _substituted(item) for name, item in value.items()}
    return value


def _name(component: type[Component]) -> str:
    """A component's name as Kubernetes writes names."""
    return component.component_name().replace("_", "-")


def _arn(component: type[Component]) -> str:
    return f"{_ROLE}-{_name(component)}"
