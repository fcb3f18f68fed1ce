"""AWS clients, and AWS errors told as ours: what is wrong, with which field, and the cure."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sagemaker import SageMakerClient

_LATER = {
    "InternalFailure",
    "InternalServerError",
    "InternalDependencyException",
    "RequestTimeout",
    "ResourceInUse",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_SERVER_ERROR = 500


def clients(region: str) -> tuple[SageMakerClient, Any]:
    """Clients of SageMaker and of its endpoints, of one session of their own.

    Credentials and addresses come by boto3's own chain; a session made now sees what is set now.

    Raises:
        BadParameters: when no region is known.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    session = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))
    config = Config(retries={"mode": "standard"})
    try:
        return (
            session.client("sagemaker", config=config),
            session.client("sagemaker-runtime", config=config),
        )
    except NoRegionError as error:
        msg = "sagemaker.region: no AWS region is known: give one, or set AWS_REGION"
        raise BadParameters(msg) from error


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what botocore raises into an error of ours.

    Args:
        what: what was tried, such as "create the model".
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
    )

    try:
        yield
    except ClientError as error:
        raise _from_service(what, error) from error
    except ParamValidationError as error:
        msg = f"cannot {what}: a parameter is wrong: {error}"
        raise BadParameters(msg) from error
    except NoCredentialsError as error:
        msg = f"cannot {what}: no AWS credentials: give the task's connection, or set a profile"
        raise BadParameters(msg) from error
    except BotoCoreError as error:
        msg = f"cannot {what}: AWS cannot be reached: {error}"
        raise TryLater(msg) from error


def code_of(error: Exception) -> tuple[str, str]:
    """The code and message of a ClientError; ("", "") of anything else."""
    found = getattr(error, "response", {}).get("Error", {})
    return str(found.get("Code", "")), str(found.get("Message", ""))


def _from_service(what: str, error: Any) -> BadParameters | BadData | TryLater:
    code, message = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _LATER or status >= _SERVER_ERROR:
        return TryLater(f"cannot {what}: AWS is not ready for it: {code}: {message}")
    if code in _CREDENTIALS:
        return BadParameters(f"cannot {what}: AWS refuses the credentials: {message}: renew them")
    if code in _DENIED:
        return BadParameters(f"cannot {what}: not allowed: {message}: extend the caller's policy")
    if code == "ResourceLimitExceeded":
        return BadParameters(
            f"cannot {what}: a quota is reached: {message}: ask AWS to raise it, or change"
            " sagemaker.instance_type or instance_count"
        )
    if code in ("ValidationException", "ValidationError"):
        return BadParameters(f"cannot {what}: AWS finds a parameter wrong: {message}")
    return BadData(f"cannot {what}: {code}: {message}")
