"""What goes wrong with S3, and what a person is told then."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import contextmanager
from datetime import timedelta

import boto3
import pytest
from botocore.compat import get_current_datetime
from support.loopback import always_answers

from slimline.contract import BadData, BadParameters, TryLater, open_store, sha256_file
from slimline.contract.store import Missing
from slimline.embedded.ports import free_port


@pytest.fixture
def store(s3_store):
    """Each test that takes it runs on both servers."""
    return s3_store


@pytest.fixture
def swift_store(s3):
    """On the embedded server alone: for what no real server is asked for, or fails on demand."""
    return open_store(s3.new_prefix())


def calls(store, tmp_path):
    """Every request a store can make, by name."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    return {
        "get": lambda: store.get("key"),
        "put": lambda: store.put("key", b"x"),
        "put_if_absent": lambda: store.put("key", b"x", if_absent=True),
        "stat": lambda: store.stat("key"),
        "keys": lambda: list(store.keys("key")),
        "delete": lambda: store.delete("key"),
        "upload": lambda: store.upload(source, "key", digest),
        "download": lambda: store.download("key", tmp_path / "target", digest),
    }


CALLS = ["get", "put", "put_if_absent", "stat", "keys", "delete", "upload", "download"]


@pytest.mark.parametrize("uri", ["s3://", "s3:///prefix", "s3://UPPER/x", "s3://a/x", "s3://a_b_c"])
def test_a_uri_without_a_valid_bucket_is_a_bad_parameter(uri):
    with pytest.raises(BadParameters, match="give s3://bucket/prefix"):
        open_store(uri)


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_secret_is_told_by_name_and_not_shown(store, tmp_path, monkeypatch, call):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-value")
    with pytest.raises(BadParameters, match="AWS_SECRET_ACCESS_KEY") as told:
        calls(store, tmp_path)[call]()
    assert "planted-secret-value" not in str(told.value)


def test_an_unknown_key_id_is_a_bad_parameter(store, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody:there")
    with pytest.raises(BadParameters, match="AWS_ACCESS_KEY_ID"):
        store.get("key")


def test_no_credentials_is_a_bad_parameter(swift_store, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BadParameters, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        swift_store.get("key")


def test_half_of_the_credentials_is_a_bad_parameter(swift_store, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadParameters, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        swift_store.get("key")


EXPIRED = """
import json
print(json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b",
                  "SessionToken": "c", "Expiration": "2020-01-01T00:00:00Z"}))
"""


def test_credentials_that_come_expired_from_their_source_are_told(
    swift_store, tmp_path, monkeypatch
):
    (tmp_path / "source.py").write_text(EXPIRED)
    config = f"[default]\ncredential_process = {sys.executable} {tmp_path}/source.py\n"
    (tmp_path / "config").write_text(config)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(BadParameters, match="have expired, and no new ones came"):
        swift_store.get("key")


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("call", ["get", "put", "stat", "keys", "upload", "download", "delete"])
def test_a_server_refuses_a_wrong_clock_and_this_is_told(store, tmp_path, monkeypatch, call, hours):
    wrong = skewed_clock(timedelta(hours=hours))
    monkeypatch.setattr("botocore.auth.get_current_datetime", wrong)
    monkeypatch.setattr("slimline.adapters.s3.bucket.get_current_datetime", wrong)
    with pytest.raises(BadParameters, match="this machine's clock is wrong: set it"):
        calls(store, tmp_path)[call]()


def skewed_clock(by):
    def now(*args, **options):
        return get_current_datetime(*args, **options) + by

    return now


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("call", ["get", "put", "keys", "upload", "download"])
def test_a_bucket_that_is_not_there_is_a_bad_parameter(tmp_path, call):
    with pytest.raises(BadParameters, match="there is no such bucket"):
        calls(open_store("s3://no-such-bucket-here/x"), tmp_path)[call]()


def test_an_endpoint_that_is_no_address_is_a_bad_parameter(swift_store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(BadParameters, match="AWS_ENDPOINT_URL_S3 is 'nonsense'"):
        swift_store.get("key")


@pytest.fixture
def impatient(monkeypatch):
    """No pauses between the tries."""
    monkeypatch.setattr("slimline.adapters.s3.bucket.PAUSE_SECONDS", 0)
    pause = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(pause, lambda _self, _context: 0)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_down_means_try_later(swift_store, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    for call in calls(swift_store, tmp_path).values():
        with pytest.raises(TryLater, match="S3 does not answer"):
            call()


@contextmanager
def answering(monkeypatch, status, code):
    body = f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
    with always_answers(status, body) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        yield


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((400, "ExpiredToken"), BadParameters, "AWS_SESSION_TOKEN has expired"),
        ((400, "InvalidToken"), BadParameters, "AWS_SESSION_TOKEN is wrong"),
        ((403, "AccessDenied"), BadParameters, "do not allow this"),
        ((403, "RequestTimeTooSkewed"), BadParameters, "clock"),
        ((400, "AuthorizationHeaderMalformed"), BadParameters, "AWS_REGION"),
        ((418, "Teapot"), BadParameters, "told so"),
        ((500, "InternalError"), TryLater, "InternalError"),
        ((503, "SlowDown"), TryLater, "SlowDown"),
        ((507, "InsufficientStorage"), TryLater, "InsufficientStorage"),
        ((404, "NoSuchKey"), Missing, "nothing under"),
    ],
)
def test_each_refusal_has_its_error(swift_store, monkeypatch, answer, error, words):
    with answering(monkeypatch, *answer), pytest.raises(error, match=words):
        swift_store.get("key")


@pytest.mark.parametrize(
    ("status", "code"), [(412, "PreconditionFailed"), (409, "ConcurrentModification")]
)
def test_a_lost_race_is_no_error(swift_store, monkeypatch, status, code):
    with answering(monkeypatch, status, code):
        assert swift_store.put("key", b"x", if_absent=True) is False
        with pytest.raises(BadParameters):
            swift_store.put("key", b"x")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", CALLS)
def test_two_failures_in_a_row_are_absorbed(s3, swift_store, tmp_path, call):
    swift_store.put("key", b"x")
    s3.inject_503(2)
    calls(swift_store, tmp_path)[call]()
    assert (s3.root / "fault").read_text() == "0"


@pytest.mark.usefixtures("impatient")
def test_failures_amid_the_parts_of_a_large_file_are_absorbed(s3, swift_store, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(2**20) * 20)
    s3.inject_503(3)
    swift_store.upload(source, "large", sha256_file(source))
    s3.inject_503(2)
    swift_store.download("large", target, sha256_file(source))
    assert sha256_file(target) == sha256_file(source)


def test_bytes_that_were_swapped_behind_our_back_are_found_on_every_read(server, store, tmp_path):
    store.put("key", b"hello")
    key = f"{store.uri.removeprefix(f's3://{server.bucket}/')}/key"
    kept = server.client().head_object(Bucket=server.bucket, Key=key)["Metadata"]
    server.client().put_object(Bucket=server.bucket, Key=key, Body=b"hullo", Metadata=kept)
    with pytest.raises(BadData, match="damaged"):
        store.get("key")
    with pytest.raises(BadData, match="damaged"):
        store.download("key", tmp_path / "target", kept["sha256"])
    assert list(tmp_path.iterdir()) == []


def begin(store, key):
    """Begin an upload in parts, behind the store's back."""
    bucket, prefix = store.uri.removeprefix("s3://").split("/")
    client = boto3.Session().client("s3")  # the default session keeps the first credentials
    made = client.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{key}")
    return made["UploadId"]


def test_an_upload_in_parts_that_was_never_completed_is_cleared_after_its_time(store):
    begin(store, "artifacts/half/model.onnx")
    assert store.leftovers(timedelta(days=1), remove=True) == ()
    at_once = timedelta(minutes=-1)  # the server tells whole seconds, rounded up
    left = ("artifacts/half/model.onnx",)
    assert store.leftovers(at_once, remove=False) == left
    assert store.leftovers(at_once, remove=True) == left
    assert store.leftovers(at_once, remove=False) == ()
