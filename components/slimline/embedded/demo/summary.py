"""The figures of the demo: what `summary.json` holds, and the same as a table."""

from __future__ import annotations

import json
import statistics
import tempfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.contract.artifact import Artifact
from slimline.contract.store import fetch_artifact
from slimline.measure.evaluation import load_evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slimline.embedded.demo.story import Act
    from slimline.measure.evaluation import EvaluationRecord, StageNumbers

Figures = dict[str, Any]


def compress_figures(act: Act) -> Figures:
    """Stages, verdict, package, and the seconds of each step."""
    record = _evaluation(act)
    pushed = act.numbers("push")
    return {
        "stages": [_stage(stage) for stage in record.stages],
        "non_inferiority": record.non_inferiority.model_dump(),
        "runtime": record.runtime,
        "gate": act.numbers("gate"),
        "package": {"uri": pushed["uri"], "sha256": pushed["digest"], "bytes": pushed["bytes"]},
        "registered_version": act.numbers("register")["version"],
        **time_figures(act),
    }


def time_figures(act: Act) -> Figures:
    """Seconds per step, what a step costs beyond its work, and the share of time without work.

    Beyond its work is what its task took longer than its component: looking it up, starting a
    process or container and Python in it, fetching inputs, keeping outputs.
    """
    took = {task["task_id"]: task.get("duration") or 0.0 for task in act.run.tasks}
    beyond = [took[n] - step["seconds"] for n, step in act.steps.items() if step["executed"]]
    worked = _union([_span(step) for step in act.steps.values() if step["executed"]])
    return {
        "seconds": round(act.seconds, 1),
        "seconds_per_step": {name: step["seconds"] for name, step in act.steps.items()},
        "executed": len(act.executed),
        "seconds_beyond_work": round(statistics.median(beyond), 2) if beyond else 0.0,
        "orchestration_share": round(1 - min(1.0, worked / act.seconds), 3),
    }


def release_figures(act: Act) -> Figures:
    """The endpoint with its answer, and each device's version before and after."""
    endpoint, devices = act.numbers("deploy"), _receipt(act, "ota")["devices"]
    back = act.steps.get("undo_deploy")
    return {
        "state": act.run.state,
        **time_figures(act),
        "endpoint": {
            "address": endpoint["address"],
            "answer": endpoint["answer"],
            "golden_difference": endpoint["golden_difference"],
            "before": endpoint["before"],
            "after": (back["numbers"] if back else endpoint)["after"],
        },
        "fleet": act.numbers("ota"),
        "devices": {
            row["device"]: {k: row[k] for k in ("wave", "before", "after", "state", "reason")}
            for row in devices
        },
    }


def table(summary: Figures) -> str:
    """The summary for people."""
    head = f"{'stage':<11}{'accuracy':<26}{'bytes':>9}{'p50 ms':>10}{'smaller':>10}{'faster':>9}"
    stages = [_stage_row(stage) for stage in summary["compress"]["stages"]]
    facts = [f"{name:<15}{fact}" for name, fact in _facts(summary).items()]
    return "\n".join([head, *stages, "", *facts])


def _stage_row(stage: Figures) -> str:
    accuracy = "{value:.2%} [{low:.2%}, {high:.2%}]".format(**stage["accuracy"])
    speed = (
        f"{stage['latency_ms']['value']:>10.4f}{stage['shrink']:>9.1f}x{stage['speedup']:>8.2f}x"
    )
    return f"{stage['stage']:<11}{accuracy:<26}{stage['bytes']:>9}{speed}"


def _facts(summary: Figures) -> dict[str, str]:
    compress, again, release = (summary[n] for n in ("compress", "second_run", "release"))
    gate, test = compress["gate"], compress["non_inferiority"]
    devices, bad = release["devices"].values(), summary["bad_release"]
    back = [d["before"] == d["after"] for d in bad["devices"].values()]
    same = bad["endpoint"]["before"] == bad["endpoint"]["after"]
    drop = f"accuracy drop {test['drop']:.4f}, at most {test['upper_bound']:.4f}"
    surely = f"with {test['confidence']:.0%} confidence, margin {test['margin']}"
    answered = f"answered {release['endpoint']['answer']!r}"
    share = compress["orchestration_share"]
    undone = f"{sum(back)} of {len(back)} devices run what they ran before"
    where = "in a container" if summary["runner"] == "docker" else "in a child process"
    updated = sum(d["before"] != d["after"] for d in devices)
    return {
        "gate": f"{'passed' if gate['passed'] else 'refused'}: {drop} {surely} ({test['method']})",
        "package": compress["package"]["uri"],
        "compress": f"{compress['seconds']:.0f} s, {share:.0%} of them orchestration",
        "a step": f"{compress['seconds_beyond_work']:.1f} s beyond its own work (median), {where}",
        "same run again": f"{again['executed']} steps executed, {again['seconds']:.0f} s",
        "endpoint": f"{release['endpoint']['address']} {answered}",
        "fleet": f"{updated} of {len(devices)} devices updated in {release['seconds']:.0f} s",
        "bad candidate": f"refused: {'; '.join(summary['bad_candidate']['reasons'])}",
        "bad release": f"{bad['state']}; {undone}, the endpoint {'too' if same else 'does NOT'}",
    }


def _stage(stage: StageNumbers) -> Figures:
    return stage.model_dump(exclude={"per_class", "model_digest"})


def _evaluation(act: Act) -> EvaluationRecord:
    with _fetched(act, "validate", "evaluation") as folder:
        return load_evaluation(folder)


def _receipt(act: Act, step: str) -> Figures:
    with _fetched(act, step, "receipt") as folder:
        found: Figures = json.loads((folder / "receipt.json").read_text())
        return found


@contextmanager
def _fetched(act: Act, step: str, output: str) -> Iterator[Path]:
    ref = act.steps[step]["outputs"][output]
    with tempfile.TemporaryDirectory() as folder:
        yield fetch_artifact(Artifact(uri=ref["uri"], digest=ref["digest"]), Path(folder)).path


def _span(step: Figures) -> tuple[float, float]:
    begin = datetime.fromisoformat(step["started"]).timestamp()
    return begin, begin + step["seconds"]


def _union(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one span."""
    covered, until = 0.0, 0.0
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered
