"""How far the models of `peers.py` answer from the float one, on images of the selection split.

Where accuracies differ by less than chance this tells which model follows the float one more
closely. No test image is looked at.

    python benchmarks/divergence.py [--images 1500]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cifar import BENCH, PREPROCESSING

from slimline.measure.runtime import logits, session

if TYPE_CHECKING:
    from numpy.typing import NDArray


def main() -> None:
    """Print the mean Kullback-Leibler divergence of each model's answers, in nats."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1500)
    given = parser.parse_args()
    told = json.loads((BENCH / "peers.json").read_text())["points"]
    made = [row for row in told if row["file"]]
    inputs = max((BENCH / "peers").glob("inputs-*"), key=lambda path: path.stat().st_mtime)
    with np.load(inputs / "selection.npz") as arrays:
        x = PREPROCESSING.apply(arrays["x"][: given.images])
    wanted = _logarithms(logits(session(Path(made[0]["file"])), x))
    for row in made[1:]:
        answered = _logarithms(logits(session(Path(row["file"])), x))
        divergence = (np.exp(wanted) * (wanted - answered)).sum(1).mean()
        print(f"{divergence:.2e} {row['tool']}: {row['name']}")


def _logarithms(answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the probabilities."""
    exact = answers.astype(np.float64)
    exact -= exact.max(1, keepdims=True)
    shares: NDArray[np.float64] = exact - np.log(np.exp(exact).sum(1, keepdims=True))
    return shares


if __name__ == "__main__":
    main()
