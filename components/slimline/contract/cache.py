"""Decide whether a job has to run, and keep the reason as one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract.errors import BadData
from slimline.contract.manifest import Manifest
from slimline.contract.store import artifact_is_whole

if TYPE_CHECKING:
    from slimline.contract.manifest import Identity
    from slimline.contract.store import Store


@dataclass(frozen=True)
class Decision:
    """Run or reuse, with the reason as one sentence and, on a hit, the manifest."""

    reason: str
    manifest: Manifest | None = None

    @property
    def hit(self) -> bool:
        """True when nothing has to run."""
        return self.manifest is not None


def decide(
    store: Store,
    identity: Identity,
    *,
    lineage: str = "",
    cached: bool = True,
    force: bool = False,
) -> Decision:
    """Look a job up.

    Args:
        store: where manifests and artifacts are.
        identity: the job.
        lineage: the step of a recipe that the job answers for (`digits/quantize`); lets a miss be
            told by comparison with the step's last job.
        cached: False for a component whose effect is outside; it always runs.
        force: run in any case.
    """
    if force:
        return Decision("ran: it was asked for, even if an equal job was done")
    if not cached:
        return Decision("ran: its effect is outside, so it runs each time")
    found = read_manifest(store, identity.digest)
    if found is None:
        return Decision(_why_missed(store, identity, lineage))
    for name, ref in found.outputs.items():
        damage = artifact_is_whole(store, ref.digest)
        if damage:
            return Decision(f"ran: output {name} is damaged ({damage})")
    return Decision(f"reused: job {identity.digest[:12]} made it on {found.started[:19]}", found)


def read_manifest(store: Store, job: str) -> Manifest | None:
    """The manifest of a job, None when there is none that can be read."""
    try:
        manifest = Manifest.model_validate_json(store.get(f"jobs/{job}/manifest.json"))
    except (BadData, ValidationError):
        return None
    return manifest if manifest.job == job else None


def commit(store: Store, manifest: Manifest, *, cached: bool = True) -> Manifest:
    """Write a manifest if none is there; returns the one that counts.

    Two equal jobs may end at once: the first manifest stays. One that cannot be read, or whose
    artifacts are damaged, is replaced; so is that of a component whose effect is outside
    (`cached` False), since what it did last is what counts.
    """
    key = f"jobs/{manifest.job}/manifest.json"
    data = manifest.model_dump_json(indent=1).encode()
    if store.put(key, data, if_absent=cached):
        return manifest
    winner = read_manifest(store, manifest.job)
    if winner and not any(artifact_is_whole(store, r.digest) for r in winner.outputs.values()):
        return winner
    store.put(key, data)
    return manifest


class Answer(BaseModel):
    """Which job answered last for a step of a recipe, and why it ran or was reused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    reason: str


def remember(store: Store, lineage: str, job: str, reason: str = "") -> None:
    """Note which job answered last for a step of a recipe, with the reason of that decision."""
    if lineage:
        answer = Answer(job=job, reason=reason)
        store.put(f"latest/{lineage}.json", answer.model_dump_json().encode())


def last_answer(store: Store, lineage: str) -> Answer | None:
    """The last answer for a step of a recipe; None when there is none that can be read."""
    try:
        return Answer.model_validate_json(store.get(f"latest/{lineage}.json"))
    except (BadData, ValidationError):
        return None


def latest(store: Store, lineage: str) -> Manifest | None:
    """The manifest of the job that answered last for a step of a recipe."""
    answer = last_answer(store, lineage)
    return read_manifest(store, answer.job) if answer else None


def _why_missed(store: Store, identity: Identity, lineage: str) -> str:
    before = latest(store, lineage) if lineage else None
    if before is None:
        return "ran: no earlier job is known for this step"
    difference = identity.difference(before.identity)
    return f"ran: {difference or 'its manifest is gone'}"
