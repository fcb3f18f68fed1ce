"""Benchmark 1: the frontier from ResNet-56 on CIFAR-10, found by the component `search`.

Students of fewer blocks start with the teacher's own, are distilled in rounds and quantized, with
weights of 8 or of 4 bits, within 85 minutes of compute in all. Which one stands for a budget is
chosen on a twenty-fifth of the training set, split off. The published teacher has seen it, so its
published 93.39 % stand for it there; what students inherit has seen it too, so drops on it are too
small. The 10,000 test images are looked at by validate alone, for the networks that were chosen:
accuracy paired with the float ResNet-56, latency in ONNX Runtime with one thread at batch 1,
interleaved with it.

Finished steps are found again in the store, and an unfinished one goes on from its checkpoint: stop
it at any time, or give it minutes, and call again.

    python benchmarks/frontier.py --data DIRECTORY [--minutes N] [--total 85] [--limit EXAMPLES]

--limit takes that many examples a split, to try it out; its table is no result.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar import BENCH, DATA, DATA_HELP, done, published, splits

from slimline.contract import Killed, LocalStore, Model
from slimline.contract.log import setup_logging
from slimline.contract.store import fetch_artifact
from slimline.measure.evaluation import load_evaluation
from slimline.search.front import choose
from slimline.search.result import TrialResult, drop_of, upper_of
from slimline.search.settings import SearchSettings
from slimline.search.space import chain_in_words
from slimline.search.spec import Search
from slimline.validate.spec import Validate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slimline.measure.evaluation import EvaluationRecord

PUBLISHED = 0.9339
BUDGETS = (0.5, 1.0, 1.5, 2.0, 3.0)
GOAL = {"drop": 1.5, "shrink": 12, "speedup": 8}
STUDENTS = [(2, 3, 3), (1, 3, 4), (2, 4, 2), (1, 3, 3)]
"""Blocks of the three stages, of the teacher's 9, 9 and 9; widths are the teacher's."""
SELECTION = 0.04
"""Share of the training set that chooses; what is left trains."""
DISTILL: dict[str, Any] = {
    "batch_size": 128,
    "optimizer": "sgd",
    "inherit": True,
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "augmentation": "flip_crop",
    "augmentation_views": 8,
    "precision": "bf16",
    "averaging": "ema",
    "averaging_decay": 0.998,
}
SEARCH: dict[str, Any] = {
    "trials": 2 * len(STUDENTS),
    "population": 2 * len(STUDENTS),
    "epochs": [2, 8, 40],
    "keep": 0.3,
    "promote": "accuracy",
    "max_drop": GOAL["drop"] / 100,
    "min_speedup": GOAL["speedup"],
    "max_bytes": 286_000,
    "rounds": 100,
}
QUICK = {"epochs": [1, 2], "rounds": 20, "max_drop": 0.5, "min_speedup": 3}


def main() -> None:
    """Do what is left within the minutes, and write the table when all is done."""
    given = _arguments()
    setup_logging()
    place = BENCH / ("frontier" if given.limit is None else f"frontier-{given.limit}")
    place.mkdir(parents=True, exist_ok=True)
    if given.minutes:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 60 * given.minutes)
    try:
        rows, found = measure(place, given)
    except Killed as stopped:
        print(f"{stopped}: call again to go on")
        return
    write(place, rows, found)


def measure(place: Path, given: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Search, choose for each budget, and validate what was chosen on the test images."""
    share = SELECTION if given.limit is None else 0.1
    data = splits(place, given.data, given.limit, share)
    teacher = published(place, given.data, 56)
    inputs = {"train": data["train"], "selection": data["selection"]}
    search = Search.parse(
        {
            **inputs,
            "teacher": teacher,
            "space": _space(),
            "teacher_accuracy": PUBLISHED,
            "minutes": given.total,
            **SEARCH,
            **(QUICK if given.limit is not None else {}),
        }
    )
    outcome = done(search, place)
    with tempfile.TemporaryDirectory() as page:
        front = fetch_artifact(outcome["front"], Path(page)).path
        found = json.loads((front / "trials.json").read_text())
    rows = []
    for chosen in _chosen(found):  # the test images come after every choice
        models = {
            "baseline": _stored(place, found["baseline"]["onnx"]),
            "candidate": _stored(place, chosen.result.onnx),
        }
        job = {**models, "test": data["test"], "margin": GOAL["drop"] / 100}
        judged = done(Validate.parse({**job, "robustness_examples": 0}), place)
        with tempfile.TemporaryDirectory() as work:
            path = fetch_artifact(judged["evaluation"], Path(work)).path
            rows.append(chosen.row(load_evaluation(path)))
    return rows, outcome.manifest.numbers


def _space() -> dict[str, Any]:
    call = "slimline.models.zoo:cifar_resnet"
    students = [{"call": call, "arguments": {"blocks": blocks}} for blocks in STUDENTS]
    return {
        "factory": students,
        "distill": {name: [value] for name, value in DISTILL.items()},
        "quantize": {
            "scheme": ["int8-static", "int4-weights"],
            "format": ["qoperator"],
            "activations": ["int8"],
        },
    }


@dataclass(frozen=True)
class Chosen:
    """What stands for a budget, given in points."""

    budget: float
    result: TrialResult
    kept: bool
    settings: SearchSettings

    def row(self, record: EvaluationRecord) -> dict[str, Any]:
        """Its numbers on the selection split and on the test images."""
        first, last, drop = record.stages[0], record.stages[-1], record.non_inferiority
        answers = self.result.answers
        assert answers is not None  # noqa: S101 - what was chosen was trained
        interval, scheme = last.speedup_interval, self.result.chain[-1].parameters["scheme"]
        return {
            "budget": self.budget,
            "kept_on_selection": self.kept,
            "network": f"{chain_in_words(self.result.chain[:1]).split(' batch_size')[0]}, {scheme}",
            "epochs": list(self.result.epochs),
            "selection_drop": 100 * drop_of(answers, self.settings),
            "selection_upper": 100 * upper_of(answers, self.settings),
            "test_accuracy": 100 * last.accuracy.value,
            "teacher_accuracy": 100 * first.accuracy.value,
            "test_drop": 100 * drop.drop,
            "test_upper": 100 * drop.upper_bound,
            "bytes": last.bytes,
            "shrink": last.shrink,
            "speedup": last.speedup,
            "speedup_interval": [interval.low, interval.high] if interval else None,
            "latency_ms": last.latency_ms.value,
            "machine": record.machine,
        }


def _chosen(found: dict[str, Any]) -> list[Chosen]:
    """By budget the fastest that keeps it on the selection split, or what comes nearest.

    Networks of the size that the goal asks for go first.
    """
    baseline = TrialResult.model_validate(found["baseline"])
    settings = SearchSettings.model_validate(found["settings"])
    told = [t["result"] for t in found["trials"] if t["result"] and t["result"]["answers"]]
    trained = [TrialResult.model_validate(result) for result in told]
    assert baseline.measured is not None  # noqa: S101 - the teacher was measured
    small = {"max_bytes": int(baseline.measured.bytes / GOAL["shrink"])}
    chosen = []
    for budget in BUDGETS:
        wanted = settings.model_copy(update={"max_drop": budget / 100})
        choice = choose(trained, baseline, wanted.model_copy(update=small), "speed")
        if not choice.passed:
            choice = choose(trained, baseline, wanted, "speed")
        chosen.append(Chosen(budget, choice.result, choice.passed, wanted))
    return chosen


def _stored(place: Path, digest: str) -> Model:
    uri = LocalStore(place / "store").uri
    return Model(uri=f"{uri}/artifacts/{digest}", digest=digest)


def write(place: Path, rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """The table, and all numbers beside it."""
    told = json.dumps({"rows": rows, "search": found}, indent=1)
    (BENCH / f"{place.name}.json").write_text(told + "\n")
    goal = next(row for row in rows if row["budget"] == GOAL["drop"])
    reached = (
        goal["test_upper"] <= GOAL["drop"]
        and goal["shrink"] >= GOAL["shrink"]
        and goal["speedup"] >= GOAL["speedup"]
    )
    head = (
        f"From ResNet-56 ({goal['teacher_accuracy']:.2f} % on the test images), in "
        f"{found['minutes']:g} minutes of search: {found['trials']} networks, {found['pruned']} "
        f"of them left out for size or measured speed. {goal['machine']}"
    )
    titles = (
        *("budget, points", "network", "epochs", "test %", "drop", "at most (95 %)", "bytes"),
        *("x smaller", "x faster", "kept"),
    )
    tail = (
        f"Goal: {GOAL['shrink']}x smaller and {GOAL['speedup']}x faster at a drop of at most "
        f"{GOAL['drop']} points: {'reached' if reached else 'not reached'}."
    )
    table = [_line(titles), _line("---" for _ in titles), *map(_cells, rows)]
    lines = [head, "", *table, "", tail]
    (BENCH / f"{place.name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _cells(row: dict[str, Any]) -> str:
    low, high = row["speedup_interval"] or (row["speedup"], row["speedup"])
    cells = [
        f"{row['budget']:g}",
        row["network"],
        "+".join(map(str, row["epochs"])),
        f"{row['test_accuracy']:.2f}",
        f"{row['test_drop']:.2f}",
        f"{row['test_upper']:.2f}",
        f"{row['bytes']:,}",
        f"{row['shrink']:.2f}",
        f"{row['speedup']:.2f} ({low:.2f}-{high:.2f})",
        "yes" if row["test_upper"] <= row["budget"] else "no",
    ]
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=DATA_HELP)
    parser.add_argument("--minutes", type=float, help="Stop after so many, to be called again.")
    parser.add_argument("--total", type=float, default=85, help="Minutes of search, all calls.")
    parser.add_argument("--limit", type=int, help="Examples a split, to try it out.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
