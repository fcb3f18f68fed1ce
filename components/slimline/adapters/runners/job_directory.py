"""The directory of one child process: everything a worker that comes later needs to know.

lock      held while a process is started, so that two workers start one
claim     who asked for it
process   the supervising shell's own line of /proc/<pid>/stat: pid and start time
log       stdout and stderr of the job
exit      the exit code, written by the shell when the job has ended
work/     where the job stages its inputs and outputs
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal

_START_TIME = 19
"""Index of field 22 of /proc/<pid>/stat, counted after the command's closing bracket."""


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: str

    @classmethod
    def from_stat(cls, line: str) -> Process | None:
        """Read a line of /proc/<pid>/stat; None for a zombie or half a line."""
        number, _, rest = line.partition(" ")
        fields = rest.rpartition(")")[2].split()
        if len(fields) <= _START_TIME or fields[0] in ("Z", "X"):
            return None
        return cls(int(number), fields[_START_TIME])

    @property
    def alive(self) -> bool:
        """True while exactly this process runs."""
        return Process.from_stat(_read(Path(f"/proc/{self.pid}/stat"))) == self

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all it started, if it is alive."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


@dataclass(frozen=True)
class JobDirectory:
    """One job's directory; it reads and clears, starting is the runner's."""

    path: Path

    @property
    def process(self) -> Process | None:
        """The supervising shell; None before it has written itself down."""
        return Process.from_stat(_read(self.path / "process"))

    @property
    def alive(self) -> bool:
        """True while the job runs."""
        process = self.process
        return self.exit_code is None and process is not None and process.alive

    @property
    def exit_code(self) -> int | None:
        """The job's exit code, None while it runs or when its shell was killed."""
        text = _read(self.path / "exit").strip()
        return int(text) if text else None

    @property
    def claim(self) -> str:
        """Who asked for the job."""
        return _read(self.path / "claim")

    @property
    def log(self) -> Path:
        """The file that takes stdout and stderr."""
        return self.path / "log"

    @property
    def work(self) -> Path:
        """Where the job stages its inputs and outputs."""
        return self.path / "work"

    def clear(self) -> None:
        """Remove what an earlier try left; the lock stays, it may be held."""
        for name in ("exit", "process", "claim", "log"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path, ignore_errors=True)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
