"""The keys of a fleet: one Ed25519 pair for each role, and one for each device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from securesystemslib.signer import CryptoSigner, SSlibKey

ROLES = ("root", "targets", "snapshot", "timestamp", "releases", "campaigns")
ONLINE = ("snapshot", "timestamp", "releases", "campaigns")
"""What the `ota` room needs; root and targets can lie in a safe."""


def generate_fleet_keys(roles: Iterable[str] = ROLES) -> dict[str, str]:
    """A new private key, PEM, for each role."""
    return {role: generate_private_key() for role in roles}


def generate_private_key() -> str:
    """A new Ed25519 private key as PEM text."""
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner.generate_ed25519().private_bytes.decode()


def parse_fleet_keys(text: str) -> dict[str, str]:
    """Read the secret `tuf`: a JSON map of role to PEM private key.

    Raises:
        BadParameters: without quoting any of it.
    """
    try:
        keys = json.loads(text)
    except ValueError:
        keys = None
    if not isinstance(keys, dict) or not set(keys) <= set(ROLES):
        msg = f"secret tuf: must be JSON, a map of role ({', '.join(ROLES)}) to PEM private key"
        raise BadParameters(msg)
    return keys


def signer(private_pem: str) -> CryptoSigner:
    """What signs with a private key.

    Raises:
        BadParameters: when it is no PEM private key.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        return CryptoSigner(load_pem_private_key(private_pem.encode(), password=None))
    except ValueError as error:
        msg = "a private key is no unencrypted PEM: make one with slimline.fleet.keys"
        raise BadParameters(msg) from error


def role_signer(keys: Mapping[str, str], role: str) -> CryptoSigner:
    """What signs for a role.

    Raises:
        BadParameters: when the key is not among `keys`.
    """
    if role not in keys:
        msg = f"secret tuf has no key for role {role!r}: add it, or do this step where the key is"
        raise BadParameters(msg)
    return signer(keys[role])


def public_key(public_pem: str) -> SSlibKey:
    """What verifies with a public key."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    return SSlibKey.from_crypto(load_pem_public_key(public_pem.encode()))


def public_pem(private_pem: str) -> str:
    """The public half of a private key, as PEM text."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    public = load_pem_private_key(private_pem.encode(), password=None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
