"""What jobs find in a Kubernetes cluster: Secrets and ConfigMaps, by name; never their values.

    Secret     slimline-s3        AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
    Secret     slimline-mlflow    MLFLOW_TRACKING_USERNAME, _PASSWORD, _TOKEN
    Secret     slimline-<name>    SLIMLINE_SECRET_<NAME>, for components that declare <name>
    ConfigMap  of your choice     trusted public keys (PEM), one file each

A key of a Secret is the name of the variable it becomes. So the names are those of the Airflow
connections, with a dash. S3's and MLflow's may be missing: where a pod's service account stands
for a cloud role, there are no keys. A declared secret must be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.adapters.runners.environment import THREADS
from slimline.contract import BadParameters
from slimline.contract.secrets import secret_variable

if TYPE_CHECKING:
    from slimline.adapters.images import Image
    from slimline.contract import Component, Resources

USER = 65532
"""User and group of every image."""
TRUSTED_KEYS_PATH = "/etc/slimline/trusted-keys"
TRUSTED_KEYS_VARIABLE = "SLIMLINE_TRUSTED_KEYS"
GPU = "nvidia.com/gpu"

_S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@dataclass(frozen=True)
class SecretReference:
    """Some variables of a job that a Kubernetes Secret gives."""

    secret: str
    variables: tuple[str, ...]
    optional: bool


def secret_references(component: type[Component], needs: Resources) -> tuple[SecretReference, ...]:
    """The Secrets of a job: S3's, MLflow's if it has the network, and those it declares."""
    found = [SecretReference("slimline-s3", _S3, optional=True)]
    if needs.network:
        found.append(SecretReference("slimline-mlflow", _MLFLOW, optional=True))
    for name in component.secrets:
        secret = f"slimline-{name.replace('_', '-')}"
        found.append(SecretReference(secret, (secret_variable(name),), optional=False))
    return tuple(found)


def pullable(name: str, image: Image) -> str:
    """The reference of an image that every node can pull.

    Raises:
        BadParameters: when only the machine that built it has it.
    """
    if "@sha256:" not in image.reference:
        msg = (
            f"image {name} is {image.reference[:24]}..., which only the machine that built it has: "
            "run `make images PUSH=<registry>`, so that the lock names what a cluster can pull"
        )
        raise BadParameters(msg)
    return image.reference


def threads(needs: Resources) -> dict[str, str]:
    """The thread counts of numeric libraries: as many as the job has cores."""
    return dict.fromkeys(THREADS, str(max(1, int(needs.cpu))))
