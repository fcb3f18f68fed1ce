"""Start the real model server as a process, and ask it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from support import web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 60


@dataclass
class Server:
    """A model server that runs: its process, its address, and the file it logs to."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return self.log.read_text()


def launch(package: Path, keys: Path, directory: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start the server on a free port; it writes `directory/port` and `directory/log`."""
    directory.mkdir(parents=True, exist_ok=True)
    flags = {"port": 0, "port_file": directory / "port", "linger": 0.3, **options}
    argv = [sys.executable, "-m", "slimline.serving", "serve", "--model-dir", str(package)]
    for name, value in flags.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    with (directory / "log").open("wb") as log:
        environment = {**os.environ, "SLIMLINE_TRUSTED_KEYS": str(keys)}
        return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)


@contextmanager
def serving(package: Path, keys: Path, directory: Path, **options: Any) -> Iterator[Server]:
    """Run the server until it is ready, and stop it at the end."""
    process = launch(package, keys, directory, **options)
    try:
        port = wait_for_port(process, directory)
        server = Server(process, port, directory / "log")
        wait_until(lambda: web.get(f"{server.url}/readyz").status_code == 200, process)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def wait_for_port(process: subprocess.Popen[bytes], directory: Path) -> int:
    wait_until((directory / "port").is_file, process)
    return int((directory / "port").read_text())


def wait_until(condition: Any, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for a condition; one that raises a connection error is not met yet."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        if process is not None and process.poll() is not None:
            msg = f"the process ended with {process.returncode}"
            raise AssertionError(msg)
        if time.monotonic() > deadline:
            msg = f"not met within {_START_SECONDS} s"
            raise AssertionError(msg)
        time.sleep(0.02)
