"""The environment of a job: little, and the secrets that the component declares, nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slimline.contract.secrets import secret_variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.contract import Component

_PASSED = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH"),
        *("CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"),
        *("MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY"),
    }
)
_OWN, _SECRET = "SLIMLINE_", "SLIMLINE_SECRET_"
_S3 = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
)
"""Where boto3's own chain finds credentials."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def job_environment(
    component: type[Component],
    given: Mapping[str, str],
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The whole environment of a job.

    Args:
        component: says by `secrets` what it may read, and by `needs.cpu` how many threads.
        given: what connections resolve to: service addresses, S3 credentials, secrets; it wins.
        base: where the rest comes from; this process's environment if not given.
    """
    source = {**(os.environ if base is None else base), **given}
    wanted = {secret_variable(name) for name in component.secrets}
    allowed = wanted | {f"{name}_FILE" for name in wanted} | set(_S3) | _PASSED
    kept = {k: v for k, v in source.items() if k in allowed or _is_setting(k)}
    threads = str(max(1, min(int(component.needs.cpu), os.cpu_count() or 1)))
    return {
        **dict.fromkeys(_THREADS, threads),
        **kept,
        "PYTHONUNBUFFERED": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "SLIMLINE_LOG": "json",
    }


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values in an environment that no log may show."""
    names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return tuple(
        v
        for k, v in environment.items()
        if v and (k in names or (k.startswith(_SECRET) and not k.endswith("_FILE")))
    )


def _is_setting(name: str) -> bool:
    return name.startswith(_OWN) and not name.startswith(_SECRET)
