"""The S3 server says no where S3 says no, and keeps to itself."""

from __future__ import annotations

import sys

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from slimline.contract import TryLater
from slimline.embedded.process import Launch, says, start


def test_what_is_put_can_be_got(s3):
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="a b/ü%.txt", Body=b"hello")
    assert client.get_object(Bucket=s3.bucket, Key="a b/ü%.txt")["Body"].read() == b"hello"


def test_a_wrong_secret_is_refused(s3):
    client = boto3.Session().client(
        "s3",
        aws_access_key_id="test:tester",
        aws_secret_access_key="not-the-secret",
        config=Config(s3={"addressing_style": "path"}),
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket=s3.bucket)


def test_a_wrong_checksum_is_refused(s3):
    with pytest.raises(ClientError, match="BadDigest"):
        s3.client().put_object(
            Bucket=s3.bucket, Key="x", Body=b"hello", ChecksumSHA256="A" * 43 + "="
        )


def test_injected_failures_end_after_their_count(s3):
    client = boto3.Session().client(
        "s3", config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    )
    s3.inject_503(2)
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            client.list_objects_v2(Bucket=s3.bucket)
    client.list_objects_v2(Bucket=s3.bucket)


def test_the_secret_is_in_no_file_of_the_server(s3):
    files = [p for p in s3.root.parent.rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if s3.secret.encode() in p.read_bytes()]


@pytest.fixture
def own_server(tmp_path):
    """A way to start a server of one's own, which is not the one of the session."""

    def run(**environment):
        command = (sys.executable, "-m", "slimline.embedded.s3_server", str(tmp_path / "data"), "0")
        return start(Launch("s3", command, says("ready "), environment), tmp_path)

    return run


def client_of(url):
    return boto3.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="me:here",
        aws_secret_access_key="a-good-secret",
        config=Config(s3={"addressing_style": "path"}),
    )


def test_what_was_put_is_there_after_a_restart(own_server):
    credentials = {"AWS_ACCESS_KEY_ID": "me:here", "AWS_SECRET_ACCESS_KEY": "a-good-secret"}
    with own_server(**credentials) as server:
        client_of(server.url).create_bucket(Bucket="kept")
        client_of(server.url).put_object(Bucket="kept", Key="x", Body=b"hello")
    with own_server(**credentials) as server:
        client = client_of(server.url)
        client.put_object(Bucket="kept", Key="y", Body=b"more")
        assert client.get_object(Bucket="kept", Key="x")["Body"].read() == b"hello"
        listed = client.list_objects_v2(Bucket="kept")["Contents"]
        assert [entry["Key"] for entry in listed] == ["x", "y"]


def test_it_listens_on_loopback_alone_and_writes_in_its_directory_alone(own_server, tmp_path):
    credentials = {"AWS_ACCESS_KEY_ID": "me:here", "AWS_SECRET_ACCESS_KEY": "a-good-secret"}
    with own_server(**credentials) as server:
        client_of(server.url).create_bucket(Bucket="kept")
        process = psutil.Process(server.pid)
        listening = [c.laddr.ip for c in process.net_connections("tcp") if c.status == "LISTEN"]
        assert listening == ["127.0.0.1"] * 4
        written = [f.path for f in process.open_files() if f.mode != "r"]
        assert [path for path in written if not path.startswith(str(tmp_path))] == []
    assert {p.name for p in tmp_path.iterdir()} == {"data", "s3.log"}


@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        ("", "a-good-secret", "AWS_ACCESS_KEY_ID"),
        ("AKIA123", "a-good-secret", "account:user"),
        ("me:here", "", "AWS_SECRET_ACCESS_KEY"),
        ("me:here", "with blank and\nnewline", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_credentials_it_cannot_keep_end_it_with_status_64(own_server, key, secret, words):
    with pytest.raises(TryLater, match=rf"status 64 before it answered:\n.*{words}") as told:
        own_server(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    assert "with blank" not in str(told.value)
