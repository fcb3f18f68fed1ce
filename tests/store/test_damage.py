"""Connections that break, stall, and change bytes, between the store and real servers."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager

import pytest
from support.faulty import Fault, faulty

from slimline.adapters.s3.parts import PART_BYTES
from slimline.contract import BadData, TryLater, sha256_file

MIB = 2**20


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """No pauses between the tries."""
    monkeypatch.setattr("slimline.adapters.s3.bucket.PAUSE_SECONDS", 0)
    pause = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(pause, lambda _self, _context: 0)


@pytest.fixture
def through(server, monkeypatch):
    """Put a proxy with a fault between the store and the server."""

    @contextmanager
    def use(fault, times=1):
        with faulty(server.endpoint, fault, times) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
            yield proxy

    return use


@pytest.fixture
def large(s3_store, tmp_path):
    """A stored file of two parts and a half, and its sha256."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(PART_BYTES * 5 // 2))
    digest = sha256_file(source)
    s3_store.upload(source, "large", digest)
    source.unlink()
    return digest


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_broken_download_goes_on_from_where_it_was(through, s3_store, tmp_path, large, kind):
    with through(Fault(kind, after=3 * MIB), times=3) as proxy:
        s3_store.download("large", tmp_path / "target", large)
    assert proxy.struck == 3
    assert sha256_file(tmp_path / "target") == large
    # From their starts, three breaks would have cost 9 MiB; a piece each is what they may cost.
    # A reset also takes along what the kernel holds and nobody has read yet: that has no bound.
    if kind == "cut":
        assert proxy.answered < PART_BYTES * 5 // 2 + 2 * MIB


def test_a_download_that_stalls_goes_on_over_another_connection(
    through, s3_store, tmp_path, large, monkeypatch
):
    monkeypatch.setattr("slimline.adapters.s3.bucket.TIMEOUT_SECONDS", (5, 0.5))
    with through(Fault("stall", after=3 * MIB)) as proxy:
        s3_store.download("large", tmp_path / "target", large)
    assert proxy.struck == 1
    assert sha256_file(tmp_path / "target") == large


def test_a_connection_that_breaks_amid_the_headers_is_tried_again(through, s3_store, tmp_path):
    s3_store.put("key", b"hello")
    for after in (5, 60, 150, 220):
        with through(Fault("cut", after)) as proxy:
            s3_store.download("key", tmp_path / "target", hashlib.sha256(b"hello").hexdigest())
            assert s3_store.get("key") == b"hello"
        assert proxy.struck == 1


def test_a_server_that_always_breaks_before_the_body_means_try_later(
    through, s3_store, tmp_path, large
):
    always = through(Fault("reset", after=50), times=99)
    with always, pytest.raises(TryLater, match="S3 does not answer"):
        s3_store.download("large", tmp_path / "target", large)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [4 * MIB, PART_BYTES - MIB])
def test_a_byte_that_changed_on_its_way_to_us_is_found(through, s3_store, tmp_path, large, after):
    with through(Fault("flip", after)) as proxy:
        with pytest.raises(BadData, match="the bytes are damaged"):
            s3_store.download("large", tmp_path / "target", large)
        assert list(tmp_path.iterdir()) == []
        s3_store.download("large", tmp_path / "target", large)
    assert proxy.struck == 1


@pytest.mark.parametrize("size", [MIB, PART_BYTES * 3 // 2])
def test_a_byte_that_changed_on_its_way_to_the_server_is_refused_there_and_sent_again(
    through, s3_store, tmp_path, size
):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    digest = sha256_file(source)
    with through(Fault("flip", MIB // 2, "requests")) as proxy:
        s3_store.upload(source, "key", digest)
    assert proxy.struck > 0
    s3_store.download("key", tmp_path / "target", digest)


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_an_upload_whose_connection_breaks_is_sent_again(through, s3_store, tmp_path, kind):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(PART_BYTES * 3 // 2))
    digest = sha256_file(source)
    with through(Fault(kind, MIB, "requests"), times=2) as proxy:
        s3_store.upload(source, "key", digest)
    assert proxy.struck > 0
    s3_store.download("key", tmp_path / "target", digest)


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(
    server, s3_store, tmp_path, large, monkeypatch
):
    from slimline.adapters.s3 import download  # noqa: PLC0415 - the reader's own steps

    first = download._first

    def then_replaced(bucket, key):
        found = first(bucket, key)
        server.client().put_object(Bucket=bucket.name, Key=key, Body=b"x" * (PART_BYTES * 3))
        return found

    monkeypatch.setattr(download, "_first", then_replaced)
    with pytest.raises(TryLater, match="was replaced while it was read"):
        s3_store.download("large", tmp_path / "target", large)
    assert list(tmp_path.iterdir()) == []
