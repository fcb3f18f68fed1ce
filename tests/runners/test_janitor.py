from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from slimline.adapters.janitor import sweep_store, sweep_work
from slimline.contract import LocalStore
from slimline.contract.artifact import Artifact
from slimline.contract.cache import commit, read_manifest, remember
from slimline.contract.manifest import Identity, Manifest, Ref
from slimline.contract.store import artifact_is_whole, save_artifact

if TYPE_CHECKING:
    from pathlib import Path

MONTH = timedelta(days=30)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def result(store, tmp_path: Path, words: str, *, days: int, inputs: tuple[str, ...] = ()):
    """A job of so many days ago, with one output."""
    folder = tmp_path / words
    folder.mkdir()
    (folder / "words.txt").write_text(words)
    kept = save_artifact(store, Artifact.at(folder))
    identity = Identity(
        component="talk", code="c", image="i", parameters={"w": words}, inputs={"before": inputs}
    )
    started = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    manifest = Manifest(
        identity=identity,
        outputs={"said": Ref(uri=kept.uri, digest=kept.digest)},
        numbers={},
        reason="ran: test",
        seconds=1.0,
        started=started,
        versions={},
    )
    return commit(store, manifest), kept.digest


def test_an_old_result_goes_with_its_artifact(store, tmp_path):
    manifest, digest = result(store, tmp_path, "old", days=40)
    found = sweep_store(store, older_than=MONTH, dry_run=False)
    assert [f.what for f in found] == [f"jobs/{manifest.job}/manifest.json", f"artifacts/{digest}"]
    assert list(store.keys("")) == []


def test_what_is_young_last_named_or_protected_stays(store, tmp_path):
    young, _ = result(store, tmp_path, "young", days=1)
    last, first_digest = result(store, tmp_path, "last", days=40)
    remember(store, "demo/talk", last.job)
    _, named = result(store, tmp_path, "named", days=40)
    result(store, tmp_path, "takes", days=1, inputs=(named,))
    _, released = result(store, tmp_path, "released", days=40)
    sweep_store(store, older_than=MONTH, dry_run=False, protected=[released])
    assert read_manifest(store, young.job) is not None
    assert read_manifest(store, last.job) is not None
    assert [artifact_is_whole(store, d) for d in (first_digest, named, released)] == ["", "", ""]


def test_an_artifact_that_no_manifest_names_yet_is_left_to_the_job_that_made_it(store, tmp_path):
    folder = tmp_path / "fresh"
    folder.mkdir()
    (folder / "words.txt").write_text("fresh")
    kept = save_artifact(store, Artifact.at(folder))
    sweep_store(store, older_than=timedelta(0), dry_run=False)
    assert artifact_is_whole(store, kept.digest) == ""


def test_a_dry_run_tells_and_removes_nothing(store, tmp_path):
    manifest, digest = result(store, tmp_path, "old", days=40)
    assert len(sweep_store(store, older_than=MONTH, dry_run=True)) == 2
    assert read_manifest(store, manifest.job) is not None
    assert artifact_is_whole(store, digest) == ""


def test_what_a_killed_writer_left_unfinished_goes_after_a_day(store):
    for name, days in (("fresh", 0), ("old", 2)):
        path = store.root / "artifacts" / f".tmp-{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
        then = time.time() - days * 86_400
        os.utime(path, (then, then))
    assert [f.what for f in sweep_store(store, older_than=MONTH, dry_run=True)] == [
        "artifacts/.tmp-old"
    ]
    sweep_store(store, older_than=MONTH, dry_run=False)
    assert [p.name for p in (store.root / "artifacts").iterdir()] == [".tmp-fresh"]


def _job(work: Path, name: str, *, process: str, age_days: float) -> Path:
    path = work / name
    path.mkdir(parents=True)
    (path / "process").write_text(process)
    then = time.time() - age_days * 86_400
    for part in (path / "process", path):
        os.utime(part, (then, then))
    return path


def test_directories_of_dead_processes_go_and_living_or_young_ones_stay(tmp_path):
    with open("/proc/self/stat") as file:  # noqa: PTH123 - this process's own line
        own = file.read()
    dead = own.replace(own.split(" ", 1)[0], "4194303", 1)
    alive = _job(tmp_path, "alive", process=own, age_days=9)
    young = _job(tmp_path, "young", process=dead, age_days=0.1)
    orphan = _job(tmp_path, "orphan", process=dead, age_days=9)
    told = sweep_work(tmp_path, older_than=timedelta(days=2), dry_run=True)
    assert [f.what for f in told] == [str(orphan)]
    assert orphan.exists()
    found = sweep_work(tmp_path, older_than=timedelta(days=2), dry_run=False)
    assert found[0].reason == "its process is gone, 9 days ago"
    assert (alive.exists(), young.exists(), orphan.exists()) == (True, True, False)
    assert sweep_work(tmp_path / "none", older_than=timedelta(days=2), dry_run=False) == ()
