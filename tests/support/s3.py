"""A real S3 server for a test session."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from slimline.embedded.process import Launch, says, start

if TYPE_CHECKING:
    from pathlib import Path

KEY_ID = "test:tester"
BUCKET = "slimline-tests"


@dataclass(frozen=True)
class S3:
    """A server: where it is, its bucket, and who may use it."""

    endpoint: str
    bucket: str
    key_id: str
    secret: str = field(repr=False)
    _numbers: itertools.count = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process use this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_prefix(self) -> str:
        """The URI of a place in the bucket that nobody used before."""
        return f"s3://{self.bucket}/p{next(self._numbers)}"

    def client(self):
        """A plain boto3 client, for looking behind the store's back."""
        session = boto3.Session(self.key_id, self.secret, region_name="us-east-1")
        path = Config(s3={"addressing_style": "path"})
        return session.client("s3", endpoint_url=self.endpoint, config=path)


@dataclass(frozen=True)
class Swift(S3):
    """The embedded server, which can be made to fail."""

    root: Path = field(kw_only=True)

    def inject_503(self, count: int) -> None:
        """Let the next `count` requests fail with 503 SlowDown; 0 ends it."""
        (self.root / "fault").write_text(str(count))


@contextmanager
def s3_server(root: Path, host: str = "127.0.0.1"):
    """Run the embedded server under `root`, with AWS_* of this process set to it."""
    secret = secrets.token_urlsafe(24)
    environment = S3("", BUCKET, KEY_ID, secret).environment
    command = (sys.executable, "-m", "slimline.embedded.s3_server", str(root / "data"), "0", host)
    launch = Launch("s3", command, says("ready "), environment)
    with start(launch, root) as server:
        found = Swift(server.url, BUCKET, KEY_ID, secret, root=root / "data")
        with variables(found.environment):
            found.client().create_bucket(Bucket=BUCKET)
            yield found


@contextmanager
def variables(values: dict[str, str]):
    """Set variables of the environment, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
