"""Check that the inputs speak of the same bytes, then find or make the model version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from slimline.contract import BadData, Refused, get_logger
from slimline.measure.evaluation import load_evaluation
from slimline.register.registry import Entry, Registry
from slimline.trust.package import load_manifest

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.measure.evaluation import EvaluationRecord
    from slimline.register.spec import Register

log = get_logger(__name__)


class PushReceipt(BaseModel):
    """What is read of push's `receipt.json`."""

    uri: str
    digest: str


def run(job: Register) -> Numbers:
    """Register a package; the version that it has already is used again."""
    pushed, record = _read_receipt(job), load_evaluation(job.evaluation.path)
    manifest = load_manifest(job.package.path)
    _same("receipt", "package digest", pushed.digest, job.package.digest)
    _same("evaluation", "model digest", record.candidate_digest, manifest.model_digest)
    entry = Entry(
        model=job.name,
        source=pushed.uri,
        digest=pushed.digest,
        metrics=_metrics(record),
        tags={
            **job.tags,
            "slimline.package.uri": pushed.uri,
            "slimline.package.digest": pushed.digest,
            "slimline.package.version": manifest.version,
            "slimline.model.digest": manifest.model_digest,
            "slimline.dataset.digest": record.dataset_digest,
        },
    )
    version, created = Registry().register(entry, job.aliases)
    registration = {
        "name": job.name,
        "version": version,
        "uri": pushed.uri,
        "digest": pushed.digest,
        "aliases": list(job.aliases),
    }
    (job.registration.path / "receipt.json").write_text(json.dumps(registration, indent=1))
    log.info("%s version %s %s", job.name, version, "is new" if created else "was there already")
    return {**registration, "created": created, **entry.metrics}


def _read_receipt(job: Register) -> PushReceipt:
    try:
        return PushReceipt.model_validate_json((job.receipt.path / "receipt.json").read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        msg = f"receipt {job.receipt.digest[:12]} is none of a push: give the one that push wrote"
        raise BadData(msg) from error


def _same(what: str, name: str, found: str, wanted: str) -> None:
    if found != wanted:
        msg = (
            f"{what} is about other bytes: its {name} is {found[:12]}, the package's is "
            f"{wanted[:12]}; give the {what} of this package"
        )
        raise Refused(msg)


def _metrics(record: EvaluationRecord) -> dict[str, float]:
    """The candidate's numbers, and those that set it beside the baseline."""
    candidate, baseline = record.stages[-1], record.stages[0]
    name, found = record.non_inferiority.metric.replace(":", "."), candidate.measured
    return {
        name: found.value,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
        f"{name}_baseline": baseline.measured.value,
        f"{name}_drop_upper_bound": record.non_inferiority.upper_bound,
        "bytes": float(candidate.bytes),
        "latency_ms": candidate.latency_ms.value,
        "memory_mb": candidate.memory_mb,
        "speedup": candidate.speedup,
        "shrink": candidate.shrink,
    }
