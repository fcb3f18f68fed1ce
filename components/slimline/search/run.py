"""Search: measure the teacher, follow the course trial by trial, tell the front, choose."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.contract import Artifact, Model, checkpoint, get_logger, load_component, run_inside
from slimline.contract.store import fetch_artifact
from slimline.search.clock import Clock
from slimline.search.course import course, entry_in_words
from slimline.search.front import choose, front_of
from slimline.search.page import write_page
from slimline.search.record import Record, chosen_numbers
from slimline.search.result import load_result
from slimline.search.trial.spec import Trial

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.search.course import Entry, TrialJob
    from slimline.search.result import TrialResult
    from slimline.search.spec import Search

log = get_logger(__name__)


@dataclass(frozen=True)
class _Teacher:
    """The teacher's ONNX, and the result of its own trial."""

    onnx: Model
    reference: Artifact
    result: TrialResult


def run(job: Search) -> Numbers:
    """Search, within the time; what a killed try has done is found in the store.

    Raises:
        Killed: on SIGTERM, when the time that was spent has been kept.
    """
    clock = Clock(checkpoint(), job.minutes)
    try:
        teacher = _teacher(job)
        entries = _follow(job, teacher, clock)
    finally:
        clock.save()
    settings = job.search_settings()
    trained = [e.result for e in entries if e.result is not None and e.result.answers is not None]
    choice = choose(trained, teacher.result, settings, job.prefer)
    record = Record(
        settings=settings,
        baseline=teacher.result,
        entries=entries,
        front=tuple(front_of(trained, settings)),
        choice=choice,
        minutes=round(clock.seconds / 60, 2),
    )
    write_page(record, job.front.path)
    _keep(job, choice.result.onnx, job.chosen.path)
    _keep(job, choice.result.torch, job.chosen_torch.path)
    log.info("search: %s", choice.reason)
    return record.numbers() | {"chosen": chosen_numbers(choice.result, teacher.result, settings)}


def _teacher(job: Search) -> _Teacher:
    """Export the teacher as a recipe does, and measure it: what all trials stand beside."""
    export = load_component("export")
    exported = run_inside(export.parse({"model": job.teacher, "examples": job.selection}))
    onnx = Model.model_validate(exported["exported"].model_dump())
    parameters = {"rounds": job.rounds, "memory": job.max_memory_mb is not None}
    own = run_inside(Trial.parse({**parameters, **_inputs(job, onnx)}))["result"]
    return _Teacher(onnx, own, _result(own))


def _follow(job: Search, teacher: _Teacher, clock: Clock) -> tuple[Entry, ...]:
    """Run the trials of each batch in turn, as long as there is time."""
    steps = course(job.search_settings(), teacher.result)
    before: dict[str, TrialResult] = {}
    with closing(steps):
        batch = next(steps)
        while True:
            results = [_tried(job, teacher, trial, before, clock) for trial in batch]
            before |= {result.key: result for result in results if result is not None}
            try:
                batch = steps.send(results)
            except StopIteration as end:
                entries: tuple[Entry, ...] = end.value
                break
    for entry in entries:
        log.info("search: %s", entry_in_words(entry))
    return entries


def _tried(
    job: Search,
    teacher: _Teacher,
    trial: TrialJob,
    before: dict[str, TrialResult],
    clock: Clock,
) -> TrialResult | None:
    """The result of a trial; None when the time does not allow to begin it."""
    if not clock.has(_expected(trial, before.get(trial.key))):
        return None
    inputs = {**_inputs(job, teacher.onnx), "baseline_result": teacher.reference}
    done = run_inside(Trial.parse({**trial.parameters(), **inputs}))
    clock.save()
    return _result(done["result"])


def _expected(trial: TrialJob, before: TrialResult | None) -> float:
    """Seconds that a further round of training will take, by what the round before took."""
    if before is None or not before.epochs or not trial.epochs:
        return 0.0
    return before.training_seconds * trial.epochs[-1] / before.epochs[-1]


def _inputs(job: Search, onnx: Model) -> dict[str, Any]:
    return {
        "teacher": job.teacher,
        "baseline": onnx,
        "train": job.train,
        "selection": job.selection,
    }


def _result(artifact: Artifact) -> TrialResult:
    with tempfile.TemporaryDirectory(prefix="result-") as place:
        return load_result(fetch_artifact(artifact, Path(place)).path)


def _keep(job: Search, digest: str, target: Path) -> None:
    """Fill an output with a model that a trial left in the store, or with the teacher."""
    stored = Artifact(uri=f"{checkpoint().store.uri}/artifacts/{digest}", digest=digest)
    fetch_artifact(job.teacher if digest == job.teacher.digest else stored, target)
