"""Benchmark 3: a network of 78 k parameters (the ResNet-8 of MLPerf Tiny) on CIFAR-10, in int8.

It is distilled from ResNet-56 by our own rooms (distill, export, quantize, validate); beside it the
same network is trained by `train` on the labels alone, with the same recipe, to show what the
teacher gives. Epochs are chosen on images split off the training set; the 10,000 test images are
looked at once, by validate, when everything else is fixed. For comparison (MLPerf Tiny): the
reference float model has 87.2 %, its quality target is 85 %.

Finished steps are found again in the store, and an unfinished one goes on from its checkpoint: stop
it at any time, or give it minutes, and call again.

    python benchmarks/tiny.py --data DIRECTORY [--minutes N] [--epochs 80] [--without-control]

DIRECTORY holds cifar10/{train-1..5,test}.parquet (columns img.bytes and label) and
models/cifar10_resnet56.safetensors.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image

from slimline.contract import Killed, LocalStore, execute
from slimline.contract.log import setup_logging
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.data.preprocess import Normalize, Preprocessing, Scale, ToNCHW
from slimline.distill.spec import Distill
from slimline.export.spec import Export
from slimline.models.build import build, load_weights, read_weights, save_torch_model
from slimline.models.info import Factory, ModelInfo
from slimline.quantize.spec import Quantize
from slimline.train.spec import Train
from slimline.validate.spec import Validate

if TYPE_CHECKING:
    from slimline.contract import Component
    from slimline.contract.job import Outcome

BENCH = Path(__file__).parent.parent / "build" / "bench"
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TINY = {"call": "slimline.models.zoo:cifar_resnet", "arguments": {"depth": 8, "shortcut": "B"}}
SELECTION = 2500
PREPROCESSING = Preprocessing(
    shape=(32, 32, 3),
    steps=(Scale(), Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), ToNCHW()),
)
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
        inputs = prepare(place / "inputs", given.data)
        rows = measure(place, inputs, given)
    except Killed as stopped:
        print(f"{stopped}: call again to go on")
        return
    write(rows, given.epochs)


def measure(
    place: Path, inputs: dict[str, Path], given: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Each way to train the network, quantized and measured on the test images."""
    data = {"train": inputs["train"], "selection": inputs["selection"]}
    settings = RECIPE | {"epochs": given.epochs}
    ways: dict[str, Component] = {
        "distilled": Distill.parse(
            {
                **data,
                "teacher": inputs["teacher"],
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


def done(job: Component, place: Path) -> Outcome:
    """Do a job, or find what an equal one made; only code, data and parameters make it equal."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=place) as work:
        store = LocalStore(place / "store")
        return execute(job, store, work_dir=Path(work) / "job", image=f"torch-{torch.__version__}")


def prepare(place: Path, data: Path) -> dict[str, Path]:
    """The splits and the teacher as artifacts; made once."""
    made = {name: place / name for name in ("train", "selection", "test", "teacher")}
    if not (place / "complete").exists():
        x, y = read([data / "cifar10" / f"train-{i}.parquet" for i in range(1, 6)])
        order = np.random.default_rng(0).permutation(len(y))
        write_split(made["selection"], "selection", x, y, np.sort(order[:SELECTION]))
        write_split(made["train"], "train", x, y, np.sort(order[SELECTION:]))
        x, y = read([data / "cifar10" / "test.parquet"])
        write_split(made["test"], "test", x, y, np.arange(len(y)))
        write_teacher(made["teacher"], data / "models" / "cifar10_resnet56.safetensors")
        (place / "complete").touch()
    return made


def read(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 32, 32, 3) uint8 and their classes."""
    images, labels = [], []
    for file in files:
        table = pyarrow.parquet.read_table(file)
        bytes_of = table["img"].combine_chunks().field("bytes")
        images += [np.asarray(Image.open(io.BytesIO(b.as_py())).convert("RGB")) for b in bytes_of]
        labels.append(table["label"].to_numpy())
    return np.stack(images), np.concatenate(labels).astype(np.int64)


def write_split(target: Path, split: Any, x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> None:
    target.mkdir(parents=True, exist_ok=True)
    info = DatasetInfo(
        name="cifar10",
        split=split,
        shape=x.shape[1:],
        dtype="uint8",
        labels=LABELS,
        count=len(rows),
        source_digest="0" * 64,
    )
    save_examples(Examples(info, x[rows], y[rows], rows), target)


def write_teacher(target: Path, weights: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    factory = Factory(call="slimline.models.zoo:cifar_resnet", arguments={"depth": 56})
    module = build(factory)
    (target / "model.safetensors").write_bytes(weights.read_bytes())
    load_weights(module, read_weights(target), "ResNet-56")
    info = ModelInfo(
        name="cifar10",
        stage="resnet56",
        format="torch",
        labels=LABELS,
        preprocessing=PREPROCESSING,
        factory=factory,
    )
    save_torch_model(module, info, target)


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
    default = Path(__file__).parent.parent / "data"
    parser.add_argument("--data", type=Path, default=default, help="real images and weights")
    parser.add_argument("--minutes", type=float, default=0, help="stop after them; 0 never")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--views", type=int, default=8, help="of each image, fixed and cached")
    parser.add_argument("--without-control", action="store_true", help="distill alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
