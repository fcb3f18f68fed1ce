"""Benchmark 2: the same budget on the same model, beside five toolkits.

The published ResNet-20 on CIFAR-10 is made small by Olive's search, NNCF, Neural Compressor,
onnxruntime's own defaults, torch-pruning, and by us. All start from the same weights: the same
float ONNX, or the same network in torch. All calibrate with the same 256 training images; those
that search look at the same selection split. Where a network is cut, it is healed for the same
epochs. The 10,000 test images are looked at once, for all points together.

Each peer runs in a virtual environment of its own, made here, by its script in `benchmarks/peers`;
one that fails is told in the table. TORCH_INDEX names where torch for processors without a GPU is,
as in the Makefile. What was made is kept: the same command goes on where it was interrupted.

    python benchmarks/peers.py --data DIRECTORY [--epochs 3] [--limit EXAMPLES]

Writes build/bench/peers.md and peers.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from cifar import BENCH, DATA, DATA_HELP, done, published, splits
from peer_runs import PEERS, theirs
from points import OURS, Duel, Made, duel_table, duels, measured, rows, table
from safetensors.numpy import load_file

from slimline.contract import Dataset
from slimline.contract.artifact import digest_json
from slimline.contract.log import setup_logging
from slimline.data.dataset import Examples, load_examples, save_examples
from slimline.export.spec import Export
from slimline.prune.spec import Prune
from slimline.quantize.spec import Quantize

if TYPE_CHECKING:
    from slimline.contract import Artifact, Component, Model
    from slimline.contract.job import Outcome

IMAGES, FIT, JUDGE = 256, 192, 64
HEALING: dict[str, Any] = {"batch_size": 128, "learning_rate": 0.02, "weight_decay": 5e-4}
OUR_HEALING = {"optimizer": "sgd", "augmentation": "flip_crop", "precision": "bf16"}
RATIO = 0.5
SCHEMES: dict[str, dict[str, Any]] = {
    "int8": {"scheme": "int8"},
    "4-bit weights, int8": {
        "scheme": "int4-weights",
        "activations": "int8",
        "format": "qoperator",
    },
}
CUTS: dict[str, dict[str, Any]] = {
    "channels": {"method": "structured", "ratio": RATIO, "round_to": 16},
    "blocks": {"method": "blocks", "target": "macs", "ratio": 0.33},
}


@dataclass(frozen=True)
class Start:
    """What everybody starts from."""

    place: Path
    data: Outcome
    network: Model
    exported: Artifact
    calibration: Dataset

    def local(self, artifact: Artifact) -> Path:
        """Where an artifact of the benchmark lies."""
        return self.place / "store" / "artifacts" / artifact.digest

    def examples(self, split: str) -> Examples:
        """A split's images and classes."""
        return load_examples(self.local(self.data[split]))

    def done(self, job: Component) -> tuple[Outcome, float]:
        """A job's outcome, and the seconds that it took when it was done."""
        outcome = done(job, self.place)
        return outcome, outcome.manifest.seconds


def main() -> None:
    """Make every point that is not there yet, measure all, write the tables."""
    given = _arguments()
    setup_logging()
    place = BENCH / ("peers" if given.limit is None else f"peers-{given.limit}")
    data, source = splits(place, given.data, given.limit), published(place, given.data, 20)
    exported = done(Export.parse({"model": source}), place)["exported"]
    start = Start(place, data, source, exported, _calibration(place, data))
    shared, healing = _inputs(start, given.data), {**HEALING, "epochs": given.epochs}
    made = [Made("", "float", file=start.local(exported) / "model.onnx"), *_ours(start, healing)]
    for peer in PEERS:
        made += theirs(
            peer, BENCH / "peers", shared, {**healing, "ratio": RATIO}, quick=bool(given.limit)
        )
    points = measured(made, start.examples("test"), given.rounds)
    head = (
        f"ResNet-20 on CIFAR-10, {len(points[0].right):,} test images; cut networks are healed for "
        f"{given.epochs} epochs. Speed is against the float model in ONNX Runtime, 1 thread, "
        "batch 1, all interleaved."
    )
    write(place.name, rows(made, points), duels(points), head)


def _inputs(start: Start, data: Path) -> Path:
    """What the peers' scripts read; see `peers/peer_common.py`."""
    made = [start.data["train"], start.data["selection"], start.exported]
    target = start.place / f"inputs-{digest_json([one.digest for one in made])[:12]}"
    if target.exists():
        return target
    part = target.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    splits = {name: start.examples(name) for name in ("train", "selection")}
    for name, examples in splits.items():
        np.savez(part / f"{name}.npz", x=examples.x, y=examples.y)
    few = splits["train"]
    np.savez(part / "calibration.npz", x=few.x[:IMAGES], y=few.y[:IMAGES])
    weights: dict[str, Any] = load_file(data / "models" / "cifar10_resnet20.safetensors")
    np.savez(part / "weights.npz", **weights)
    _save_plain(start.local(start.exported) / "model.onnx", part / "float.onnx")
    part.rename(target)
    return target


def _save_plain(source: Path, target: Path) -> None:
    """Leave out that Pads fill with 0, which is what they do.

    onnxruntime's quantizer deletes the constant 0 after the first Pad that uses it, and three of
    the peers would fail.
    """
    model = onnx.load(source)
    zeros = {t.name for t in model.graph.initializer if not onnx.numpy_helper.to_array(t).any()}
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    dropped = {node.input[2] for node in pads if node.input[2:] and node.input[2] in zeros}
    for node in pads:
        if dropped.intersection(node.input[2:]):
            del node.input[2:]
    kept = [t for t in model.graph.initializer if t.name not in dropped]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, target)


def _calibration(place: Path, data: Outcome) -> Dataset:
    """The first images of the training split, as a dataset of its own."""
    train = load_examples(place / "store" / "artifacts" / data["train"].digest)
    target = place / "calibration"
    target.mkdir(parents=True, exist_ok=True)
    info = train.info.model_copy(update={"count": min(IMAGES, train.info.count)})
    few = Examples(info, train.x[:IMAGES], train.y[:IMAGES], train.id[:IMAGES])
    save_examples(few, target)
    return Dataset.at(target)


def _ours(start: Start, healing: dict[str, Any]) -> list[Made]:
    """Our points: after training alone, then of networks that were cut and healed."""
    made = [_quantized(start, name, start.exported, Made(OURS, "")) for name in SCHEMES]
    inputs = {name: start.data[name] for name in ("train", "selection")}
    for cut, how in CUTS.items():
        job = {"model": start.network, **inputs, **healing, **OUR_HEALING, **how}
        pruned, seconds = start.done(Prune.parse(job))
        outcome, more = start.done(Export.parse({"model": pruned["pruned"]}))
        model, note = outcome["exported"], f"{pruned.manifest.numbers['parameters']:,} parameters"
        file = start.local(model) / "model.onnx"
        made.append(Made(OURS, f"{cut} cut", note, seconds + more, file))
        made += [_quantized(start, name, model, made[-1]) for name in SCHEMES]
    return made


def _quantized(start: Start, name: str, model: Artifact, before: Made) -> Made:
    """A point in fewer bits, from the one before."""
    job = {"model": model, "calibration": start.calibration, **SCHEMES[name]}
    job |= {"calibration_samples": FIT, "selection_samples": JUDGE}
    outcome, seconds = start.done(Quantize.parse(job))
    told = ", ".join(filter(None, (before.name, name)))
    file = start.local(outcome["quantized"]) / "model.onnx"
    return Made(OURS, told, before.note, before.seconds + seconds, file)


def write(name: str, told: list[dict[str, Any]], found: list[Duel], head: str) -> None:
    """The tables, and all numbers beside them."""
    verdicts = [asdict(duel) | {"verdict": duel.verdict} for duel in found]
    (BENCH / f"{name}.json").write_text(json.dumps({"points": told, "duels": verdicts}, indent=1))
    count = Counter(duel.verdict for duel in found)
    tail = ", ".join(f"{what} {times}" for what, times in count.most_common())
    lines = [head, "", *table(told), "", *duel_table(found), "", f"Ours of {len(found)}: {tail}."]
    (BENCH / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=DATA_HELP)
    parser.add_argument("--epochs", type=int, default=3, help="of healing, for all who cut")
    parser.add_argument("--rounds", type=int, default=201, help="rounds of latency")
    parser.add_argument("--limit", type=int, help="Examples a split, to try it out.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
