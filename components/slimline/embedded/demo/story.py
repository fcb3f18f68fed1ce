"""The acts of the demo, each through Airflow's own scheduler, each checked for what it shows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slimline.adapters.airflow.registry import Registry
from slimline.contract import open_store
from slimline.contract.cache import read_manifest
from slimline.embedded.demo.follow import Follower, Run, RunFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.embedded.demo.stack import Stack

MODEL = "digits"
COMPRESS, RELEASE = f"compress_{MODEL}", f"release_{MODEL}"
_BAD_CANDIDATE = {"student.epochs": 1, "pruned.ratio": 0.9, "pruned.epochs": 0}
_NEXT_CANDIDATE = {"quantized.calibration_samples": 128}
_IMPOSSIBLE_MS = 0.0001
_PATIENCE, _PATIENCE_BY_HAND = 600.0, 24 * 3600.0
_HITL_SECONDS = 6.0
"""Airflow 3.3 may mark an approval failed that is answered sooner than it has settled."""


@dataclass
class Act:
    """A run with what its steps said, and how long it took on the wall."""

    run: Run
    seconds: float
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def numbers(self, step: str) -> dict[str, Any]:
        """The numbers that a step gave."""
        found: dict[str, Any] = self.steps[step]["numbers"]
        return found

    @property
    def executed(self) -> list[str]:
        """The steps that really ran."""
        return [name for name, step in self.steps.items() if step["executed"]]


class Story:
    """Tells the acts in order on a stack that runs."""

    def __init__(self, stack: Stack, say: Callable[[str], None], *, by_hand: bool) -> None:
        self.stack, self.say, self.by_hand = stack, say, by_hand
        self.follower = Follower(stack.airflow, say)
        self.registry = Registry(stack.mlflow_url)
        self._asked: dict[str, float] = {}

    def unpause(self) -> None:
        """Airflow watches a promotion's asset only after it parsed an unpaused DAG again."""
        for dag in (COMPRESS, RELEASE):
            self.stack.airflow.unpause(dag)

    def compress(self, title: str, conf: dict[str, Any], expect: str = "success") -> Act:
        """Run the compress DAG."""
        self.say(f"\n{title}")
        airflow, clock = self.stack.airflow, time.monotonic()
        self.unpause()
        run = airflow.trigger(COMPRESS, conf)
        ended = self.follower.run(COMPRESS, run, expect=expect)
        return self.act(ended, time.monotonic() - clock)

    def again(self) -> Act:
        """The same run again: every step is reused."""
        act = self.compress("The same run again: nothing changed, so nothing runs", {})
        if act.executed:
            msg = f"the second run executed {', '.join(act.executed)}, it should reuse all"
            raise RunFailed(msg)
        for name, step in act.steps.items():
            self.say(f"  {name:<20} {step['reason']}")
        return act

    def promote(self, version: str) -> Act:
        """Give a version the alias champion, and follow the release that this starts."""
        self.say(f"\nPromotion: version {version} of {MODEL} becomes champion in the registry")
        airflow, clock = self.stack.airflow, time.monotonic()
        before = set(airflow.runs(RELEASE))
        self.registry.set_alias(MODEL, "champion", version)
        run = self._new_run(before)
        self.say(f"  the promotion started {RELEASE} after {time.monotonic() - clock:.1f} s")
        return self._released(run, clock, "success")

    def bad_candidate(self) -> Act:
        """A candidate that learned too little: the gate refuses it, and nothing is left of it."""
        before = self._released_things()
        title = "A bad candidate: hardly trained and cut to a tenth; the gate has to refuse it"
        act = self.compress(title, _BAD_CANDIDATE, expect="failed")
        numbers = act.numbers("gate")
        if numbers["passed"] is not False or self._released_things() != before:
            msg = "the bad candidate was not refused, or something of it was released"
            raise RunFailed(msg)
        for reason in numbers["reasons"]:
            self.say(f"  refused: {reason}")
        self.say("  nothing of it in S3 under releases, nothing in the registry")
        return act

    def bad_release(self) -> tuple[Act, Act]:
        """A good package that the canary devices find too slow: it is undone everywhere."""
        title = "A second good candidate: quantized with other calibration images"
        good = self.compress(title, _NEXT_CANDIDATE)
        version = str(good.numbers("register")["version"])
        self.say(
            f"\nA bad release: version {version} with a health check no device can pass "
            f"(an inference in {_IMPOSSIBLE_MS} ms)"
        )
        clock = time.monotonic()
        conf = {"version": int(version), "ota.max_latency_ms": _IMPOSSIBLE_MS}
        run = self.stack.airflow.trigger(RELEASE, conf)
        return good, self._released(run, clock, "failed")

    def act(self, run: Run, seconds: float) -> Act:
        """What the steps of a run that ended say."""
        act, store = Act(run, seconds), open_store(self.stack.store)
        for task in run.tasks:
            value = self.stack.airflow.xcom(run.dag, run.run, task["task_id"])
            if isinstance(value, dict) and "job" in value:
                manifest = read_manifest(store, value["job"])
                started = manifest.started if manifest else ""
                act.steps[task["task_id"]] = {**value, "started": started}
        return act

    def _released(self, run: str, clock: float, expect: str) -> Act:
        limit = _PATIENCE_BY_HAND if self.by_hand else _PATIENCE
        ended = self.follower.run(RELEASE, run, expect=expect, limit=limit, each=self._approve)
        return self.act(ended, time.monotonic() - clock)

    def _approve(self, dag: str, run: str, tasks: list[dict[str, Any]]) -> None:
        """Answer the approval as a person would, a little after it was asked."""
        waiting = any(t["task_id"] == "approve" and t["state"] in _ASKING for t in tasks)
        if not waiting:
            return
        if run not in self._asked:
            self._asked[run] = time.monotonic()
            where = f"{self.stack.airflow_url}/required_actions"
            who = f"approve it at {where}" if self.by_hand else "the demo approves it"
            self.say(f"  approval asked for, with the gate's numbers; {who}")
        elif not self.by_hand and time.monotonic() - self._asked[run] > _HITL_SECONDS:
            self._asked[run] = float("inf")
            self.stack.airflow.answer(dag, run, "approve", "Approve")

    def _new_run(self, before: set[str], limit: float = 60) -> str:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            new = [r for r in self.stack.airflow.runs(RELEASE) if r not in before]
            if new:
                return new[0]
            time.sleep(0.5)
        msg = f"the promotion started no run of {RELEASE} within {limit:.0f} s"
        raise RunFailed(msg)

    def _released_things(self) -> tuple[list[str], list[str]]:
        releases = open_store(self.stack.environment["SLIMLINE_RELEASES"])
        return list(releases.keys("")), [v.version for v in self.registry.versions(MODEL)]


_ASKING = frozenset({"awaiting_input", "deferred"})
