"""The record of what happened on several machines: who ran what, what was killed, what went on."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slimline.contract import open_store
from slimline.contract.cache import read_manifest
from slimline.embedded.process import Launch, start
from support.s3 import variables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slimline.embedded.process import Server
    from support.celery_stack import CeleryStack

_ENDED = frozenset({"success", "failed"})
_ACTIONS = ("start", "die", "pause", "unpause")
_BAD = frozenset({"failed", "upstream_failed"})


@dataclass
class Record:
    """One run of a DAG, told while it goes."""

    stack: CeleryStack
    dag: str
    title: str
    in_containers: bool = False
    run: str = ""
    events: list[dict[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _begin: datetime = field(default_factory=lambda: datetime.now(UTC))
    _watch: Server | None = None

    def begin(self) -> str:
        """Trigger the run."""
        self.stack.airflow.unpause(self.dag)
        self._watch = _watch_engine(self.stack) if self.in_containers else None
        self._begin = datetime.now(UTC)
        self.run = self.stack.airflow.trigger(self.dag)
        self.note(f"run {self.run} of {self.dag} triggered")
        return self.run

    def note(self, text: str) -> None:
        """Something happened now."""
        self.events.append({"at": datetime.now(UTC).isoformat(), "what": text})

    def task(self, name: str) -> dict[str, Any]:
        """A task as Airflow sees it now."""
        return next(task for task in self.tasks() if task["task_id"] == name)

    def tasks(self) -> list[dict[str, Any]]:
        """All tasks as Airflow sees them now."""
        return self.stack.airflow.tasks(self.dag, self.run)

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Wait for what `condition` gives; not longer than the run goes well."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {self._states()}"
            bad = [t for t in self.tasks() if t["state"] in _BAD]
            assert not bad, f"{bad[0]['task_id']}: {self._log(bad[0])}"
            time.sleep(0.3)
        return found

    def wait(self, seconds: float) -> str:
        """Wait for the end of the run; returns its state."""

        def ended() -> str:
            state = self.stack.airflow.run_state(self.dag, self.run)
            return state if state in _ENDED else ""

        state: str = self.until(ended, seconds)
        self.note(f"run ended: {state}")
        return state

    def finish(self) -> dict[str, Any]:
        """Everything that is known of the run."""
        tasks = self.tasks()
        attempts = [a for task in tasks for a in self._attempts(task["task_id"])]
        steps = {t["task_id"]: self._step(t["task_id"]) for t in tasks}
        self.facts |= {
            "title": self.title,
            "dag": self.dag,
            "run": self.run,
            "state": self.stack.airflow.run_state(self.dag, self.run),
            "machines": {m.name: m.address for m in self.stack.network.machines},
            "seconds": round((datetime.now(UTC) - self._begin).total_seconds(), 1),
            "attempts": sorted(attempts, key=lambda a: a["started"]),
            "steps": {name: step for name, step in steps.items() if step},
            "containers": self._containers({s["job"] for s in steps.values() if s}),
            "events": self.events,
        }
        return self.facts

    def _states(self) -> str:
        return ", ".join(f"{task['task_id']} {task['state']}" for task in self.tasks())

    def _log(self, task: dict[str, Any]) -> str:
        log = self.stack.airflow.log(self.dag, self.run, task["task_id"], task["try_number"])
        return log[-3000:]

    def _attempts(self, task: str) -> list[dict[str, Any]]:
        tries = self.stack.tries(self.dag, self.run, task)
        return [
            {
                "task": task,
                "try": attempt["try_number"],
                "worker": self._worker(attempt["hostname"]),
                "state": attempt["state"],
                "started": attempt["start_date"] or "",
                "ended": attempt["end_date"] or "",
            }
            for attempt in tries
            if attempt["hostname"]
        ]

    def _worker(self, address: str) -> str:
        return self.stack.machine_at(address).name

    def _step(self, task: str) -> dict[str, Any]:
        """What a task returned, with what its job's manifest says; {} for a task without a job."""
        value = self.stack.airflow.xcom(self.dag, self.run, task)
        if not isinstance(value, dict) or "job" not in value:
            return {}
        with variables(dict(self.stack.s3)):
            manifest = read_manifest(open_store(self.stack.store), value["job"])
        return {
            "job": value["job"],
            "executed": value["executed"],
            "reason": value["reason"],
            "numbers": value["numbers"],
            "started": manifest.started,
            "seconds": round(manifest.seconds, 1),
        }

    def _containers(self, jobs: set[str]) -> list[dict[str, str]]:
        """What the engine did with the containers of these jobs, in order."""
        if self._watch is None:
            return []
        self._watch.stop()
        found = []
        for event in map(json.loads, self._watch.log.read_text().splitlines()):
            about = event["Actor"]["Attributes"]
            if about["dev.slimline.identity"] in jobs:
                moment = datetime.fromtimestamp(event["timeNano"] / 1e9, UTC)
                found.append(
                    {
                        "at": moment.isoformat(),
                        "action": event["Action"],
                        "container": about["name"],
                        "component": about["dev.slimline.component"],
                        "job": about["dev.slimline.identity"],
                    }
                )
        return found


def _watch_engine(stack: CeleryStack) -> Server:
    """Write down what the engine does from now on: it remembers the last 256 events alone."""
    actions = [f"--filter=event={action}" for action in _ACTIONS]
    about = ("--filter=type=container", "--filter=label=dev.slimline.identity")
    argv = (shutil.which("docker") or "docker", "events", *about, *actions, "--format={{json .}}")
    return start(Launch("engine", argv, lambda _log: "watched"), stack.state_dir)


def docker(*arguments: str) -> str:
    """What the engine's command line says, errors too; "" where there is none."""
    program = shutil.which("docker")
    if program is None:
        return ""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([program, *arguments], text=True, check=False, **both)
    return done.stdout.strip()


def write(path: Path, facts: dict[str, Any]) -> str:
    """Write `<path>.json` and `<path>.txt`; returns the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1))
    text = told(facts)
    path.with_suffix(".txt").write_text(text)
    return text


def told(facts: dict[str, Any]) -> str:
    """The record for people."""
    begin = facts["events"][0]["at"]
    steps, starts = facts["steps"], [c for c in facts["containers"] if c["action"] == "start"]
    lines = [facts["title"], f"{facts['dag']}: {facts['state']} in {facts['seconds']:.0f} s", ""]
    lines.append("  machines  " + ", ".join(f"{n} {a}" for n, a in facts["machines"].items()))
    lines += ["", f"{'s':>6}  what happened"]
    lines += [f"{_since(begin, e['at']):6.1f}  {e['what']}" for e in facts["events"]]
    lines += ["", f"{'start':>6} {'end':>6}  {'task':<16} try  worker    ended as      job"]
    for attempt in facts["attempts"]:
        step = steps.get(attempt["task"], {})
        lines.append(
            f"{_since(begin, attempt['started']):6.1f} {_since(begin, attempt['ended']):6.1f}  "
            f"{attempt['task']:<16} {attempt['try']:>3}  {attempt['worker']:<9} "
            f"{attempt['state']:<13} {step.get('job', '-')[:12]}"
        )
    lines += ["", f"  containers started: {len(starts)}, for {len(steps)} jobs"]
    lines += [
        f"{_since(begin, c['at']):6.1f}  {c['action']:<8} {c['component']:<11} {c['container']}"
        for c in facts["containers"]
    ]
    return "\n".join(lines) + "\n"


def _since(begin: str, moment: str) -> float:
    if not moment:
        return float("nan")
    return (_time(moment) - _time(begin)).total_seconds()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
