"""Servers as processes of this machine, on loopback; see `slimline.deploy.blue_green`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.deploy import blue_green, processes
from slimline.deploy.processes import Process
from slimline.deploy.record import LOOPBACK, Backend, Front

if TYPE_CHECKING:
    from slimline.contract import Package
    from slimline.deploy.asking import Address
    from slimline.deploy.receipt import DeployReceipt
    from slimline.deploy.record import EndpointRecord, Running
    from slimline.deploy.spec import Deploy, Local
    from slimline.trust.manifest import PackageManifest
    from slimline.trust.request import GoldenRequest

_FRONT_SECONDS = 30
_STEP = 0.02


def deploy(job: Deploy, manifest: PackageManifest, golden: GoldenRequest) -> DeployReceipt:
    """Serve a verified package by a process of this machine; see `blue_green.deploy`."""
    return blue_green.deploy(Processes(job.local), job, manifest, golden)


class Processes:
    """A platform of processes; a slot is a directory with a package, a log and a port file."""

    name = "local"
    kind = Process

    def __init__(self, settings: Local) -> None:
        self.settings = settings

    def start_server(self, root: Path, package: Package, version: str) -> Backend:
        """Copy the package into a slot; the server verifies the copy again."""
        slots = root / "slots"
        slots.mkdir(exist_ok=True)
        slot = Path(tempfile.mkdtemp(prefix=f"{package.digest[:12]}-", dir=slots))
        shutil.copytree(package.path, slot / "package")
        python = self.settings.python or sys.executable
        argv = [python, "-P", "-m", "slimline.serving", "--model-dir", str(slot / "package")]
        argv += ["--host", LOOPBACK, "--port", "0", "--port-file", str(slot / "port")]
        process = processes.spawn(argv, slot / "server.log")
        return Backend(
            process=process, port=0, slot=str(slot), digest=package.digest, version=version
        )

    def address(self, backend: Backend) -> Address | None:
        """Its port is in the slot once it is bound."""
        port_file = Path(backend.slot) / "port"
        return (LOOPBACK, int(port_file.read_text())) if port_file.is_file() else None

    def keep(self, backend: Backend) -> None:
        """Nobody starts a process again; the next deployment replaces one that died."""

    def start_front(self, root: Path, port: int) -> Front:
        """See `Platform.start_front`."""
        port_file = root / "front.port"
        port_file.unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", "slimline.deploy.front", str(root)]
        argv += ["--port", str(port), "--port-file", str(port_file)]
        process = processes.spawn(argv, root / "front.log")
        deadline = time.monotonic() + _FRONT_SECONDS
        while not port_file.is_file():
            if not processes.is_alive(process) or time.monotonic() > deadline:
                processes.stop(process)
                msg = f"cannot listen on local.port {port}: see {root / 'front.log'}; give another"
                raise BadParameters(msg)
            time.sleep(_STEP)
        return Front(process=process, port=int(port_file.read_text()))

    def is_alive(self, process: Running) -> bool:
        """Whether it still runs; a zombie does not."""
        return isinstance(process, Process) and processes.is_alive(process)

    def exit_code(self, process: Running) -> int | None:
        """How it ended, for a child of this process."""
        return processes.exit_code(process) if isinstance(process, Process) else None

    def last_words(self, backend: Backend) -> str:
        """The last line of a server's log, which is text or JSON as SLIMLINE_LOG says."""
        file = Path(backend.slot) / "server.log"
        return last_message(file.read_text(errors="replace"))

    def stop(self, process: Running) -> None:
        """SIGTERM, and SIGKILL after a while."""
        if isinstance(process, Process):
            processes.stop(process)

    def remove(self, backend: Backend) -> None:
        """Stop it and remove its directory."""
        self.stop(backend.process)
        shutil.rmtree(backend.slot, ignore_errors=True)

    def sweep(self, root: Path, record: EndpointRecord) -> None:
        """Remove slots that no server has."""
        known = {backend.slot for backend in record.backends}
        for slot in (root / "slots").glob("*"):
            if str(slot) not in known:
                shutil.rmtree(slot, ignore_errors=True)


def last_message(text: str) -> str:
    """What the last line of a log says."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "it wrote no log"
    try:
        return str(json.loads(lines[-1])["message"])
    except (ValueError, KeyError, TypeError):
        return lines[-1].removeprefix("ERROR").strip()
