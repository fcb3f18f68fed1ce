"""A verdict: a signed yes or no about exact bytes, with the numbers it was judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from slimline.contract import Refused
from slimline.trust.dsse import check_form, sign_statement, statement, verify_statement

if TYPE_CHECKING:
    from slimline.trust.keys import TrustedKeys

PREDICATE_TYPE = "https://slimline.dev/verdict/v1"
FILE = "verdict.dsse.json"


class VerdictRecord(BaseModel):
    """The predicate of a verdict.

    It holds no time: equal evaluations judged by equal thresholds give equal bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    passed: bool
    reasons: tuple[str, ...]
    """Why it did not pass: what, number and threshold, a sentence each; empty when it passed."""
    thresholds: dict[str, float | int | None]
    numbers: dict[str, Any]
    dataset_digest: str
    image_digest: str = ""


def sign_verdict(record: VerdictRecord, model_digest: str, private_pem: str) -> bytes:
    """Bind a verdict to the digest of a `Model` artifact and sign it."""
    return sign_statement(
        statement({"model": model_digest}, PREDICATE_TYPE, record.model_dump(mode="json")),
        private_pem,
    )


def read_verdict(envelope: bytes, model_digest: str, trusted: TrustedKeys) -> VerdictRecord:
    """Read a verdict about a model, whether it says yes or no.

    Raises:
        Refused: when it is malformed, not signed by a trusted key, changed, or about other bytes.
    """
    found = verify_statement(envelope, trusted, "verdict")
    if found["predicateType"] != PREDICATE_TYPE:
        msg = f"verdict is malformed: it is a statement of type {found['predicateType']!r:.80}"
        raise Refused(msg)
    record = check_form(VerdictRecord, found["predicate"], "verdict")
    digests = [subject["digest"].get("sha256") for subject in found["subject"]]
    if digests != [model_digest]:
        msg = (
            f"verdict is for other bytes: it judged {str(digests[0])[:12]}, "
            f"the model here is {model_digest[:12]}"
        )
        raise Refused(msg)
    return record


def require_passed(envelope: bytes, model_digest: str, trusted: TrustedKeys) -> VerdictRecord:
    """Read a verdict that must say yes.

    Raises:
        Refused: as `read_verdict`, and when it says no, with its reasons.
    """
    record = read_verdict(envelope, model_digest, trusted)
    if not record.passed or record.reasons:
        reasons = "; ".join(record.reasons) or "no reason is given"
        msg = f"verdict says no: {reasons}"
        raise Refused(msg)
    return record
