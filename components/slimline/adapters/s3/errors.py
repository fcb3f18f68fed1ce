"""What S3 or botocore says, told as our errors, each with its cure."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from botocore import exceptions as boto

from slimline.contract.errors import BadData, BadParameters, SlimlineError, TryLater
from slimline.contract.store import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator

_CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_NO_ANSWER = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)
NOT_THERE = {"NoSuchKey", "404"}
_LATER = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}
_FAILURES = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_CURES = {
    "InvalidAccessKeyId": "the server does not know AWS_ACCESS_KEY_ID: correct it",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "ExpiredToken": "AWS_SESSION_TOKEN has expired: get new credentials",
    "InvalidToken": "AWS_SESSION_TOKEN is wrong: get new credentials",
    "AccessDenied": f"{_CREDENTIALS} do not allow this: correct them or the bucket's policy",
    "403": f"{_CREDENTIALS} are wrong or do not allow this: correct them or the bucket's policy",
    "NoSuchBucket": "there is no such bucket: create it or correct the URI",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "301": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise what goes wrong inside as our errors; `what` names the object."""
    try:
        yield
    except boto.ClientError as error:
        raise _refusal(what, error) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        msg = f"{what}: there are no whole S3 credentials: set {_CREDENTIALS}"
        raise BadParameters(msg) from error
    except boto.FlexibleChecksumError as error:
        msg = f"{what}: the bytes are damaged ({error})"
        raise BadData(msg) from error
    except _NO_ANSWER as error:
        msg = f"{what}: S3 does not answer ({error}): try later, or set AWS_ENDPOINT_URL_S3"
        raise TryLater(msg) from error
    except boto.BotoCoreError as error:
        msg = f"{what}: the AWS settings are wrong: {error}"
        raise BadParameters(msg) from error


def code_of(error: boto.ClientError) -> str:
    """S3's own name of a refusal, or its HTTP status where the answer has no body."""
    return error.response["Error"].get("Code", "")


def may_pass(error: Exception) -> bool:
    """True when the same request may succeed a moment later."""
    if not isinstance(error, boto.ClientError):
        return isinstance(error, _NO_ANSWER)
    return _status(error) in _FAILURES or code_of(error) in _LATER | _DAMAGED


def _refusal(what: str, error: boto.ClientError) -> SlimlineError:
    code = code_of(error)
    if code in NOT_THERE:
        return Missing(f"nothing under {what}")
    if code in _DAMAGED:
        return TryLater(f"{what}: the bytes were damaged on their way to S3 ({code}): try again")
    if may_pass(error) or _status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TryLater(f"{what}: S3 cannot serve this now ({code}): try later")
    cure = _CURES.get(code, error.response["Error"].get("Message", "no reason was given"))
    return BadParameters(f"{what}: S3 refused ({code}): {cure}")


def _status(error: boto.ClientError) -> int:
    return error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
