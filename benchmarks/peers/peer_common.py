"""What the scripts of the peers share; it runs in each peer's own environment (numpy alone).

A script is called with two folders. In the first lie `float.onnx` (input and answer named `input`
and `logits`), `weights.npz` (the same network's parameters by name), `calibration.npz` and
`selection.npz` (`x`, float32 as the network takes it, and `y`) and `train.npz` (`x` uint8, channels
last). Into the second it writes a file ONNX for each point, and `points.json` beside it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

INPUTS, OUT = (Path(path).resolve() for path in sys.argv[1:3])
QUICK = "quick" in sys.argv[3:]
"""To try the benchmark out: what takes long is cut short, and the figures are no result."""
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)


def examples(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images of a split as the network takes them, float32 (n, 3, 32, 32), and classes."""
    with np.load(INPUTS / f"{split}.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    if x.dtype == np.uint8:
        x = ((x.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x), y


def points(makers: dict[str, Callable[[Path], str]]) -> None:
    """Make each point that is not there; a maker gets the file to write, and says what it did.

    The seconds are those of the maker: no import, no reading of images. What a maker raises is its
    point's result.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    kept = OUT / "points.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for name, make in makers.items():
        if name in found:
            continue
        target = OUT / f"{name}.onnx"
        start = time.perf_counter()
        try:
            told = {"note": make(target), "file": target.name}
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it does is its result
            said = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
            told = {"error": f"{type(error).__name__}: {said[-1]:.200}"}
        found[name] = {**told, "seconds": time.perf_counter() - start}
        kept.write_text(json.dumps(found, indent=1))


def share_right(answers: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Accuracy, 0 to 1."""
    return float((answers.argmax(1) == y).mean())
