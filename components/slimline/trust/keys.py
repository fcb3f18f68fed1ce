"""Signing keys: made here, kept by the operator, trusted by a directory of public PEM files.

EC keys on P-256 are made; P-256, P-384 and P-521 are understood. Needs `cryptography` only.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

VARIABLE = "SLIMLINE_TRUSTED_KEYS"
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}


@dataclass(frozen=True)
class TrustedKey:
    """A public key that may sign.

    Attributes:
        keyid: hex sha256 of the key's SubjectPublicKeyInfo in DER.
        pem: the key.
        name: the file it was read from.
    """

    keyid: str
    pem: str
    name: str = ""

    @classmethod
    def read(cls, pem: str, name: str = "") -> TrustedKey:
        """Take a PEM public key, its text brought into the one form that others hash."""
        return cls(keyid_of(pem, name), _pem(load_public(pem, name)), name)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's ECDSA signature (DER) of `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec

        key = load_public(self.pem, self.name)
        try:
            key.verify(signature, message, ec.ECDSA(_hash_of(key)))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys whose signatures count."""

    keys: tuple[TrustedKey, ...]

    @classmethod
    def of(cls, *public_pems: str) -> TrustedKeys:
        """Trust these PEM public keys; for tests and for callers that hold the text."""
        return cls(tuple(TrustedKey.read(pem) for pem in public_pems))

    def __contains__(self, keyid: object) -> bool:
        """Whether a key of that id is trusted."""
        return any(key.keyid == keyid for key in self.keys)

    def signer_of(self, signature: bytes, message: bytes) -> TrustedKey | None:
        """The trusted key that made a signature, None when none did."""
        return next((key for key in self.keys if key.verifies(signature, message)), None)


def generate_key() -> tuple[str, str]:
    """Make an EC P-256 key pair: (private PEM in PKCS #8, public PEM)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private, public_of(private)


def load_trusted(path: Path | None = None) -> TrustedKeys:
    """Read the trusted keys.

    Args:
        path: a directory of public keys named `*.pem`; the one that SLIMLINE_TRUSTED_KEYS names if
            not given.

    Raises:
        BadParameters: when there is no such directory, no key in it, or a file that is no EC public
            key.
    """
    source = path or _from_environment()
    if not source.is_dir():
        msg = f"trusted keys: {source} is no directory; give one that holds public keys as *.pem"
        raise BadParameters(msg)
    files = sorted(source.glob("*.pem"))
    if not files:
        msg = f"trusted keys: {source} holds no *.pem file; put the signers' public keys there"
        raise BadParameters(msg)
    return TrustedKeys(tuple(_read_key(file) for file in files))


def load_public(pem: str, name: str = "") -> ec.EllipticCurvePublicKey:
    """Parse a PEM public key on one of the three curves.

    Raises:
        BadParameters: when it is something else; says so when it is a private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    where = name or "public key"
    if "PRIVATE KEY" in pem:
        msg = f"{where} holds a private key where a public one is due: remove it and keep it secret"
        raise BadParameters(msg)
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        msg = f"{where} is no PEM public key: {error}"
        raise BadParameters(msg) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        msg = f"{where} is no EC key on P-256, P-384 or P-521: make one with `openssl ecparam`"
        raise BadParameters(msg)
    return key


def load_private(pem: str) -> ec.EllipticCurvePrivateKey:
    """Parse a PEM private key without a password.

    Raises:
        BadParameters: when it is none; the key's text is never quoted.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    msg = "the signing key is no PEM private EC key (P-256, P-384, P-521) without a password"
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadParameters(msg) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise BadParameters(msg)
    return key


def public_of(private_pem: str) -> str:
    """The public half of a private key, as PEM."""
    return _pem(load_private(private_pem).public_key())


@cache
def keyid_of(public_pem: str, name: str = "") -> str:
    """Hex sha256 of a public key's SubjectPublicKeyInfo in DER; `name` is for the error."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = load_public(public_pem, name)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def sign(private_pem: str, message: bytes) -> bytes:
    """ECDSA signature in DER, deterministic (RFC 6979), so that equal jobs give equal bytes."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = load_private(private_pem)
    return key.sign(message, ec.ECDSA(_hash_of(key), deterministic_signing=True))


def _pem(key: ec.EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _hash_of(key: ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    made: HashAlgorithm = getattr(hashes, _CURVES[key.curve.name])()
    return made


def _from_environment() -> Path:
    if not os.environ.get(VARIABLE):
        msg = f"trusted keys: set {VARIABLE} to a directory that holds public keys as *.pem"
        raise BadParameters(msg)
    return Path(os.environ[VARIABLE])


def _read_key(file: Path) -> TrustedKey:
    try:
        pem = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read as a PEM public key: {error}"
        raise BadParameters(msg) from error
    return TrustedKey.read(pem, str(file))
