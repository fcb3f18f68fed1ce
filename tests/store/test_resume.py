"""Uploads in parts that were killed: the next one goes on with what is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.faulty import Fault, faulty

from slimline.adapters.s3.parts import PART_BYTES
from slimline.contract import BadData, open_store, sha256_file
from slimline.contract.store import Stat

_UPLOAD = """
import sys
from pathlib import Path
from slimline.contract import open_store
open_store(sys.argv[1]).upload(Path(sys.argv[2]), "large", sys.argv[3])
"""


@pytest.fixture
def source(tmp_path):
    """A file of four parts and a bit."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(PART_BYTES * 4 + 1000))
    return path


class Behind:
    """What a server has of uploads in parts, looked at and made behind the store's back."""

    def __init__(self, server, store):
        self.client, self.bucket = server.client(), server.bucket
        self.prefix = store.uri.removeprefix(f"s3://{server.bucket}/") + "/"

    def uploads(self):
        found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        return [u["UploadId"] for u in found.get("Uploads", ())]

    def parts(self, upload):
        at = {"Bucket": self.bucket, "Key": f"{self.prefix}large", "UploadId": upload}
        return self.client.list_parts(**at).get("Parts", ())

    def begin(self, sha256, parts=()):
        at = {"Bucket": self.bucket, "Key": f"{self.prefix}large"}
        upload = self.client.create_multipart_upload(**at, Metadata={"sha256": sha256})["UploadId"]
        for number, data in enumerate(parts, start=1):
            self.client.upload_part(**at, UploadId=upload, PartNumber=number, Body=data)
        return upload


@pytest.fixture
def behind(server, s3_store):
    return Behind(server, s3_store)


@pytest.fixture
def sent(monkeypatch):
    """The numbers of the parts that this process sends."""
    from slimline.adapters.s3 import upload  # noqa: PLC0415 - the sender's own step

    numbers, send = [], upload._send
    monkeypatch.setattr(upload, "_send", lambda *a: numbers.append(a[3].number) or send(*a))
    return numbers


def test_an_upload_that_was_killed_goes_on_from_its_parts(server, s3_store, source, behind, sent):
    source.write_bytes(os.urandom(PART_BYTES * 9))
    digest = sha256_file(source)
    # Each of the child's connections gets one part through and stalls amid the next.
    with faulty(server.endpoint, Fault("stall", PART_BYTES * 3 // 2, "requests"), 99) as proxy:
        environment = {**os.environ, "AWS_ENDPOINT_URL_S3": proxy.endpoint}
        command = [sys.executable, "-c", _UPLOAD, s3_store.uri, str(source), digest]
        child = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            begun = behind.uploads()
            if begun and len(there := behind.parts(begun[0])) >= 2:
                break
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert s3_store.stat("large") is None
    s3_store.upload(source, "large", digest)
    assert set(sent) <= set(range(1, 10)) - {part["PartNumber"] for part in there}
    assert behind.uploads() == []
    s3_store.download("large", source, digest)


def test_a_part_with_other_bytes_is_sent_again(s3_store, source, behind, sent, tmp_path):
    digest, data = sha256_file(source), source.read_bytes()
    first, second = data[:PART_BYTES], data[PART_BYTES : 2 * PART_BYTES]
    behind.begin(digest, [first, second[:-1] + bytes([second[-1] ^ 1])])
    s3_store.upload(source, "large", digest)
    assert sorted(sent) == [2, 3, 4, 5]
    s3_store.download("large", tmp_path / "target", digest)


def test_parts_of_another_size_are_sent_again(s3_store, source, behind, sent, tmp_path):
    digest, data = sha256_file(source), source.read_bytes()
    behind.begin(digest, [data[: 6 * 2**20], data[6 * 2**20 : 12 * 2**20]])
    s3_store.upload(source, "large", digest)
    assert sorted(sent) == [1, 2, 3, 4, 5]
    s3_store.download("large", tmp_path / "target", digest)


def test_an_upload_that_was_begun_for_other_bytes_is_not_believed(
    s3_store, source, behind, tmp_path
):
    digest = sha256_file(source)
    behind.begin("0" * 64, [source.read_bytes()[:PART_BYTES]])
    s3_store.upload(source, "large", digest)
    assert s3_store.stat("large") == Stat(source.stat().st_size, digest)
    s3_store.download("large", tmp_path / "target", digest)
    assert behind.uploads() == []


def test_a_file_that_changed_is_not_kept_and_its_parts_are_cleared(s3_store, source, behind):
    with pytest.raises(BadData, match="changed while it was stored"):
        s3_store.upload(source, "large", "0" * 64)
    assert s3_store.stat("large") is None
    assert behind.uploads() == []


def test_writers_of_the_same_file_may_take_up_the_same_upload(s3_store, source, behind, tmp_path):
    digest = sha256_file(source)
    behind.begin(digest, [source.read_bytes()[:PART_BYTES]])
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(s3_store.upload, source, "large", digest) for _ in range(3)]:
            done.result()
    assert s3_store.stat("large") == Stat(source.stat().st_size, digest)
    s3_store.download("large", tmp_path / "target", digest)


def test_an_upload_of_another_key_is_left_alone(s3_store, source, behind, server, sent):
    digest, data = sha256_file(source), source.read_bytes()
    other = open_store(f"{s3_store.uri}/large")
    beside = Behind(server, other)
    beside.begin(digest, [data[:PART_BYTES]])
    s3_store.upload(source, "large", digest)
    assert sorted(sent) == [1, 2, 3, 4, 5]
    assert len(beside.uploads()) == 1
    assert behind.uploads() == beside.uploads()


@pytest.mark.docker
def test_whoever_may_not_look_for_killed_uploads_sends_all_and_is_told(
    ceph, source, sent, monkeypatch, caplog
):
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    client, bucket = ceph.client(), "uploads-not-listed"
    client.create_bucket(Bucket=bucket)
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:ListBucketMultipartUploads",
        "Resource": f"arn:aws:s3:::{bucket}",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    client.put_bucket_policy(Bucket=bucket, Policy=policy)
    client.create_multipart_upload(Bucket=bucket, Key="p/large")
    digest, store = sha256_file(source), open_store(f"s3://{bucket}/p")
    store.upload(source, "large", digest)
    assert sorted(sent) == [1, 2, 3, 4, 5]
    assert store.stat("large") == Stat(source.stat().st_size, digest)
    assert "allow s3:ListBucketMultipartUploads" in caplog.text
