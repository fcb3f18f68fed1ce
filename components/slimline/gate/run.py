"""Judge, then sign what was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import Refused, get_logger, secret
from slimline.gate.judge import judge, numbers_of, read_evaluation
from slimline.trust.verdict import FILE, VerdictRecord, sign_verdict

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.gate.spec import Gate

log = get_logger(__name__)


def run(job: Gate) -> Numbers:
    """Write the signed verdict; a candidate that is refused is a result, not an error."""
    record = _verdict(job)
    signed = sign_verdict(record, job.candidate.digest, secret("signing"))
    (job.verdict.path / FILE).write_bytes(signed)
    for reason in record.reasons:
        log.warning("refused: %s", reason)
    told = {"passed": record.passed, "reasons": list(record.reasons), "metric": job.metric}
    return {**told, **record.numbers}


def _verdict(job: Gate) -> VerdictRecord:
    # A verdict's thresholds are numbers; which metric they are of, the evaluation says.
    thresholds = {k: v for k, v in job.parameter_values().items() if k != "metric"}
    try:
        evaluation = read_evaluation(job.evaluation.path)
    except Refused as error:
        return VerdictRecord(
            passed=False,
            reasons=(str(error),),
            thresholds=thresholds,
            numbers={},
            dataset_digest="",
        )
    reasons = judge(job, job.candidate.digest, evaluation)
    return VerdictRecord(
        passed=not reasons,
        reasons=reasons,
        thresholds=thresholds,
        numbers=numbers_of(evaluation),
        dataset_digest=evaluation.dataset_digest,
    )
