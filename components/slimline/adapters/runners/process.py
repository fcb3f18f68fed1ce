"""Run a job as a child process in a session of its own, that lives on when its worker dies.

How it works: a tiny shell supervises the job. It writes down who it is, starts `python -m slimline
run ...`, and writes the exit code when that ends. So after `kill -9` of the worker the job goes on;
the retry finds the directory of the same identity, reads the log from its start, and takes the
result, be it still to come or there already.

Stopping is the shell's work too: SIGTERM to the session's group lets the job save what it reached;
after the grace the shell ends the group by SIGKILL. That holds even when the worker is killed
while it waits. What still runs in the group when the job has ended is ended as well: a process
that shall stay, such as a model server, starts a session of its own.

What it does not do: attach across machines. A retry on another worker machine starts the job
again; by the contract two equal jobs at once are harmless.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.adapters.runners.job_directory import JobDirectory
from slimline.contract import TryLater
from slimline.contract.job import environment_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from slimline.adapters.runners import Launch

LOST = 137
"""The exit code of a job whose shell was killed, so that nobody wrote one down."""

_POLL_SECONDS = 0.2
_PIECE = 1 << 20
_SHELL = r"""
dir=$1 grace=$2; shift 2
cat "/proc/$$/stat" > "$dir/process.new" && mv "$dir/process.new" "$dir/process"
exec < /dev/null
ended() { echo "$1" > "$dir/exit.$1" && mv "$dir/exit.$1" "$dir/exit"; kill -KILL 0; }
trap '[ -n "$timer" ] || { (trap "" TERM; sleep "$grace"; ended 137) & timer=$!; }' TERM
"$@" >> "$dir/log" 2>&1 &
job=$!
while :; do
    wait "$job"; code=$?
    kill -0 "$job" 2> /dev/null || break
done
ended "$code"
"""


class ProcessRunner:
    """Starts child processes; see the module."""

    def __init__(self, work: Path | None = None, *, grace: float = 8.0) -> None:
        """Keep job directories under `work`; give a stopped job `grace` seconds to save."""
        self.work = (work or work_directory()).absolute()
        self.grace = grace

    def image_digest(self, image: str) -> str:
        """The digest of the environment of the Python that stands for an image."""
        python = python_for(image)
        return environment_digest() if python == sys.executable else _digest_of(python)

    def work_path(self, identity: str) -> str:
        """Where the job stages its inputs and outputs: in its directory."""
        return str(self.directory(identity).work)

    def directory(self, identity: str) -> JobDirectory:
        """The directory of a job."""
        return JobDirectory(self.work / identity)

    def start(self, launch: Launch) -> ProcessHandle:
        """Start the job, or attach to the equal one.

        Raises:
            TryLater: when the job directory cannot be written.
        """
        directory = self.directory(launch.identity)
        with _locked(directory) as lock:
            fetchable = directory.exit_code == 0 and directory.claim == launch.claim
            if directory.alive or fetchable:
                return ProcessHandle(directory, self.grace, attached=True)
            directory.clear()
            (directory.path / "claim").write_text(launch.claim)
            child = self._spawn(launch, directory, lock)
            while directory.process is None and child.poll() is None:
                time.sleep(0.005)
        return ProcessHandle(directory, self.grace, attached=False, child=child)

    def _spawn(
        self, launch: Launch, directory: JobDirectory, lock: IO[str]
    ) -> subprocess.Popen[bytes]:
        job = [python_for(launch.image), "-m", "slimline", "run", *launch.arguments]
        return subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "slimline", str(directory.path), str(self.grace), *job],
            env=dict(launch.environment),
            stdin=lock,  # held until the shell has written itself down, even if we die now
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@dataclass(frozen=True)
class ProcessHandle:
    """A job that was started or attached to."""

    directory: JobDirectory
    grace: float
    attached: bool
    child: subprocess.Popen[bytes] | None = None

    def wait(self, log: Callable[[str], None]) -> int:
        """Hand on the log, from its start, until the job ends; returns its exit code.

        A directory that is gone belonged to a job that was done and fetched by another task.
        """
        lines = _Lines(self.directory.log)
        while True:
            running = self.directory.alive
            while found := lines.new(whole=running):
                for line in found:
                    log(line)
            if not running:
                return self._result()
            self._reap()
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the job's group: SIGTERM, and SIGKILL after the grace."""
        process = self.directory.process
        if process is None or not self.directory.alive:
            return
        process.signal_group(signal.SIGTERM)
        deadline = time.monotonic() + self.grace + 1
        while self.directory.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        process.signal_group(signal.SIGKILL)
        self._reap()

    def discard(self) -> None:
        """Remove the job's directory."""
        self._reap()
        self.directory.remove()

    def _result(self) -> int:
        self._reap()
        if not self.directory.path.exists():
            return 0
        code = self.directory.exit_code
        return LOST if code is None else code

    def _reap(self) -> None:
        if self.child is not None:
            self.child.poll()


class _Lines:
    """Reads a growing file line by line, a piece at a time: a log may be larger than memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.rest = path, 0, b""

    def new(self, *, whole: bool) -> list[str]:
        """Some of the lines that came since the last call, [] when there are no more.

        An unfinished line is given only if not `whole`, or when it is as long as a piece.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(_PIECE)
        except FileNotFoundError:
            return []
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        if self.rest and ((not whole and not data) or len(self.rest) >= _PIECE):
            lines, self.rest = [*lines, self.rest], b""
        if data and not lines:
            return self.new(whole=whole)
        return [line.decode(errors="replace").rstrip("\r") for line in lines]


def work_directory() -> Path:
    """Where job directories lie: `SLIMLINE_WORK`, or a folder of the user's cache."""
    given = os.environ.get("SLIMLINE_WORK")
    return Path(given) if given else Path.home() / ".cache" / "slimline" / "work"


def python_for(image: str) -> str:
    """The Python that stands for an image: `SLIMLINE_PYTHON_<IMAGE>`, or the one that runs now."""
    return os.environ.get(f"SLIMLINE_PYTHON_{image.upper()}") or sys.executable


@cache
def _digest_of(python: str) -> str:
    code = "from slimline.contract.job import environment_digest as d; print(d())"
    try:
        done = subprocess.run(
            [python, "-c", code], check=True, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        msg = (
            f"python {python} cannot read slimline's environment ({error}); install slimline there"
        )
        raise TryLater(msg) from error
    return done.stdout.strip()


@contextmanager
def _locked(directory: JobDirectory) -> Iterator[IO[str]]:
    """Hold a job directory's lock; it is let go when every copy of the open file is closed."""
    while True:
        try:
            directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (directory.path / "lock").open("w")
        except OSError as error:
            msg = f"cannot write {directory.path}: {error.strerror}; set SLIMLINE_WORK elsewhere"
            raise TryLater(msg) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_there(lock):
                yield lock
                return


def _is_there(lock: IO[str]) -> bool:
    """False when the directory was removed while we waited for its lock."""
    return os.fstat(lock.fileno()).st_nlink > 0
