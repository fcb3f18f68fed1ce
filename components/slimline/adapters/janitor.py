"""Removes what nobody needs any more: leftovers of processes, and old results of the cache.

A result is kept while it is young and while it is the last answer of some step. An artifact is
kept while a kept manifest names it, or the caller does, since the registry knows it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from slimline.adapters.runners.job_directory import JobDirectory
from slimline.contract.cache import last_answer, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from slimline.contract import Store
    from slimline.contract.manifest import Manifest


_UNFINISHED = timedelta(days=1)
"""Longer than any upload takes."""


@dataclass(frozen=True)
class Find:
    """Something to remove, and why, as half a sentence."""

    what: str
    reason: str


def sweep_work(work: Path, *, older_than: timedelta, dry_run: bool) -> tuple[Find, ...]:
    """Remove job directories whose process has ended and that were not touched for a while.

    Args:
        work: where the process runner keeps its directories.
        older_than: how long a directory is left for a retry to find.
        dry_run: only tell.
    """
    found = []
    for path in sorted(work.glob("*")) if work.is_dir() else ():
        directory = JobDirectory(path)
        age = timedelta(seconds=time.time() - _touched(path))
        if not path.is_dir() or directory.alive or age < older_than:
            continue
        code = directory.exit_code
        ended = "its process is gone" if code is None else f"ended with exit code {code}"
        found.append(Find(str(path), f"{ended}, {age.days} days ago"))
        if not dry_run:
            directory.remove()
    return tuple(found)


def sweep_store(
    store: Store, *, older_than: timedelta, dry_run: bool, protected: Iterable[str] = ()
) -> tuple[Find, ...]:
    """Remove manifests that are old and no step's last answer, then artifacts no one names.

    What killed writers left unfinished goes too.

    Manifests go first: a job that looks one up meanwhile finds it missing and runs, and never
    finds one whose artifacts are gone. An artifact is only removed when a manifest that went with
    this sweep named it, so the outputs of a job that runs now are safe.

    Args:
        store: what to sweep.
        older_than: how long a result stays in any case.
        dry_run: only tell.
        protected: digests of artifacts that stay in any case.
    """
    now = datetime.now(UTC)
    manifests = _manifests(store)
    last = {a.job for a in (last_answer(store, name) for name in _lineages(store)) if a}
    kept: list[Manifest] = []
    old: list[Manifest] = []
    for manifest in manifests:
        age = now - datetime.fromisoformat(manifest.started)
        (old if age > older_than and manifest.job not in last else kept).append(manifest)
    named = {*protected, *(digest for m in kept for digest in _digests(m))}
    loose = sorted({digest for m in old for digest in _digests(m)} - named)
    found = [
        Find(f"jobs/{m.job}/manifest.json", f"{m.identity.component} of {m.started[:10]}")
        for m in old
    ]
    found += [Find(f"artifacts/{digest}", "no manifest that is kept names it") for digest in loose]
    left = store.leftovers(_UNFINISHED, remove=not dry_run)
    found += [Find(key, "its upload was begun more than a day ago and never ended") for key in left]
    if not dry_run:
        _delete(store, (f"jobs/{m.job}/manifest.json" for m in old))
        for digest in loose:
            _delete(store, [f"artifacts/{digest}.json", *store.keys(f"artifacts/{digest}/")])
    return tuple(found)


def _digests(manifest: Manifest) -> set[str]:
    """Outputs, and inputs: what a kept job was made from can be looked at as long as it."""
    outputs = {ref.digest for ref in manifest.outputs.values()}
    return outputs | {d for digests in manifest.identity.inputs.values() for d in digests}


def _manifests(store: Store) -> list[Manifest]:
    jobs = [k.split("/")[1] for k in store.keys("jobs/") if k.endswith("/manifest.json")]
    return [m for m in (read_manifest(store, job) for job in jobs) if m is not None]


def _lineages(store: Store) -> list[str]:
    return [
        key.removeprefix("latest/").removesuffix(".json")
        for key in store.keys("latest/")
        if key.endswith(".json")
    ]


def _delete(store: Store, keys: Iterable[str]) -> None:
    for key in list(keys):
        store.delete(key)


def _touched(path: Path) -> float:
    return max((p.stat().st_mtime for p in (path, *path.glob("*"))), default=0.0)
