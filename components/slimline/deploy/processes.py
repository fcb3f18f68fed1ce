"""Processes that outlive the task that starts them, told apart by pid and start time.

Linux only: a pid alone may have been given to a stranger; its start time in /proc says whether.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from slimline.contract import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = get_logger(__name__)
_STEP = 0.02
_PASSED_ON = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "SLIMLINE_LOG",
    "SLIMLINE_STATE_DIR",  # by which the demo finds what it has to stop
    "SLIMLINE_TRUSTED_KEYS",
    "TMPDIR",
)


class Process(BaseModel):
    """A process that was started: its pid, and when it started in clock ticks since boot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: int

    def __str__(self) -> str:
        """What a log says of it."""
        return f"process {self.pid}"


def spawn(argv: Sequence[str], log_file: Path) -> Process:
    """Start a process in a session of its own, with its output in a file and no secret.

    Of this environment it sees what a server needs; credentials and secrets are none of it.
    """
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        _environment(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (
                os.POSIX_SPAWN_OPEN,
                1,
                os.fspath(log_file),
                os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                0o640,
            ),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGTERM, signal.SIGINT],
    )
    return Process(pid=pid, started=_started(pid) or 0)


def is_alive(process: Process) -> bool:
    """Whether it still runs; a zombie does not."""
    exit_code(process)
    return _started(process.pid) == process.started


def exit_code(process: Process) -> int | None:
    """How a child of this process ended; None while it runs, and for others' children."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if pid else None


def stop(process: Process, seconds: float = 30) -> None:
    """Ask a process to end (SIGTERM), wait for it, and kill it when it does not."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
        if not is_alive(process):
            return
        if number == signal.SIGKILL:
            log.warning("process %d did not end within %g s: killed", process.pid, seconds)
        os.kill(process.pid, number)
        deadline = time.monotonic() + patience
        while is_alive(process) and time.monotonic() < deadline:
            time.sleep(_STEP)


def _started(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; None when there is no such process or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        k: v for k, v in environ.items() if k in _PASSED_ON or k.startswith("SLIMLINE_SERVING_")
    }
