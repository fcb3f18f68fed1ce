"""Watch a DAG run as it goes: each step's state, its seconds, and the progress it reports."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

from slimline.contract import SlimlineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.embedded.airflow_client import AirflowClient

_ENDED = frozenset({"success", "failed"})
_QUIET = frozenset({None, "none", "scheduled", "queued", "skipped", "removed"})
_PROGRESS = re.compile(r"([\w.:,+ -]+ \[[#.]{30}\] \d+/\d+[^\"\n]*)")
_LOG_LINES = 40


class RunFailed(SlimlineError):
    """A run ended otherwise than the demo needs it to."""


class Follower:
    """Follows runs of one Airflow and tells what happens."""

    def __init__(self, airflow: AirflowClient, say: Callable[[str], None]) -> None:
        self.airflow, self.say = airflow, say
        self._started = time.monotonic()

    def run(
        self,
        dag: str,
        run: str,
        *,
        expect: str = "success",
        limit: float = 600,
        each: Callable[[str, str, list[dict[str, Any]]], None] | None = None,
    ) -> Run:
        """Wait for a run's end, telling each change of a step.

        Args:
            dag: id of the DAG.
            run: id of the run.
            expect: how it has to end; a failure that is expected is told as such.
            limit: seconds until it is given up.
            each: is called at every look with the DAG, the run and its tasks.

        Raises:
            RunFailed: when it ends otherwise; the failing step's log has been shown.
        """
        seen: dict[str, str | None] = {}
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            state = self.airflow.run_state(dag, run)
            tasks = self.airflow.tasks(dag, run)
            self._tell(dag, run, tasks, seen)
            if each is not None:
                each(dag, run, tasks)
            if state in _ENDED:
                return self._ended(Run(dag, run, state, tasks), expect)
            time.sleep(0.7)
        msg = f"{dag} did not end within {limit:.0f} s"
        raise RunFailed(msg)

    def _ended(self, run: Run, expect: str) -> Run:
        if run.state == expect:
            return run
        for task in run.tasks:
            if task["state"] in {"failed", "upstream_failed"}:
                self.show_log(run, task)
                break
        msg = f"{run.dag} ended {run.state}, the demo needs it to end {expect}"
        raise RunFailed(msg)

    def show_log(self, run: Run, task: dict[str, Any]) -> None:
        """Show the end of a step's log."""
        text = self.airflow.log(run.dag, run.run, task["task_id"], max(1, task["try_number"]))
        self.say(f"--- the end of the log of {run.dag}.{task['task_id']}")
        for line in text.splitlines()[-_LOG_LINES:]:
            self.say(f"    {line}")

    def _tell(
        self, dag: str, run: str, tasks: list[dict[str, Any]], seen: dict[str, str | None]
    ) -> None:
        for task in tasks:
            name, state = task["task_id"], task["state"]
            if seen.get(name) != state and state not in _QUIET:
                self._clear()
                took = f" in {task['duration']:.1f} s" if task.get("duration") else ""
                self.say(f"  {name:<20} {state}{took if state in _ENDED else ''}")
            seen[name] = state
        if sys.stderr.isatty():
            self._show_bar(dag, run, tasks)

    def _show_bar(self, dag: str, run: str, tasks: list[dict[str, Any]]) -> None:
        """On a terminal: the last progress that a running step has logged, on one line."""
        running = [t for t in tasks if t["state"] == "running"]
        for task in running[:1]:
            text = self.airflow.log(dag, run, task["task_id"], max(1, task["try_number"]))
            bars = _PROGRESS.findall(text)
            if bars:
                sys.stderr.write(f"\r\x1b[K    {bars[-1].strip():.100}")
                sys.stderr.flush()

    def _clear(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Run:
    """A run that ended, and its steps as Airflow tells them."""

    def __init__(self, dag: str, run: str, state: str, tasks: list[dict[str, Any]]) -> None:
        self.dag, self.run, self.state, self.tasks = dag, run, state, tasks
