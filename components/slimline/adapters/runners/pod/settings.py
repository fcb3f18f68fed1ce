"""What the workers' environment says about pods, and what of that environment a pod may see."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.adapters.cluster import threads
from slimline.adapters.runners.environment import is_secret
from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.contract import Resources

_GIVEN = frozenset(
    {
        *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"),
        *("AWS_EC2_METADATA_DISABLED", "MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY"),
        *("OMP_WAIT_POLICY", "PYTHONUNBUFFERED", "ORT_DISABLE_TELEMETRY", "TZ"),
    }
)
_OWN = "SLIMLINE_"
_LOCAL = (
    *("SLIMLINE_SECRET_", "SLIMLINE_PYTHON_", "SLIMLINE_POD_", "SLIMLINE_DOCKER_"),
    *("SLIMLINE_WORK", "SLIMLINE_RUNNER", "SLIMLINE_IMAGE", "SLIMLINE_TRUSTED_KEYS"),
    *("SLIMLINE_ENDPOINTS", "SLIMLINE_AUTO_APPROVE", "SLIMLINE_POLL_SECONDS"),
)
"""Settings that hold for the worker's own machine, by how they begin."""
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


@dataclass(frozen=True)
class PodSettings:
    """Where pods run and how long they may take to start.

    Attributes:
        namespace: SLIMLINE_POD_NAMESPACE; else what the template or the connection says.
        template: SLIMLINE_POD_TEMPLATE, a file with a pod: service account, tolerations, node
            selector, pull secrets, proxies, certificates, mounts.
        trusted_keys: SLIMLINE_POD_TRUSTED_KEYS, a ConfigMap of public keys.
        start_minutes: SLIMLINE_POD_START_MINUTES; then a pod that still waits is given up.
        work_size: SLIMLINE_POD_WORK_SIZE, the largest size of a job's files.
    """

    namespace: str | None = None
    template: str | None = None
    trusted_keys: str | None = None
    start_minutes: float = 10
    work_size: str = "20Gi"

    @classmethod
    def from_environment(cls) -> PodSettings:
        """Read the settings.

        Raises:
            BadParameters: when SLIMLINE_POD_START_MINUTES is no number above 0.
        """
        given = {
            name: os.environ[f"SLIMLINE_POD_{name.upper()}"]
            for name in ("namespace", "template", "trusted_keys", "work_size")
            if os.environ.get(f"SLIMLINE_POD_{name.upper()}")
        }
        minutes = os.environ.get("SLIMLINE_POD_START_MINUTES", "10")
        if not re.fullmatch(r"\d+(\.\d+)?", minutes) or float(minutes) == 0:
            msg = f"SLIMLINE_POD_START_MINUTES is {minutes!r}: give minutes, such as 10"
            raise BadParameters(msg)
        return cls(start_minutes=float(minutes), **given)


def pod_environment(environment: Mapping[str, str], needs: Resources) -> dict[str, str]:
    """What of a job's environment stands in its pod: settings and addresses, never a secret.

    Paths of the worker's machine stay there, and so do its credentials.

    Raises:
        BadParameters: when an address holds a password.
    """
    kept = {name: value for name, value in environment.items() if _is_given(name)}
    for name, value in kept.items():
        if _PASSWORD.search(value):
            msg = (
                f"{name} holds a password, which would stand in the pod for all to read: give the "
                "address without, and the password in the Secret slimline-mlflow or slimline-s3"
            )
            raise BadParameters(msg)
    return {**kept, **threads(needs), "SLIMLINE_LOG": "json"}


def _is_given(name: str) -> bool:
    own = name.startswith(_OWN) and not name.startswith(_LOCAL)
    return (own or name in _GIVEN) and not is_secret(name)
