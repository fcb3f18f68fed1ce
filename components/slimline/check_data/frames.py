"""The two tables that Great Expectations looks at: a row per example, and one row of totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.data.sources.raw import MISSING
from slimline.data.split import missing_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples, Split
    from slimline.data.sources import Raw
    from slimline.data.split import Placement

COLUMNS = ("id", "label", "place", "missing", "shape", "min", "max", "mean", "contrast")


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people write it: 28x28x1."""
    return "x".join(str(n) for n in shape)


def example_frame(raw: Raw, placement: Placement) -> pd.DataFrame:
    """A row for each example that was read, those that are left out included.

    `min`, `max`, `mean` and `contrast` (max - min) are null where a value is missing.
    """
    import numpy as np
    import pandas as pd

    rows: NDArray[np.generic] = raw.x.reshape(len(raw.y), -1)
    low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    names = np.array([*raw.labels, None], dtype=object)
    classes = np.full(len(raw.y), MISSING)
    if raw.task == "classification":
        classes = np.where(raw.y == MISSING, len(raw.labels), raw.y)
    columns = {
        "id": raw.id,
        "label": names[classes],
        "place": placement.place.astype(object),
        "missing": missing_values(raw).astype(np.int64),
        "shape": shape_text(raw.x.shape[1:]),
        "min": low,
        "max": high,
        "mean": rows.mean(axis=1, dtype=np.float64),
        "contrast": high - low,
    }
    return pd.DataFrame(columns, columns=COLUMNS)


def split_frame(splits: Mapping[Split, Examples]) -> pd.DataFrame:
    """One row: for each split its examples, its smallest class, and largest over smallest class.

    A class without examples counts as one in the ratio, so that the ratio stays a number; it is
    `smallest` that tells it.
    """
    import pandas as pd

    row: dict[str, float] = {}
    for split, examples in splits.items():
        row[f"{split}_examples"] = len(examples)
        row |= {f"{split}_{k}": v for k, v in class_balance(examples).items()}
    return pd.DataFrame([row])


def class_balance(examples: Examples) -> dict[str, float]:
    """Examples of the smallest class, and the largest class over it."""
    counts = class_counts(examples)
    smallest, largest = min(counts, default=0), max(counts, default=0)
    return {"smallest": smallest, "ratio": largest / max(smallest, 1)}


def class_counts(examples: Examples) -> list[int]:
    """Examples of each class, in the order of the labels; none where y is no class."""
    import numpy as np

    if examples.info.task != "classification":
        return []
    counted = np.bincount(examples.y, minlength=len(examples.info.labels))
    return [int(n) for n in counted]
