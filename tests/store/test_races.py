"""Writers that race for one key: what each server decides, and what holds on all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from slimline.contract import Model, open_store
from slimline.contract.cache import commit, read_manifest
from slimline.contract.manifest import Identity, Manifest, Ref
from slimline.contract.store import save_artifact

WRITERS = 8
ROUNDS = 25


def race(store, key, work):
    """Let all writers begin at the same moment; what each came back with."""
    start = Barrier(WRITERS)

    def one(number):
        start.wait()
        return work(store, key, number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(one, range(WRITERS)))


def body(number):
    return bytes([65 + number]) * 1000


def put(store, key, number):
    return store.put(key, body(number), if_absent=True)


@pytest.mark.docker
def test_on_a_server_with_atomic_conditional_writes_exactly_one_writer_wins(ceph, monkeypatch):
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(ceph.new_prefix())
    for turn in range(ROUNDS):
        won = race(store, f"key-{turn}", put)
        assert won.count(True) == 1
        assert store.get(f"key-{turn}") == body(won.index(True))


def test_on_any_server_a_winner_is_there_whole_and_who_comes_later_loses(s3_store):
    for turn in range(3):
        won = race(s3_store, f"key-{turn}", put)
        # Swift may tell several that they won; what stays is one of theirs, whole.
        assert s3_store.get(f"key-{turn}") in [body(n) for n in range(WRITERS) if won[n]]
        assert not s3_store.put(f"key-{turn}", b"late", if_absent=True)


def test_equal_jobs_that_end_at_once_are_harmless_on_any_server(s3_store, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    model = save_artifact(s3_store, Model.at(tmp_path / "model"))
    job = Identity(component="prune", code="c" * 64, image="i" * 64, parameters={}, inputs={})
    made = [
        Manifest(
            identity=job,
            outputs={"model": Ref(uri=model.uri, digest=model.digest)},
            numbers={},
            reason="ran: no earlier job is known for this step",
            seconds=float(number),
            started="2026-01-01T00:00:00+00:00",
            versions={},
        )
        for number in range(WRITERS)
    ]
    counted = race(s3_store, "", lambda store, _key, number: commit(store, made[number]))
    assert read_manifest(s3_store, job.digest) in made
    assert all(manifest.outputs == made[0].outputs for manifest in counted)
    # Whoever comes later is given the one that stayed.
    assert commit(s3_store, made[0]) == read_manifest(s3_store, job.digest)
