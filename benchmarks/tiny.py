"""Benchmark 3: a network of 78 k parameters (the ResNet-8 of MLPerf Tiny) on CIFAR-10, in int8.

It is distilled from ResNet-56 by our own rooms (distill, export, quantize, validate); beside it the
same network is trained by `train` on the labels alone, with the same recipe, to show what the
teacher gives. Epochs are chosen on images split off the training set; the 10,000 test images are
looked at once, by validate, when everything else is fixed. For comparison (MLPerf Tiny): the
reference float model has 87.2 %, its quality target is 85 %.

Finished steps are found again in the store, and an unfinished one goes on from its checkpoint: stop
it at any time, or give it minutes, and call again.

    python benchmarks/tiny.py --data DIRECTORY [--minutes N] [--epochs 80] [--without-control]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar import BENCH, DATA, DATA_HELP, done, published, splits

from slimline.contract import Killed
from slimline.contract.log import setup_logging
from slimline.distill.spec import Distill
from slimline.export.spec import Export
from slimline.quantize.spec import Quantize
from slimline.train.spec import Train
from slimline.validate.spec import Validate

if TYPE_CHECKING:
    from slimline.contract import Component

TINY = {"call": "slimline.models.zoo:cifar_resnet", "arguments": {"depth": 8, "shortcut": "B"}}
RECIPE: dict[str, Any] = {
    "factory": TINY,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "augmentation": "flip_crop",
    "precision": "bf16",
    "averaging": "ema",
    "averaging_decay": 0.998,
}
TEACHING: dict[str, Any] = {"method": "logits", "temperature": 4.0, "alpha": 0.9}


def main() -> None:
    """Do what is left within the minutes, and write the table when all is done."""
    given = _arguments()
    setup_logging()
    place = BENCH / "tiny"
    if given.minutes:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 60 * given.minutes)
    try:
        rows = measure(place, given)
    except Killed as stopped:
        print(f"{stopped}: call again to go on")
        return
    write(rows, given.epochs)


def measure(place: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each way to train the network, quantized and measured on the test images."""
    inputs = splits(place, given.data)
    data = {"train": inputs["train"], "selection": inputs["selection"]}
    settings = RECIPE | {"epochs": given.epochs}
    ways: dict[str, Component] = {
        "distilled": Distill.parse(
            {
                **data,
                "teacher": published(place, given.data, 56),
                **settings,
                **TEACHING,
                "augmentation_views": given.views,
            }
        )
    }
    if not given.without_control:
        ways["labels alone"] = Train.parse({**data, **settings, "normalize": True})
    trained = {name: done(job, place) for name, job in ways.items()}
    rows = {}
    for name, outcome in trained.items():  # the test images come after every choice
        model = outcome["student" if name == "distilled" else "model"]
        floating = done(Export.parse({"model": model}), place)["exported"]
        integer = done(Quantize.parse({"model": floating, "calibration": inputs["train"]}), place)[
            "quantized"
        ]
        job = {"baseline": floating, "candidate": integer, "test": inputs["test"]}
        judged = done(Validate.parse({**job, "latency_seconds": 20}), place)
        rows[name] = {"training": outcome.manifest.numbers, "test": judged.manifest.numbers}
    return rows


def write(rows: dict[str, dict[str, Any]], epochs: int) -> None:
    """The table, and all numbers beside it."""
    (BENCH / "tiny.json").write_text(json.dumps(rows, indent=1, default=str) + "\n")
    told = "accuracy on 10,000 test images; drop: float to int8 at most, points, 95 % confidence"
    columns = ["trained on", "selection %", "float %", "int8 %", "drop", "float ms", "int8 ms"]
    columns.append("int8 bytes")
    lines = [f"ResNet-8 (78,042 parameters), CIFAR-10, {epochs} epochs; {told}.", ""]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, row in rows.items():
        test = row["test"]
        figures = [row["training"]["accuracy"], test["baseline_accuracy"], test["accuracy"]]
        shown = [f"{100 * share:.2f}" for share in figures]
        shown.append(f"{100 * test['upper_bound']:.2f}")
        shown += [f"{test[key]:.3f}" for key in ("baseline_latency_ms", "latency_ms")]
        lines.append(f"| {' | '.join([name, *shown, str(test['bytes'])])} |")
    (BENCH / "tiny.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory {peak} MB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help=DATA_HELP)
    parser.add_argument("--minutes", type=float, default=0, help="stop after them; 0 never")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--views", type=int, default=8, help="of each image, fixed and cached")
    parser.add_argument("--without-control", action="store_true", help="distill alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
