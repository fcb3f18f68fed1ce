"""The environment of a job: little, and the secrets that the component declares, nothing else."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from slimline.contract.secrets import secret_variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.contract import Component, Resources

_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"),
        *("PYTHONPATH", "LD_LIBRARY_PATH"),
        *("CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"),
        "AWS_EC2_METADATA_DISABLED",
        *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        *("MLFLOW_TRACKING_TOKEN", "MLFLOW_DISABLE_TELEMETRY"),
    }
)
_OWN, _SECRET = "SLIMLINE_", "SLIMLINE_SECRET_"
_S3 = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
)
"""Where boto3's own chain finds credentials."""
_SECRETS = frozenset(
    {
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    }
)
_BREAKS = re.compile(r'\r?\n|\\n|"')
_SHORTEST_PIECE = 12
"""A shorter piece says too little to be masked without masking other words."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def job_environment(
    component: type[Component],
    given: Mapping[str, str],
    needs: Resources | None = None,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The whole environment of a job.

    Args:
        component: says by `secrets` what it may read.
        given: what connections resolve to: service addresses, S3 credentials, secrets; it wins.
        needs: says by `cpu` how many threads; the component's own if not given.
        base: where the rest comes from; this process's environment if not given.
    """
    source = {**(os.environ if base is None else base), **given}
    wanted = {secret_variable(name) for name in component.secrets}
    allowed = wanted | {f"{name}_FILE" for name in wanted} | set(_S3) | _PASSED
    kept = {k: v for k, v in source.items() if k in allowed or _is_setting(k)}
    threads = str(max(1, min(int((needs or component.needs).cpu), os.cpu_count() or 1)))
    return {
        **dict.fromkeys(THREADS, threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait shall not take a core from other jobs
        **kept,
        "PYTHONUNBUFFERED": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "SLIMLINE_LOG": "json",
    }


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    r"""What no log may show: the secrets in an environment, whole and in pieces, longest first.

    Pieces are a secret's lines, also where it is JSON with line breaks written as `\n`.
    """
    whole = {v for k, v in environment.items() if v and is_secret(k)}
    pieces = {piece for value in whole for piece in _BREAKS.split(value)}
    long = {p for p in pieces if len(p) >= _SHORTEST_PIECE and not p.startswith("-----")}
    return tuple(sorted(whole | long, key=len, reverse=True))


def is_secret(name: str) -> bool:
    """True for a variable whose value no one may see."""
    return name in _SECRETS or (name.startswith(_SECRET) and not name.endswith("_FILE"))


def _is_setting(name: str) -> bool:
    return name.startswith(_OWN) and not name.startswith(_SECRET)
