"""A Ceph object gateway in a container: the S3 server that decides racing conditional writes.

Its image is made once, from Debian packages (`rootfs.sh`, about 25 s), and kept by the engine under
a tag that changes with the script. The gateway itself (`gateway.sh`) takes about 15 s to start and
keeps its objects in memory. It is reached at the container's own address: the engine must be local.
"""

from __future__ import annotations

import fcntl
import hashlib
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.s3 import BUCKET, S3

_HERE = Path(__file__).parent
_PORT = 7480
_START_SECONDS = 90
_GIB = 2**30


class Unavailable(Exception):
    """There can be no gateway here; the message says why."""


@contextmanager
def ceph_gateway(memory: int = 2 * _GIB):
    """Run a gateway that may store `memory` bytes; yields an `S3` with a bucket.

    Raises:
        Unavailable: without a Docker engine, or when the image can neither be found nor made.
    """
    image = _image()
    server = {"ACCESS_KEY": "tester", "SECRET_KEY": secrets.token_urlsafe(24)}
    name = f"slimline-rgw-{secrets.token_hex(6)}"
    values = [f"--env={key}={value}" for key, value in {**server, "MEMORY": memory}.items()]
    script = (_HERE / "gateway.sh").read_text()
    options = ("--detach", "--rm", "--init", "--pull=never", "--pids-limit=4096")
    _docker("run", *options, f"--name={name}", *values, image, "/bin/bash", "-c", script)
    try:
        address = _docker("inspect", "--format={{.NetworkSettings.IPAddress}}", name)
        endpoint = f"http://{address}:{_PORT}"
        _wait(name, endpoint)
        found = S3(endpoint, BUCKET, server["ACCESS_KEY"], server["SECRET_KEY"])
        found.client().create_bucket(Bucket=BUCKET)
        yield found
    finally:
        _docker("rm", "--force", "--volumes", name)


def _image() -> str:
    """The image's tag; the image is made when it is not there."""
    script = _HERE / "rootfs.sh"
    tag = f"slimline-test-rgw:{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}"
    if shutil.which("docker") is None:
        raise Unavailable("there is no docker command")
    with (Path(tempfile.gettempdir()) / "slimline-test-rgw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in several processes make it once
        if not _docker("images", "--quiet", tag):
            _make(script, tag)
    return tag


def _make(script: Path, tag: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise Unavailable("making Ceph's image needs mmdebstrap: install it")
    with tempfile.NamedTemporaryFile(suffix=".tar") as tar:
        made = subprocess.run([script], stdout=tar, stderr=subprocess.PIPE, check=False)
        if made.returncode:
            lines = made.stderr.decode(errors="replace").strip().splitlines()
            raise Unavailable("Ceph's image cannot be made: " + " / ".join(lines[-3:]))
        _docker("import", tar.name, tag)


def _docker(*arguments: str) -> str:
    command = [shutil.which("docker") or "docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"docker {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _wait(name: str, endpoint: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(endpoint, timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if not _docker("ps", "--quiet", f"--filter=name={name}"):
            raise RuntimeError("the gateway ended before it answered")
        time.sleep(0.2)
    raise RuntimeError(f"the gateway did not answer:\n{_docker('logs', '--tail=20', name)}")
