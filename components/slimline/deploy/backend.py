"""Start one model server on this machine, wait until it is ready, ask it, stop it."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadData, Refused, get_logger
from slimline.deploy import processes
from slimline.deploy.record import Backend
from slimline.trust.request import CONTENT_TYPE

if TYPE_CHECKING:
    from slimline.deploy.spec import Local
    from slimline.trust.manifest import PackageManifest
    from slimline.trust.request import GoldenAnswer, GoldenRequest

log = get_logger(__name__)
HOST = "127.0.0.1"
_STEP = 0.05
_ASK_SECONDS = 30
_STOP_SECONDS = 30
_OK = 200


def start(
    root: Path, package: Path, digest: str, manifest: PackageManifest, settings: Local
) -> Backend:
    """Copy a package into a slot of its own and start a server on it; it is not ready yet.

    Args:
        root: directory of the endpoint.
        package: the verified tree; the server verifies its copy again.
        digest: of the package.
        manifest: of the package.
        settings: of the target.
    """
    slots = root / "slots"
    slots.mkdir(exist_ok=True)
    slot = Path(tempfile.mkdtemp(prefix=f"{digest[:12]}-", dir=slots))
    shutil.copytree(package, slot / "package")
    python = settings.python or sys.executable
    argv = [python, "-P", "-m", "slimline.serving", "--model-dir", str(slot / "package")]
    argv += ["--host", HOST, "--port", "0", "--port-file", str(slot / "port")]
    process = processes.spawn(argv, slot / "server.log")
    return Backend(process=process, port=0, slot=str(slot), digest=digest, version=manifest.version)


def wait_until_ready(backend: Backend, seconds: float) -> Backend:
    """Wait for a server; returns it with its port.

    Raises:
        Refused: when it refused its package (exit code 65).
        BadData: when it ended, or was not ready in time; says the last line of its log.
    """
    deadline = time.monotonic() + seconds
    port_file = Path(backend.slot) / "port"
    while time.monotonic() < deadline:
        code = processes.exit_code(backend.process)
        if code is not None or not processes.is_alive(backend.process):
            kind = Refused if code == Refused.exit_code else BadData
            msg = f"the new server ended with {code}: {_last_error(backend)}"
            raise kind(msg)
        if port_file.is_file():
            port = int(port_file.read_text())
            if package_of(port) == backend.digest:
                return backend.model_copy(update={"port": port})
        time.sleep(_STEP)
    msg = f"the new server was not ready within {seconds:g} s (local.start_seconds): " + (
        _last_error(backend)
    )
    raise BadData(msg)


def package_of(port: int) -> str:
    """The digest of the package that serves at a port; "" when none is ready there."""
    try:
        status, body = _ask(port, "GET", "/readyz")
    except (OSError, http.client.HTTPException):
        return ""
    return str(json.loads(body).get("package_digest", "")) if status == _OK else ""


def ask_golden(port: int, golden: GoldenRequest, who: str) -> GoldenAnswer:
    """Send the golden request to a port and check the answer.

    Raises:
        BadData: when there is none, or it is not what the package expects.
    """
    try:
        status, body = _ask(port, "POST", "/invocations", golden.body)
    except (OSError, http.client.HTTPException) as error:
        msg = f"{who} did not answer its golden request: {error}"
        raise BadData(msg) from error
    if status != _OK:
        msg = f"{who} answered its golden request with {status}: {body[:200]!r}"
        raise BadData(msg)
    return golden.check(body, who)


def remove(backend: Backend) -> None:
    """Stop a server, which answers all it was sent first, and remove its slot."""
    processes.stop(backend.process, _STOP_SECONDS)
    shutil.rmtree(backend.slot, ignore_errors=True)


def _ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=_ASK_SECONDS)
    try:
        headers = {"Content-Type": CONTENT_TYPE, "Connection": "close"}
        connection.request(method, path, body=body, headers=headers if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _last_error(backend: Backend) -> str:
    """The last line of a server's log, which is text or JSON as SLIMLINE_LOG says."""
    file = Path(backend.slot) / "server.log"
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    if not lines:
        return "it wrote no log"
    try:
        return str(json.loads(lines[-1])["message"])
    except (ValueError, KeyError, TypeError):
        return lines[-1].removeprefix("ERROR").strip()
