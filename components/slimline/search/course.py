"""The course of a search: which trials come next, given what the trials so far have measured.

A generation is proposed; each of its networks is measured untrained; those that surely break a
limit, or that are neither smaller nor faster than the teacher, are never trained. The rest trains
for a few epochs, the promising part goes on to the next round, and in the end the optimiser is told
what became of each. The course is a generator: it gives a batch of trials and takes their results.
So who runs the trials, and whether a result was there before, makes no difference to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from slimline.search.front import promising
from slimline.search.optimiser import Optimiser
from slimline.search.result import violations
from slimline.search.space import chain_in_words, chain_key, is_trained

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from slimline.search.optimiser import Proposal
    from slimline.search.result import TrialResult
    from slimline.search.settings import SearchSettings
    from slimline.search.space import Chain

Status = Literal["pruned", "failed", "stopped", "finished", "out of time"]


@dataclass(frozen=True)
class TrialJob:
    """A trial to run: a chain, trained in these rounds."""

    chain: Chain
    epochs: tuple[int, ...]
    rounds: int
    memory: bool

    @property
    def key(self) -> str:
        """The chain's short name."""
        return chain_key(self.chain)

    def parameters(self) -> dict[str, Any]:
        """Of the component `trial`, as plain JSON values."""
        return {
            "chain": [step.model_dump(mode="json") for step in self.chain],
            "epochs": list(self.epochs),
            "rounds": self.rounds,
            "memory": self.memory,
        }


@dataclass(frozen=True)
class Entry:
    """One proposed network: what was measured of it, and how it ended."""

    number: int
    generation: int
    proposal: Proposal
    status: Status | None = None
    reason: str = ""
    result: TrialResult | None = None

    @property
    def chain(self) -> Chain:
        """The chain that makes it."""
        return self.proposal.chain

    def ended(self, status: Status, reason: str) -> Entry:
        """The same, at its end."""
        return replace(self, status=status, reason=reason)


if TYPE_CHECKING:
    Course = Generator[tuple[TrialJob, ...], Sequence[TrialResult | None], tuple[Entry, ...]]


def course(settings: SearchSettings, baseline: TrialResult) -> Course:
    """Go through a search.

    Args:
        settings: of the search.
        baseline: the result of the teacher's own trial.

    Yields:
        Batches of trials that do not depend on one another. Send a result for each, None for one
        that there was no time for; then no further generation is begun.

    Returns:
        All networks that were proposed, each with its end.
    """
    optimiser = Optimiser(settings)
    entries: tuple[Entry, ...] = ()
    while len(entries) < settings.trials:
        count = min(settings.population, settings.trials - len(entries))
        generation = entries[-1].generation + 1 if entries else 0
        asked = optimiser.ask(count)
        if not asked:
            break
        new = [Entry(len(entries) + i, generation, p) for i, p in enumerate(asked)]
        done = yield from _generation(settings, baseline, tuple(new))
        entries += done
        if any(entry.status == "out of time" for entry in done):
            break
        for entry in done:
            _tell(optimiser, entry, settings)
    return entries


def _generation(
    settings: SearchSettings, baseline: TrialResult, entries: tuple[Entry, ...]
) -> Course:
    """Measure untrained networks, then train the rest in rounds."""
    for reached in range(len(settings.epochs) + 1):
        waiting = [entry for entry in entries if entry.status is None]
        jobs = tuple(_job(settings, entry, reached) for entry in waiting)
        if not jobs:
            break
        results = yield jobs
        taken = {
            entry.number: _taken(entry, result, reached, settings, baseline)
            for entry, result in zip(waiting, results, strict=True)
        }
        entries = tuple(taken.get(entry.number, entry) for entry in entries)
        if 0 < reached < len(settings.epochs):
            entries = _halved(entries, settings, reached)
    return entries


def _job(settings: SearchSettings, entry: Entry, reached: int) -> TrialJob:
    epochs = settings.epochs[:reached]
    memory = settings.max_memory_mb is not None
    return TrialJob(entry.chain, epochs, settings.rounds, memory)


def _taken(
    entry: Entry,
    result: TrialResult | None,
    reached: int,
    settings: SearchSettings,
    baseline: TrialResult,
) -> Entry:
    """The entry after a trial: it goes on, or it ends with a reason in words."""
    if result is None:
        left = f"no time was left to train it for {settings.epochs[reached - 1]} epochs"
        return entry.ended("out of time", left if reached else "no time was left to measure it")
    if result.failed:
        return replace(entry, result=entry.result or result).ended("failed", result.failed)
    entry = replace(entry, result=result)
    why = _hopeless(result, settings, baseline)
    if why:
        return entry.ended("pruned", why)
    if not any(map(is_trained, entry.chain)) and result.answers:
        return entry.ended("finished", "it needs no epochs of the search")
    if reached == len(settings.epochs):
        return entry.ended("finished", f"trained for {settings.epochs[-1]} epochs")
    return entry


def _hopeless(result: TrialResult, settings: SearchSettings, baseline: TrialResult) -> str:
    """Why a network cannot be what is searched for, whatever training does; "" when it can."""
    if not (result.exact or result.answers):
        return ""  # training changes its shape yet: nothing is sure
    broken = violations(result, settings, surely=True)
    if broken:
        return "; ".join(words for words, _ in broken)
    here, before = result.measured, baseline.measured
    if here and before and here.speedup.high < 1 and here.bytes >= before.bytes:
        return "neither faster nor smaller than the teacher"
    return ""


def _halved(
    entries: tuple[Entry, ...], settings: SearchSettings, reached: int
) -> tuple[Entry, ...]:
    """Let the promising part of a generation go on to the next round."""
    waiting = [entry for entry in entries if entry.status is None and entry.result is not None]
    keep = math.ceil(settings.keep * len(waiting))
    points = [entry.result.objectives() for entry in waiting if entry.result is not None]
    by_accuracy = settings.promote == "accuracy"
    order = sorted(range(len(points)), key=points.__getitem__) if by_accuracy else promising(points)
    stopped = {waiting[i].number for i in order[keep:]}
    better = "accurate" if by_accuracy else "promising"
    reason = (
        f"{keep} of {len(waiting)} were more {better} after {settings.epochs[reached - 1]} epochs"
    )
    return tuple(
        entry.ended("stopped", reason) if entry.number in stopped else entry for entry in entries
    )


def _tell(optimiser: Optimiser, entry: Entry, settings: SearchSettings) -> None:
    if entry.result is None or entry.result.measured is None:
        optimiser.forget(entry.proposal)
        return
    broken = violations(entry.result, settings, surely=False)
    # What a network lacks in accuracy is an objective; only what no training mends is a violation.
    violation = sum(excess for _, excess in broken)
    if entry.status == "pruned" and not violation:
        violation = 1.0
    optimiser.tell(entry.proposal, entry.result.objectives(), violation)


def entry_in_words(entry: Entry) -> str:
    """A line for the log."""
    return f"trial {entry.number}: {chain_in_words(entry.chain)}: {entry.status}: {entry.reason}"
