"""scikit-learn's digits as the three splits of `Dataset` artifacts, for the rooms that train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits

from slimline.data.dataset import DatasetInfo, Examples, save_examples

if TYPE_CHECKING:
    from pathlib import Path

LABELS = tuple("0123456789")


@dataclass(frozen=True)
class Splits:
    train: Path
    selection: Path
    test: Path

    def inputs(self) -> dict[str, Any]:
        return {"train": self.train, "selection": self.selection}


def write_digits(root: Path, *, wrong_labels: bool = False, most: int = 1797) -> Splits:
    """Write the three splits of the 1,797 scans; the training labels all wrong if asked."""
    digits = load_digits()
    x = np.minimum(digits.images * 16, 255).astype(np.uint8)[..., None]
    y = digits.target.astype(np.int64)
    random = np.random.default_rng(0)
    order = random.permutation(len(y))[:most]
    parts = np.split(order, [round(most * 0.7), round(most * 0.85)])
    for split, chosen in zip(("train", "selection", "test"), parts, strict=True):
        labels = y[chosen]
        if wrong_labels and split == "train":
            labels = (labels + random.integers(1, 10, len(labels))) % 10
        write_split(root / split, split, x[chosen], labels)
    return Splits(root / "train", root / "selection", root / "test")


def write_split(target: Path, split: Any, x: Any, y: Any, **changes: Any) -> None:
    """Write one split from arrays."""
    target.mkdir(parents=True)
    fields = {"name": "digits", "split": split, "shape": x.shape[1:], "dtype": str(x.dtype)}
    fields |= {"labels": LABELS, "count": len(y), "source_digest": "0" * 64}
    info = DatasetInfo.model_validate(fields | changes)
    save_examples(Examples(info, x, y, np.arange(len(y))), target)


def small_factory(*widths: int) -> dict[str, Any]:
    return {"call": "slimline.models.zoo:small_cnn", "arguments": {"widths": list(widths)}}
