"""Objects larger than memory: streamed by ranges, hashed in order."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
from support.endless import BLOCK, block, endless

GIB = 2**30
_STREAM = """
from pathlib import Path
from slimline.adapters.s3.bucket import open_bucket
from slimline.adapters.s3.download import receive

seen = 0
def count(piece):
    global seen
    seen += len(piece)

got = receive(open_bucket("any-bucket"), "model.onnx", count)
# Not getrusage: its maximum counts what this process was before exec, a copy of its parent.
status = Path("/proc/self/status").read_text()
print(seen, got.sha256, status.partition("VmHWM:")[2].split()[0])
"""


def stream(endpoint):
    """Read the object in a process of its own: bytes, sha256, and KiB of memory at most."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    command = [sys.executable, "-c", _STREAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seen, sha256, kib = done.stdout.split()
    return int(seen), sha256, int(kib)


def check(size):
    with endless(size) as endpoint:
        seen, sha256, kib = stream(endpoint)
    expected = hashlib.sha256()
    for number in range(size // BLOCK):
        expected.update(block(number))
    assert (seen, sha256) == (size, expected.hexdigest())
    assert kib < 200 * 1024


def test_a_quarter_of_a_gigabyte_is_streamed_in_less_than_200_mb_of_memory():
    check(GIB // 4)


@pytest.mark.system
def test_5_gb_are_streamed_in_less_than_200_mb_of_memory():
    check(5 * GIB)
