"""What both stores promise; each test runs on a directory and on a real S3 server."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slimline.contract import BadData, TryLater, sha256_file
from slimline.contract.store import Missing, Stat


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_put_is_got(store):
    assert store.put("jobs/a b/ü%#?.json", b"hello")
    assert store.get("jobs/a b/ü%#?.json") == b"hello"


def test_nothing_under_a_key_is_missing(store):
    store.put("a/b", b"x")
    for key in ("none", "a", "a/b/c"):
        with pytest.raises(Missing, match=f"nothing under .*{key}"):
            store.get(key)
        assert store.stat(key) is None


def test_put_replaces_unless_told_otherwise(store):
    assert store.put("key", b"1", if_absent=True)
    assert not store.put("key", b"2", if_absent=True)
    assert store.get("key") == b"1"
    assert store.put("key", b"3")
    assert store.get("key") == b"3"


def test_racing_writers_leave_one_whole_object_and_at_least_one_knows(store):
    with ThreadPoolExecutor(8) as pool:
        bodies = [bytes([65 + i]) * 1000 for i in range(8)]
        won = list(pool.map(lambda body: store.put("key", body, if_absent=True), bodies))
    winners = [body for body, yes in zip(bodies, won, strict=True) if yes]
    assert store.get("key") in winners
    if store.uri.startswith("file://"):
        assert len(winners) == 1


def test_stat_tells_size_and_sha256(store, tmp_path):
    store.put("small", b"hello")
    assert store.stat("small") == Stat(5, sha(b"hello"))
    source = tmp_path / "source"
    source.write_bytes(b"world!")
    store.upload(source, "uploaded", sha(b"world!"))
    assert store.stat("uploaded") == Stat(6, sha(b"world!"))


def test_a_large_file_comes_back_bit_for_bit(store, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(2**20) * 21 + b"odd")
    digest = sha256_file(source)
    store.upload(source, "large", digest)
    assert store.stat("large") == Stat(21 * 2**20 + 3, digest)
    store.download("large", target, digest)
    assert sha256_file(target) == digest


def test_an_empty_file_is_kept(store, tmp_path):
    (tmp_path / "empty").touch()
    store.upload(tmp_path / "empty", "empty", sha(b""))
    store.download("empty", tmp_path / "back", sha(b""))
    assert (tmp_path / "back").read_bytes() == b""


@pytest.mark.parametrize("size", [100, 9 * 2**20])
def test_a_file_that_is_not_what_was_said_is_not_kept(store, tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(b"x" * size)
    with pytest.raises(BadData, match="changed while it was stored"):
        store.upload(source, "key", sha(b"something else"))
    assert store.stat("key") is None
    assert list(store.keys("")) == []


def test_other_bytes_than_wanted_are_refused_and_leave_no_file(store, tmp_path):
    store.put("key", b"hello")
    with pytest.raises(BadData, match="damaged"):
        store.download("key", tmp_path / "target", sha(b"other"))
    with pytest.raises(Missing):
        store.download("none", tmp_path / "target", sha(b"other"))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []


def test_keys_are_listed_by_prefix(store):
    names = [f"many/{i:04}" for i in range(30)]
    for name in [*names, "other/1"]:
        store.put(name, b"")
    assert sorted(store.keys("many/")) == names
    assert len(list(store.keys(""))) == 31
    assert list(store.keys("nothing")) == []


def test_delete_is_done_once_and_harmless_twice(store):
    store.put("key", b"x")
    store.delete("key")
    store.delete("key")
    assert store.stat("key") is None


@pytest.mark.parametrize(
    "key", ["../out", "a/../../out", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\nb", ""]
)
def test_hostile_keys_are_refused(store, tmp_path, key):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for call in (
        lambda: store.put(key, b"x"),
        lambda: store.get(key),
        lambda: store.stat(key),
        lambda: store.delete(key),
        lambda: store.upload(source, key, sha(b"x")),
        lambda: store.download(key, tmp_path / "target", sha(b"x")),
    ):
        with pytest.raises(BadData, match="refused"):
            call()


def test_a_disk_that_takes_nothing_means_try_later(store):
    store.put("key", b"x" * 100)
    with pytest.raises(TryLater, match="free some space"):
        # /proc takes no new file from anybody, root included.
        store.download("key", Path("/proc/self/target"), sha(b"x" * 100))
