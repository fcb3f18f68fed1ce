"""Benchmark 5: how small ResNet-20 and ResNet-56 become on their way to a device.

`quantize` puts weights on grids (scheme step; 256 training images choose the rounding, others the
steps), `slimline.coding` codes them, and what a device restores is compared bit for bit with what
validate saw. Sizes are against the float parameters and batch norm statistics of the published
file. The 10,000 test images are looked at once a row. The float file, our int8 one, and gzip of
each stand beside.

    python benchmarks/storage.py --data DIRECTORY [--steps 0.25 0.3 0.4]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cifar import BENCH, DATA, DATA_HELP, done, published, splits
from safetensors.numpy import load_file

from slimline.coding import decode_model, encode_model
from slimline.export.spec import Export
from slimline.measure.evaluation import load_evaluation
from slimline.quantize.spec import Quantize
from slimline.validate.spec import Validate

if TYPE_CHECKING:
    from slimline.contract import Model

_DECODINGS = 21


def main() -> None:
    """Measure both networks and write the table."""
    given = _arguments()
    place = BENCH / "storage"
    rows = [row for depth in (20, 56) for row in measure(place, given.data, depth, given.steps)]
    (BENCH / "storage.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        "| network | as | bytes | x smaller | test % | drop | at most (95 %) | decodes, MB/s |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
    ]
    (BENCH / "storage.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measure(place: Path, data: Path, depth: int, steps: list[float]) -> list[dict[str, Any]]:
    """The rows of one network."""
    made, torch_model = splits(place, data), published(place, data, depth)
    weights = load_file(data / "models" / f"cifar10_resnet{depth}.safetensors")
    raw = sum(value.nbytes for value in weights.values())
    floating = done(Export.parse({"model": torch_model}), place)["exported"]
    models: dict[str, Model] = {"float": floating}
    schemes = {f"step {step:g}": {"scheme": "step", "step": step} for step in steps}
    for name, values in {"int8": {}, **schemes}.items():
        job = {"model": floating, "calibration": made["train"], **values}
        models[name] = done(Quantize.parse(job), place)["quantized"]
    rows = []
    for name, model in models.items():
        told = _judged(place, floating, model, made["test"])
        plain = (_local(model, place) / "model.onnx").read_bytes()
        forms = {"gzip": (len(gzip.compress(plain, 9)), 0.0), "coded": _coded(plain, raw)}
        for form, (size, speed) in forms.items():
            row = {"network": f"ResNet-{depth}", "as": f"{name}, {form}", "bytes": size}
            rows.append({**row, "shrink": raw / size, "decode_mb_s": speed, **told})
    return rows


def _coded(plain: bytes, raw: int) -> tuple[int, float]:
    """Bytes when coded, and MB of float weights that are restored in a second."""
    coded, taken = encode_model(plain), []
    for _ in range(_DECODINGS):
        start = time.perf_counter()
        restored = decode_model(coded, len(plain))
        taken.append(time.perf_counter() - start)
        if restored != plain:
            raise SystemExit("what was restored is not what was coded")
    return len(coded), raw / median(taken) / 1e6


def _judged(place: Path, baseline: Model, candidate: Model, test: Any) -> dict[str, float]:
    job = {"baseline": baseline, "candidate": candidate, "test": test, "robustness_examples": 0}
    evaluation = done(Validate.parse({**job, "latency_rounds": 20}), place)["evaluation"]
    record = load_evaluation(_local(evaluation, place))
    paired = record.non_inferiority
    return {
        "accuracy": record.stages[-1].accuracy.value,
        "drop": paired.drop,
        "upper_bound": paired.upper_bound,
    }


def _local(artifact: Any, place: Path) -> Path:
    return place / "store" / "artifacts" / artifact.digest


def _line(row: dict[str, Any]) -> str:
    cells = [
        row["network"],
        row["as"],
        f"{row['bytes']:,}",
        f"{row['shrink']:.2f}",
        f"{100 * row['accuracy']:.2f}",
        f"{100 * row['drop']:.2f}",
        f"{100 * row['upper_bound']:.2f}",
        f"{row['decode_mb_s']:.0f}" if row["decode_mb_s"] else "",
    ]
    return f"| {' | '.join(cells)} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=DATA_HELP)
    say = "Of scheme step; see slimline show quantize."
    parser.add_argument("--steps", type=float, nargs="*", default=[0.25, 0.3, 0.4], help=say)
    return parser.parse_args()


if __name__ == "__main__":
    main()
