"""What Kubernetes adds to a task: Secrets and settings by name, its user, its time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.adapters.cluster import (
    GPU,
    TRUSTED_KEYS_PATH,
    USER,
    SecretReference,
    secret_references,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slimline.adapters.kfp.document import Fields
    from slimline.contract import Component, Resources

SETTINGS = "slimline-settings"
"""A ConfigMap with addresses; it may be missing, and so may each of its keys."""
_SETTINGS = (
    *("AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI"),
    "SLIMLINE_FACTORY_MODULES",
)


def platform_of(component: type[Component], needs: Resources, trusted_keys: str) -> Fields:
    """The Kubernetes part of a component's executor."""
    return executor(secret_references(component, needs), needs, trusted_keys)


def executor(references: Iterable[SecretReference], needs: Resources, trusted_keys: str) -> Fields:
    """The Kubernetes part of an executor.

    Args:
        references: the Secrets it reads.
        needs: its limits.
        trusted_keys: a ConfigMap of public keys, "" if there is none.
    """
    made: Fields = {
        "secretAsEnv": [_secret(reference) for reference in references],
        "configMapAsEnv": [
            {
                "configMapName": SETTINGS,
                "configMapNameParameter": _constant(SETTINGS),
                "keyToEnv": [{"configMapKey": n, "envVar": n} for n in _SETTINGS],
                "optional": True,
            }
        ],
        "activeDeadlineSeconds": str(needs.timeout_minutes * 60),
        "securityContext": {
            "runAsUser": str(USER),
            "runAsGroup": str(USER),
            "runAsNonRoot": True,
        },
    }
    if trusted_keys:
        named = {"configMapName": trusted_keys, "configMapNameParameter": _constant(trusted_keys)}
        made["configMapAsVolume"] = [{**named, "mountPath": TRUSTED_KEYS_PATH}]
    if needs.gpu:
        made["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return made


def _secret(reference: SecretReference) -> Fields:
    return {
        "secretName": reference.secret,
        "secretNameParameter": _constant(reference.secret),
        "keyToEnv": [{"secretKey": n, "envVar": n} for n in reference.variables],
        "optional": reference.optional,
    }


def _constant(value: str) -> Fields:
    """Newer servers read the name as a parameter, older ones as plain text: both are given."""
    return {"runtimeValue": {"constant": value}}
