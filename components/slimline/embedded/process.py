"""Start a server as a child in its own session, wait until it answers, stop it for sure.

    with start(launch, state_dir) as server:
        ...

Each server has a log `<name>.log` and, while it lives, a file `<name>.pid` in the state directory.
So `stop_all(state_dir)` ends everything from another process, also after the one that started it
was killed. A pid counts as ours only while its start time is the one that was noted.

A server ends with every process of its session. What left the session (a job that survives its
worker on purpose) is found by the variable `SLIMLINE_STATE_DIR`, which all descendants inherit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from slimline.contract.errors import BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Ready = Callable[[Path], str]
    """Given the server's log: its address once it answers, "" before."""

MARK = "SLIMLINE_STATE_DIR"
_TAIL_LINES = 30
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Launch:
    """A server to start: its name, command, environment, and how to see that it answers."""

    name: str
    argv: tuple[str, ...]
    ready: Ready
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to this process's environment; may hold secrets."""
    patience_seconds: float = 60


@dataclass(frozen=True)
class Server:
    """A server that was started."""

    name: str
    pid: int
    url: str
    log: Path

    def stop(self) -> None:
        """End it and all of its session; nothing happens when it is gone."""
        _stop_noted(self.log.with_suffix(".pid"))

    def __enter__(self) -> Self:
        """Use it as a context manager: it is stopped at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, whatever happened."""
        self.stop()


def start(launch: Launch, state_dir: Path) -> Server:
    """Start a server and wait until it answers.

    Raises:
        BadParameters: when one of that name runs already under `state_dir`.
        TryLater: when it ended or did not answer in time; tells the end of its log.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    note = state_dir / f"{launch.name}.pid"
    if _noted(note):
        msg = f"{launch.name} runs already under {state_dir}: stop it first (make stop)"
        raise BadParameters(msg)
    log = note.with_suffix(".log")
    with log.open("wb") as out:
        child = subprocess.Popen(
            launch.argv,
            env={**os.environ, **launch.environment, MARK: str(state_dir.resolve())},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    note.write_text(json.dumps({"pid": child.pid, "started": _start_time(child.pid)}))
    try:
        url = _wait(launch, child, log)
    except BaseException:
        _stop_noted(note)
        raise
    return Server(launch.name, child.pid, url, log)


def stop_all(state_dir: Path) -> tuple[str, ...]:
    """End every server that was started under `state_dir`, and all that came from them.

    Returns:
        The names of the servers that were running.
    """
    stopped = tuple(n.stem for n in sorted(state_dir.glob("*.pid")) if _stop_noted(n))
    _end(lambda: _marked(state_dir.resolve()))
    return stopped


def says(prefix: str) -> Ready:
    """Ready when the log has a line that begins with `prefix`; the rest of it is the address."""

    def look(log: Path) -> str:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith(prefix):
                return line.removeprefix(prefix).strip()
        return ""

    return look


def answers(url: str, path: str = "/") -> Ready:
    """Ready when a GET of `url + path` has a status below 400."""

    def look(_log: Path) -> str:
        with suppress(httpx.TransportError):
            if not httpx.get(url + path, timeout=5, trust_env=False).is_error:
                return url
        return ""

    return look


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _wait(launch: Launch, child: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + launch.patience_seconds
    while time.monotonic() < deadline:
        ended = child.poll()
        if ended is not None:
            msg = f"{launch.name} ended with status {ended} before it answered:\n{tail(log)}"
            raise TryLater(msg)
        url = launch.ready(log)
        if url:
            return url
        time.sleep(0.1)
    msg = f"{launch.name} did not answer within {launch.patience_seconds:g} s:\n{tail(log)}"
    raise TryLater(msg)


def _noted(note: Path) -> int:
    """The pid in a pid file while that very process lives, or what is left of its session; or 0."""
    try:
        noted = json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return 0
    pid = int(noted["pid"])
    started = _start_time(pid)
    if started not in (0, noted["started"]):
        return 0
    return pid if list(_session(pid)) else 0


def _stop_noted(note: Path) -> bool:
    pid = _noted(note)
    if pid:
        _end(lambda: _session(pid))
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    note.unlink(missing_ok=True)
    return bool(pid)


def _end(living: Callable[[], Iterable[int]]) -> None:
    """SIGTERM to all, again to those that come up meanwhile; SIGKILL after a while."""
    deadline = time.monotonic() + _GRACE_SECONDS
    told: set[int] = set()
    while pids := set(living()):
        late = time.monotonic() > deadline
        for pid in pids if late else pids - told:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        told |= pids
        time.sleep(0.05)


def _session(leader: int) -> Iterator[int]:
    for pid in _pids():
        stat = _stat(pid)
        if stat and int(stat[3]) == leader and stat[0] != "Z":
            yield pid


def _marked(state_dir: Path) -> Iterator[int]:
    mark = f"{MARK}={state_dir}".encode()
    for pid in _pids():
        with suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if mark in variables and pid != os.getpid():
                yield pid


def _pids() -> Iterator[int]:
    return (int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal())


def _start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it is gone."""
    stat = _stat(pid)
    return int(stat[19]) if stat else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
