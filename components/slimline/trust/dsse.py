"""Signed statements: in-toto Statement v1 in a DSSE envelope.

The envelope and its pre-authentication encoding are those of DSSE v1.0
(https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md). A `keyid` is a hint there and
here: a signature counts when a trusted key verifies it, whatever the envelope claims.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slimline.contract import Refused, canonical_json
from slimline.trust.keys import keyid_of, public_of, sign
from slimline.trust.strict import read_object

if TYPE_CHECKING:
    from slimline.trust.keys import TrustedKeys

PAYLOAD_TYPE = "application/vnd.in-toto+json"
M = TypeVar("M", bound=BaseModel)
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_FORM = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Signature(BaseModel):
    model_config = _FORM

    sig: str = Field(max_length=1024)
    keyid: str = Field("", max_length=256)


class Envelope(BaseModel):
    """A DSSE envelope as it is written, every text still in base64."""

    model_config = _FORM

    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: tuple[_Signature, ...] = Field(min_length=1, max_length=16)


class _Subject(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    name: str = ""
    digest: dict[str, str] = Field(min_length=1)


class _Statement(BaseModel):
    model_config = _FORM

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[_Subject, ...] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: dict[str, Any]


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def statement(
    subjects: dict[str, str], predicate_type: str, predicate: dict[str, Any]
) -> dict[str, Any]:
    """An in-toto statement about bytes; `subjects` maps a name to a sha256 in hex."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def sign_statement(statement: dict[str, Any], private_pem: str) -> bytes:
    """Sign an in-toto statement; the same statement and key give the same bytes.

    Returns:
        The DSSE envelope as JSON.
    """
    payload = canonical_json(statement)
    signature = sign(private_pem, pae(PAYLOAD_TYPE, payload))
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {
                    "keyid": keyid_of(public_of(private_pem)),
                    "sig": base64.b64encode(signature).decode(),
                }
            ],
        }
    )


def verify_statement(
    envelope: bytes, trusted: TrustedKeys, what: str = "statement"
) -> dict[str, Any]:
    """Read a signed statement.

    Args:
        envelope: the DSSE envelope as JSON.
        trusted: the keys that may have signed it.
        what: its name, for the error.

    Returns:
        The statement: `_type`, `subject`, `predicateType`, `predicate`.

    Raises:
        Refused: when it is malformed, signed by no trusted key, or was changed after signing.
    """
    return verified_statement(read_object(envelope, what), trusted, what)


def verified_statement(value: dict[str, Any], trusted: TrustedKeys, what: str) -> dict[str, Any]:
    """`verify_statement` for an envelope that is parsed already, such as one in a bundle."""
    found = check_form(Envelope, value, what)
    payload = _unbase64(found.payload, what)
    message = pae(found.payload_type, payload)
    signatures = [_unbase64(s.sig, what) for s in found.signatures]
    if not any(trusted.signer_of(s, message) for s in signatures):
        raise Refused(_why_unverified(found, trusted, what))
    content = read_object(payload, what)
    check_form(_Statement, content, what)
    return content


def check_form(model: type[M], value: Any, what: str) -> M:
    """Validate a parsed JSON value; the error is one sentence that names the first wrong field."""
    try:
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "all of it"
        msg = f"{what} is malformed: {field}: {first['msg']}"
        raise Refused(msg) from error


def _why_unverified(found: Envelope, trusted: TrustedKeys, what: str) -> str:
    claimed = [s.keyid for s in found.signatures]
    if any(keyid in trusted or not keyid for keyid in claimed):
        return f"{what} was changed after it was signed: the signature does not fit its bytes"
    return f"{what} is signed by a key that is not trusted (key {claimed[0][:12]!r})"


def _unbase64(text: str, what: str) -> bytes:
    """Standard or URL-safe base64, as DSSE wants of a verifier, in its one spelling."""
    standard = text.translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(standard, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.b64encode(data).decode() != standard:
        msg = f"{what} is malformed: a text in it is no base64"
        raise Refused(msg)
    return data
