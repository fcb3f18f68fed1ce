"""Propose: go the search's course through all results so far, up to where some are missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slimline.contract import get_logger
from slimline.search.course import TrialJob, course
from slimline.search.result import load_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from slimline.contract import Numbers
    from slimline.search.propose.spec import Propose
    from slimline.search.result import TrialResult
    from slimline.search.settings import SearchSettings

log = get_logger(__name__)


def run(job: Propose) -> Numbers:
    """Write the next batch; it is empty when the search has ended."""
    baseline = load_result(job.baseline_result.path)
    known = {(r.key, r.epochs): r for r in map(load_result, _paths(job))}
    batch = missing(job.search_settings(), baseline, known)
    trials = [trial.parameters() for trial in batch]
    (job.batch.path / "trials.json").write_text(json.dumps(trials, indent=1))
    log.info("propose: %d results are known, %d trials are next", len(known), len(trials))
    return {"trials": trials, "known": len(known), "ended": not trials}


def missing(
    settings: SearchSettings,
    baseline: TrialResult,
    known: Mapping[tuple[str, tuple[int, ...]], TrialResult],
) -> tuple[TrialJob, ...]:
    """The trials of the first batch that is not wholly known."""
    steps = course(settings, baseline)
    try:
        batch = next(steps)
        while True:
            results = [known.get((job.key, job.epochs)) for job in batch]
            left = [job for job, result in zip(batch, results, strict=True) if result is None]
            if left:
                return tuple(left)
            batch = steps.send(results)
    except StopIteration:
        return ()


def _paths(job: Propose) -> Iterable[Path]:
    return (artifact.path for artifact in job.results)
