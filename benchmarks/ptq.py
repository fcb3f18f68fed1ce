"""Post-training quantization of ResNet-20 with 256 calibration images (benchmark 4).

Nothing else of the training data is seen: 192 images choose ranges and rounding, 64 judge what was
made, and the figure is on test images that no choice has seen. Peers are onnxruntime's own
defaults, called as its documentation does. Latency is at batch 1 on one thread, all models
interleaved.

    python benchmarks/ptq.py [--data data] [--images 10000] [--rounds 201]

Needs `<data>/cifar10/*.parquet` and `<data>/models/cifar10_resnet20.safetensors`; writes
build/bench/ptq.md and ptq.json, keeps each model in build/bench/ptq/ and goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet
import torch
from cifar import DATA, DATA_HELP, LABELS, PREPROCESSING, published
from PIL import Image

from slimline.contract import Dataset, Model, sha256_file
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.export.spec import Export
from slimline.measure import latency
from slimline.measure.intervals import tango_upper
from slimline.measure.runtime import import_onnxruntime, logits, session
from slimline.quantize.spec import Quantize

IMAGES, FIT, JUDGE = 256, 192, 64
OURS: dict[str, dict[str, Any]] = {
    "int8 (planned)": {"scheme": "int8"},
    "int8-static": {"scheme": "int8-static"},
    "4-bit weights, int8 activations": {
        "scheme": "int4-weights", "activations": "int8", "format": "qoperator",
    },
    "4-bit weights, float activations": {"scheme": "int4-weights"},
    "4-bit k-means": {"scheme": "kmeans"},
    "4-bit powers of two": {"scheme": "power-of-two"},
    "4-bit, rounded to nearest": {
        "scheme": "int4-weights", "activations": "int8", "rounding": "nearest",
        "correction": "none",
    },
}  # fmt: skip
PEERS = ("onnxruntime int8 (defaults: S8S8)", "onnxruntime int8 U8S8", "onnxruntime int4 (QInt4)")


def main() -> None:
    """Make every model that is not there yet, measure all, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=DATA_HELP)
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--rounds", type=int, default=201, help="rounds of latency")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.out.resolve() / "ptq"
    work.mkdir(parents=True, exist_ok=True)
    float_model, calibration = prepared(given.data, work)
    files = {"float": float_model.path / "model.onnx"}
    files |= {name: ours(name, float_model, calibration, work) for name in OURS}
    files |= {name: peer(name, files["float"], calibration, work) for name in PEERS}
    rows = measured(files, given.data / "cifar10" / "test.parquet", given.images, given.rounds)
    (given.out / "ptq.json").write_text(json.dumps(rows, indent=1))
    (given.out / "ptq.md").write_text(table(rows, given.images))
    sys.stdout.write(table(rows, given.images))


def prepared(data: Path, work: Path) -> tuple[Model, Dataset]:
    """The float ONNX model and a dataset of 256 training images."""
    if not (work / "train").exists():
        x, y = images(data / "cifar10" / "train-1.parquet", IMAGES)
        (work / "train").mkdir()
        info = DatasetInfo(
            name="cifar10", split="train", shape=(32, 32, 3), dtype="uint8", labels=LABELS,
            count=IMAGES, source_digest=sha256_file(data / "cifar10" / "train-1.parquet"),
        )  # fmt: skip
        save_examples(Examples(info, x, y, np.arange(IMAGES)), work / "train")
    if not (work / "float").exists():
        source = published(work, data, 20)
        made = Export(model=source).run(work_dir=work / "export")["exported"]
        keep(made.path, work / "float")
    return Model.at(work / "float"), Dataset.at(work / "train")


def ours(name: str, model: Model, calibration: Dataset, work: Path) -> Path:
    """One of our models, made when it is not there yet."""
    target = work / name.replace(" ", "_")
    if not target.exists():
        job = Quantize(
            model=model, calibration=calibration, calibration_samples=FIT,
            selection_samples=JUDGE, allow_slower=True, **OURS[name],
        )  # fmt: skip
        start = time.monotonic()
        outcome = job.run(work_dir=work / "jobs" / target.name)
        print(f"{name}: {time.monotonic() - start:.0f} s", outcome.manifest.numbers["loss"])
        keep(outcome["quantized"].path, target)
    return target / "model.onnx"


def peer(name: str, source: Path, calibration: Dataset, work: Path) -> Path:
    """What onnxruntime's quantizer makes of it by its defaults; all 256 images calibrate."""
    import_onnxruntime()
    ort = importlib.import_module("onnxruntime.quantization")

    target = work / f"{name.partition('(')[0].strip().replace(' ', '_')}.onnx"
    if target.exists():
        return target
    with np.load(calibration.path / "examples.npz") as arrays:
        batches = iter(
            [{"input": PREPROCESSING.apply(arrays["x"][i : i + 32])} for i in range(0, IMAGES, 32)]
        )

    class Reader(ort.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    ready = target.with_suffix(".ready.onnx")
    ort.shape_inference.quant_pre_process(source, ready, skip_symbolic_shape=True)
    types = {"QInt4": ort.QuantType.QInt4}
    options: dict[str, Any] = {"per_channel": True}
    if "U8S8" in name:
        options |= {"activation_type": ort.QuantType.QUInt8, "weight_type": ort.QuantType.QInt8}
    if "QInt4" in name:
        options |= {"activation_type": ort.QuantType.QUInt8, "weight_type": types["QInt4"]}
    ort.quantize_static(ready, target, Reader(), **options)
    return target


def measured(files: dict[str, Path], test: Path, count: int, rounds: int) -> list[dict[str, Any]]:
    """Accuracy on test images, paired with the float model; bytes; interleaved latency."""
    x, y = images(test, count)
    inputs = [PREPROCESSING.apply(x[i : i + 250]) for i in range(0, len(x), 250)]
    loaded = [session(path) for path in files.values()]
    times = latency.measure(loaded, [inputs[0][:1]] * len(loaded), rounds=rounds)
    rows, expected = [], None
    for (name, path), own, taken in zip(files.items(), loaded, times, strict=True):
        right = np.concatenate([logits(own, part) for part in inputs]).argmax(1) == y
        expected = right if expected is None else expected
        lost, won = int((expected & ~right).sum()), int((right & ~expected).sum())
        rows.append(
            {
                "model": name,
                "bytes": path.stat().st_size,
                "accuracy": float(right.mean()),
                "drop": (lost - won) / len(y),
                "upper_bound": tango_upper(lost, won, len(y)),
                "latency_ms": taken.median_ms.value,
                "speedup": taken.speedup.model_dump(),
                "opset": onnx.load(path).opset_import[0].version,
            }
        )
    return rows


def table(rows: list[dict[str, Any]], count: int) -> str:
    """The table in Markdown."""
    title = (
        f"ResNet-20 on CIFAR-10, 256 calibration images, {count} test images; speed is against the "
        "float model in ONNX Runtime, 1 thread, batch 1, interleaved."
    )
    lines = [
        title,
        "",
        "| model | bytes | accuracy | drop, points (95 % bound) | ms | speed (95 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        speed, points = row["speedup"], (100 * row["drop"], 100 * row["upper_bound"])
        lines.append(
            f"| {row['model']} | {row['bytes']:,} | {100 * row['accuracy']:.2f} % | "
            f"{points[0]:+.2f} ({points[1]:.2f}) | {row['latency_ms']:.3f} | "
            f"{speed['value']:.2f}x ({speed['low']:.2f}, {speed['high']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def images(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of a file, uint8 (count, 32, 32, 3), and their classes."""
    rows = pyarrow.parquet.read_table(path).slice(0, count)
    data = rows["img"].combine_chunks().field("bytes")
    decoded = [np.asarray(Image.open(io.BytesIO(v.as_py())).convert("RGB")) for v in data]
    return np.stack(decoded), rows["label"].to_numpy().astype(np.int64)


def keep(source: Path, target: Path) -> None:
    """Copy a model's files; the directory appears when it is whole."""
    part = target.with_name(f"{target.name}.part")
    part.mkdir(exist_ok=True)
    for path in source.iterdir():
        (part / path.name).write_bytes(path.read_bytes())
    part.rename(target)


if __name__ == "__main__":
    main()
