"""The OpenSSF model signature over a tree: made by the library, checked by our own short reader.

The format is OpenSSF Model Signing v1.0: a Sigstore bundle that holds a DSSE envelope, in it an
in-toto statement that lists the sha256 of every file. `model-signing` imports Sigstore and whatever
cloud libraries are there; a device needs a hundred lines of it, so verification is ours and the
tests hold it against the library, both ways (docs/decisions/0005-verify-signatures-ourselves.md).
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slimline.contract import Refused, canonical_json
from slimline.trust.dsse import check_form, verified_statement
from slimline.trust.keys import TrustedKeys
from slimline.trust.strict import read_object

FILE = "signature.json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_WHAT = "signature.json"
_OPEN = ConfigDict(frozen=True, strict=True)
_CLOSED = ConfigDict(frozen=True, strict=True, extra="forbid")


class _Hint(BaseModel):
    model_config = _CLOSED

    hint: str = ""


class _Material(BaseModel):
    model_config = _CLOSED

    public_key: _Hint = Field(alias="publicKey")
    log_entries: tuple[()] = Field((), alias="tlogEntries")


class _Bundle(BaseModel):
    model_config = _CLOSED

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    material: _Material = Field(alias="verificationMaterial")
    envelope: dict[str, Any] = Field(alias="dsseEnvelope")


class _Serialization(BaseModel):
    model_config = _OPEN

    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]
    ignore_paths: tuple[Literal["signature.json"], ...] = ()


class _Resource(BaseModel):
    model_config = _OPEN

    name: str
    algorithm: Literal["sha256"]
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Predicate(BaseModel):
    model_config = _OPEN

    serialization: _Serialization
    resources: tuple[_Resource, ...]


def sign_tree(root: Path, private_pem: str) -> None:
    """Write `signature.json` over every other file of a tree, with the `model-signing` library."""
    from model_signing import hashing, signing

    target = root / FILE
    target.unlink(missing_ok=True)
    files = (
        hashing.Config()  # type: ignore[no-untyped-call] # the library has no annotation there
        .use_file_serialization(hashing_algorithm="sha256")
        .set_ignored_paths(paths=[target], ignore_git_paths=False)
    )
    with tempfile.TemporaryDirectory(prefix="slimline-key-") as private:
        key = Path(private) / "key.pem"
        key.touch(mode=0o600)
        key.write_text(private_pem)
        config = signing.Config()  # type: ignore[no-untyped-call] # as above
        signer = config.set_hashing_config(files)
        signer.use_elliptic_key_signer(private_key=key).sign(root, target)
    bundle = read_object(target.read_bytes(), _WHAT)
    target.write_bytes(canonical_json(bundle))


def signed_files(bundle: bytes, trusted: TrustedKeys) -> dict[str, str]:
    """Verify a bundle and read what it vouches for.

    Args:
        bundle: the bytes of `signature.json`.
        trusted: the keys that may have signed it.

    Returns:
        sha256 in hex by path, of every file that the signer saw.

    Raises:
        Refused: when it is malformed, signed by no trusted key, or was changed after signing.
    """
    found = check_form(_Bundle, read_object(bundle, _WHAT), _WHAT)
    signed = verified_statement(found.envelope, _hinted(found, trusted), _WHAT)
    if signed["predicateType"] != PREDICATE_TYPE:
        msg = f"{_WHAT} is malformed: it is a statement of type {signed['predicateType']!r:.80}"
        raise Refused(msg)
    predicate = check_form(_Predicate, signed["predicate"], _WHAT)
    files = {resource.name: resource.digest for resource in predicate.resources}
    whole = hashlib.sha256(b"".join(bytes.fromhex(r.digest) for r in predicate.resources))
    digests = [subject["digest"].get("sha256") for subject in signed["subject"]]
    if len(files) != len(predicate.resources) or digests != [whole.hexdigest()]:
        msg = f"{_WHAT} is malformed: its list of files is not the one that its subject names"
        raise Refused(msg)
    return files


def _hinted(bundle: _Bundle, trusted: TrustedKeys) -> TrustedKeys:
    """The trusted keys that the bundle says it is signed by: the hint is sha256 over PEM text.

    The library takes a bundle without a hint for one that is older than the hint; so do we.
    """
    hint = bundle.material.public_key.hint
    if not hint:
        return trusted
    named = tuple(k for k in trusted.keys if hashlib.sha256(k.pem.encode()).hexdigest() == hint)
    if not named:
        msg = f"{_WHAT} is signed by a key that is not trusted (key {hint[:12]!r})"
        raise Refused(msg)
    return TrustedKeys(named)
