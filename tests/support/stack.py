"""The demo's whole stack for a test module, with a tiny recipe, and somebody who looks on."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from slimline.embedded.demo.stack import start_stack, stop_stack
from slimline.embedded.demo.story import Story
from slimline.embedded.process import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slimline.embedded.demo.stack import Runner, Stack

DEVICES = 3
DAGS = Path(__file__).parents[2] / "dags"
RECIPE = """
name: digits
description: Reads one handwritten digit.
owner: tests
data:
  source: {kind: sklearn, name: digits}
  test_fraction: 0.3
  selection_fraction: 0.1
model:
  factory:
    call: slimline.models.zoo:small_cnn
    arguments: {classes: 10, channels: 1, widths: [8, 16]}
train: {epochs: 100, batch_size: 256}
passes:
  - quantize: {scheme: int8-static}
validate: {latency_rounds: 20}
gates: {margin: 0.2, min_accuracy: 0.5}
targets:
  - {kind: endpoint, name: digits}
  - {kind: fleet, group: lab}
watch: {seconds: 2, poll_seconds: 1}
"""


@dataclass(frozen=True)
class System:
    """What runs, the story to tell on it, and who looks on."""

    stack: Stack
    story: Story
    lookout: Lookout


@contextmanager
def small_stack(root: Path, runner: Runner = "process") -> Iterator[System]:
    """Run everything under `root`; afterwards no process and no variable of it is left."""
    state_dir, dags = root / "state", root / "dags"
    dags.mkdir()
    for file in DAGS.glob("*.py"):
        shutil.copy(file, dags)
    (dags / "recipes").mkdir()
    (dags / "recipes" / "digits.yaml").write_text(RECIPE)
    before, lookout = dict(os.environ), Lookout(state_dir)
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.1f} s] {text}")  # noqa: T201 - pytest shows it

    try:
        stack = start_stack(state_dir, dags, say, devices=DEVICES, runner=runner)
        lookout.start()
        yield System(stack, Story(stack, say, by_hand=False), lookout)
    finally:
        lookout.end()
        stop_stack(state_dir)
        os.environ.clear()
        os.environ.update(before)
    assert left(state_dir, lookout.seen) == []


def left(state_dir: Path, seen: set[psutil.Process]) -> list[str]:
    """The processes that were seen and live, and what else comes from that directory."""
    return [command_line(p) for p in {*seen, *family(state_dir)} if _lives(p)]


def family(state_dir: Path) -> set[psutil.Process]:
    """All processes that come from what was started there.

    A process that wrote a title over its environment is known by its parent.
    """
    own = psutil.Process()
    parents = {p: _parent(p) for p in psutil.process_iter() if p != own}
    found = {p for p in parents if _is_marked(p, state_dir)}
    more = found
    while more:
        pids = {p.pid for p in more}
        more = {p for p, parent in parents.items() if parent in pids} - found
        found |= more
    return found


def worker_of(state_dir: Path, task_instance: str) -> psutil.Process:
    """The process of Airflow's executor that supervises a task instance."""
    title = f"LocalExecutor: {task_instance}"
    (found,) = [p for p in family(state_dir) if title in command_line(p)]
    return found


def command_line(process: psutil.Process) -> str:
    """The words of a process; "" when it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class Lookout(threading.Thread):
    """Notes processes, their command lines, and what job directories hold, while things run."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(daemon=True)
        self.state_dir = state_dir
        self.seen: set[psutil.Process] = set()
        self.command_lines: set[str] = set()
        self.job_files: dict[str, bytes] = {}
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self._stop_now.wait(0.5):
            found = family(self.state_dir)
            self.seen |= found
            self.command_lines |= {command_line(process) for process in found}
            self.job_files |= dict(_contents(self.state_dir / "work"))

    def end(self) -> None:
        """Look no longer."""
        self._stop_now.set()
        if self.is_alive():
            self.join()


def _is_marked(process: psutil.Process, state_dir: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(state_dir)
    except (psutil.Error, OSError):
        return False


def _lives(process: psutil.Process) -> bool:
    """False for a zombie, which waits for nothing but its parent."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for place, _, names in os.walk(folder):  # which passes over what is removed meanwhile
        for path in (Path(place, name) for name in names):
            with suppress(OSError):
                yield str(path), path.read_bytes()
