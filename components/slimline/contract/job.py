"""Do a job: stage its inputs, call its work, keep its outputs, write the manifest last."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.contract.artifact import Artifact, digest_json
from slimline.contract.cache import commit, decide, remember
from slimline.contract.code import code_digest
from slimline.contract.disk import full_disk_told
from slimline.contract.errors import BadData, BadParameters, Killed
from slimline.contract.log import get_logger
from slimline.contract.manifest import Identity, Manifest, Ref
from slimline.contract.store import (
    LocalStore,
    Store,
    artifact_files,
    fetch_artifact,
    save_artifact,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from slimline.contract.component import Component, Numbers

log = get_logger(__name__)
IMAGE_VARIABLE = "SLIMLINE_IMAGE_DIGEST"
"""Names the digest of the image that a job runs in; set by runners that use images."""
_RUNNING: ContextVar[_Running | None] = ContextVar("running", default=None)


@dataclass(frozen=True)
class Outcome:
    """A job's manifest, and its outputs with local paths by field name."""

    manifest: Manifest
    outputs: dict[str, Artifact]

    def __getitem__(self, name: str) -> Artifact:
        """The output of that name."""
        return self.outputs[name]


_OWNER = "job"
"""A file of each checkpoint that names its job."""


@dataclass(frozen=True)
class Checkpoint:
    """A directory that a killed job leaves to its next try, through the store.

    `path` holds what the last try saved; `save()` after writing to it keeps it.
    """

    path: Path
    store: Store
    job: str

    def save(self) -> None:
        """Keep the directory's files as they are now, in place of the last save."""
        before = self._last()
        (self.path / _OWNER).write_text(self.job)  # no output is ever this artifact too
        kept = save_artifact(self.store, Artifact.at(self.path))
        self.store.put(self._pointer, kept.digest.encode())
        if before != kept.digest:
            self._remove(before)

    def restore(self) -> bool:
        """Fill the directory from the last save; False when there is none."""
        digest = self._last()
        if not digest:
            return False
        uri = f"{self.store.uri}/artifacts/{digest}"
        try:
            fetch_artifact(Artifact(uri=uri, digest=digest), self.path)
        except BadData as error:
            log.warning("the checkpoint cannot be used, starting over: %s", error)
            shutil.rmtree(self.path)
            self.path.mkdir()
            return False
        return True

    def discard(self) -> None:
        """Forget the last save; the job is done."""
        digest = self._last()
        self.store.delete(self._pointer)
        self._remove(digest)

    @property
    def _pointer(self) -> str:
        return f"jobs/{self.job}/checkpoint"

    def _last(self) -> str:
        """Digest of the last save, "" when there is none."""
        if self.store.stat(self._pointer) is None:
            return ""
        return self.store.get(self._pointer).decode()

    def _remove(self, digest: str) -> None:
        if not digest or self.store.stat(f"artifacts/{digest}.json") is None:
            return
        try:
            files = artifact_files(self.store, digest)
        except BadData as error:
            log.warning("an old checkpoint is left to the janitor: %s", error)
            return
        for entry in files:
            self.store.delete(f"artifacts/{digest}/{entry.path}")
        self.store.delete(f"artifacts/{digest}.json")


@dataclass(frozen=True)
class _Running:
    """What a job knows of itself while its work goes on."""

    saved: Checkpoint
    image: str
    work_dir: Path


def checkpoint() -> Checkpoint:
    """The checkpoint of the job that runs now; for `run.py` files of long work."""
    return _running("checkpoint()").saved


def run_inside(component: Component) -> Outcome:
    """Reuse or do another component's job from within the work of the job that runs now.

    Store and image are those of the job that runs, and so are identity, checkpoint and manifest
    those that a DAG in this image would give it: both share what was made. The code of what runs
    inside is not in the digest of the outer one's code: that says `Component.outside`.

    Returns:
        The manifest, and the outputs as the store has them; fetch those that you read.

    Raises:
        Killed: on SIGTERM, when the inner job has saved what it reached.
    """
    outer = _running("run_inside()")
    places = (outer.work_dir / f"inside-{number}" for number in count())
    place = next(place for place in places if not place.exists())
    place.mkdir()
    try:
        done = execute(component, outer.saved.store, work_dir=place, image=outer.image)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(done.manifest, stored_outputs(component, done.manifest))


def _running(what: str) -> _Running:
    found = _RUNNING.get()
    if found is None:
        msg = f"{what} is for code that a job runs"
        raise RuntimeError(msg)
    return found


@cache
def environment_digest() -> str:
    """Hex sha256 over Python's version and the (name, version) of every installed distribution."""
    installed = sorted({(d.name, d.version) for d in importlib.metadata.distributions()})
    return digest_json([platform.python_version(), installed])


def identify(component: Component, image: str = "") -> Identity:
    """The identity of a job.

    Args:
        component: the job.
        image: digest of the image that runs it; the digest of this environment if not given.
    """
    inputs = {n: tuple(a.digest for a in v) for n, v in component.input_artifacts().items()}
    outside = {name: (digest,) for name, digest in component.outside().items()}
    return Identity(
        component=component.component_name(),
        code=code_digest(type(component)),
        image=image or environment_digest(),
        parameters=component.parameter_values(),
        inputs=inputs | outside,
    )


def execute(
    component: Component,
    store: Store,
    *,
    work_dir: Path,
    image: str = "",
    lineage: str = "",
    force: bool = False,
) -> Outcome:
    """Reuse what an equal job made, or do the work.

    Args:
        component: the job.
        store: where manifests and artifacts are kept.
        work_dir: where inputs and outputs are staged; it must be empty or not exist.
        image: digest of the image that this process runs in.
        lineage: the step of a recipe that the job answers for.
        force: run even when an equal job is there.
    """
    identity = identify(component, image)
    decision = decide(store, identity, lineage=lineage, cached=component.cached, force=force)
    log.info("%s %s", component.component_name(), decision.reason)
    if decision.manifest is not None:
        remember(store, lineage, identity.digest, decision.reason)
        return Outcome(decision.manifest, stored_outputs(component, decision.manifest))
    if work_dir.is_dir() and any(work_dir.iterdir()):
        msg = f"work directory {work_dir} is not empty: give a new one"
        raise BadParameters(msg)
    with full_disk_told(work_dir):
        outcome = _work(component, store, identity, decision.reason, work_dir)
    remember(store, lineage, identity.digest, decision.reason)
    return outcome


def run_here(component: Component, store: Store | None, work_dir: Path | None) -> Outcome:
    """`Component.run`: do the work now, in temporary places where none are given."""
    root = work_dir or Path(tempfile.mkdtemp(prefix="slimline-"))
    kept = store or LocalStore(root / "store")
    identity = identify(component)
    work = root / identity.digest[:12]
    with full_disk_told(work):
        return _work(component, kept, identity, "ran: called directly", work)


def stored_outputs(component: Component, manifest: Manifest) -> dict[str, Artifact]:
    """The outputs that a manifest names, with their types; they have no local path."""
    kinds = component.outputs()
    return {n: kinds[n].artifact(uri=r.uri, digest=r.digest) for n, r in manifest.outputs.items()}


def _work(
    component: Component, store: Store, identity: Identity, reason: str, work_dir: Path
) -> Outcome:
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    staged = _stage(component, work_dir)
    saved = Checkpoint(_made(work_dir / "checkpoint"), store, identity.digest)
    token = _RUNNING.set(_Running(saved, identity.image, work_dir))
    try:
        with _sigterm_raises():
            numbers = type(component).work()(staged)
    finally:
        _RUNNING.reset(token)
    outputs = {name: save_artifact(store, _output(staged, name)) for name in component.outputs()}
    manifest = Manifest(
        identity=identity,
        outputs={n: Ref(uri=a.uri, digest=a.digest) for n, a in outputs.items()},
        numbers=_finite(component, numbers),
        reason=reason,
        seconds=round(time.monotonic() - clock, 3),
        started=started,
        versions=_versions(),
    )
    counted = commit(store, manifest, cached=component.cached)
    saved.discard()
    return Outcome(counted, outputs)


def _stage(component: Component, work_dir: Path) -> Component:
    placed: dict[str, Any] = {}
    for name, port in component.inputs().items():
        located = tuple(
            fetch_artifact(artifact, _made(work_dir / "inputs" / name / str(i)))
            for i, artifact in enumerate(component.input_artifacts()[name])
        )
        placed[name] = located if port.many else (located[0] if located else None)
    for name, port in component.outputs().items():
        target = _made(work_dir / "outputs" / name)
        placed[name] = port.artifact(uri=target.as_uri(), digest="").located(target)
    return component.model_copy(update=placed)


def _output(staged: Component, name: str) -> Artifact:
    declared: Artifact = getattr(staged, name)
    return type(declared).at(declared.path)


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _finite(component: Component, numbers: Numbers) -> Numbers:
    try:
        kept: Numbers = json.loads(json.dumps(numbers, allow_nan=False))
    except ValueError as error:
        msg = f"{component.component_name()} gave a number that is not finite: {numbers!r}"
        raise BadData(msg) from error
    return kept


def _versions() -> dict[str, str]:
    """What ran, for people to read: identity counts what decides the result."""
    found = {
        "python": platform.python_version(),
        "slimline": importlib.metadata.version("slimline"),
    }
    image = os.environ.get(IMAGE_VARIABLE)
    return {**found, "image": image} if image else found


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into `Killed`, so that work can save what it reached."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_killed(_signal: int, _frame: FrameType | None) -> None:
        msg = f"process {os.getpid()} was told to stop (SIGTERM)"
        raise Killed(msg)

    before = signal.signal(signal.SIGTERM, raise_killed)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
