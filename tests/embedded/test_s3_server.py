import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError


def test_what_is_put_can_be_got(s3):
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="a b/ü%.txt", Body=b"hello")
    assert client.get_object(Bucket=s3.bucket, Key="a b/ü%.txt")["Body"].read() == b"hello"


def test_a_wrong_secret_is_refused(s3):
    client = boto3.client(
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
    client = boto3.client(
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
