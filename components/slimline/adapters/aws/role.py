"""Credentials of a component's own role, for jobs that a worker starts itself.

`SLIMLINE_ROLES=arn:aws:iam::123456789012:role/slimline-{component}` says which; without it a job
has the worker's credentials. They last an hour, which is as long as AWS lets one role take another:
a longer job belongs into a pod, whose service account gets new ones.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, TryLater

if TYPE_CHECKING:
    from slimline.contract import Component

VARIABLE = "SLIMLINE_ROLES"
_PLACE = "{component}"


def role_credentials(component: type[Component]) -> dict[str, str]:
    """The `AWS_*` variables of the component's role; none when SLIMLINE_ROLES is not set.

    Raises:
        BadParameters: when the setting names no role for each component, or AWS refuses it.
        TryLater: when AWS does not answer.
    """
    pattern = os.environ.get(VARIABLE, "")
    if not pattern:
        return {}
    if _PLACE not in pattern:
        msg = f"{VARIABLE} is {pattern!r}: give a role's ARN with {_PLACE} in it"
        raise BadParameters(msg)
    name = component.component_name().replace("_", "-")
    return _assume(pattern.replace(_PLACE, name), f"slimline-{name}")


def _assume(arn: str, session: str) -> dict[str, str]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        sts = boto3.Session(region_name=os.environ.get("AWS_REGION")).client("sts")
        taken = sts.assume_role(RoleArn=arn, RoleSessionName=session)["Credentials"]
    except ClientError as error:
        msg = f"{VARIABLE}: AWS refused role {arn} ({error}): deploy infra/aws/roles.yaml"
        raise BadParameters(msg) from error
    except (NoCredentialsError, NoRegionError) as error:
        msg = f"{VARIABLE}: the worker cannot take role {arn}: {error}: set AWS_REGION and its role"
        raise BadParameters(msg) from error
    except BotoCoreError as error:
        msg = f"{VARIABLE}: AWS does not answer ({error}): try later"
        raise TryLater(msg) from error
    return {
        "AWS_ACCESS_KEY_ID": taken["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": taken["SecretAccessKey"],
        "AWS_SESSION_TOKEN": taken["SessionToken"],
    }
