"""Servers that several test folders share; each starts once, when the first test asks for it."""

from __future__ import annotations

import pytest
from support.s3 import s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server with a bucket; AWS_* of this process and its children point to it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
