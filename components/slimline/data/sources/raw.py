"""What every source gives: arrays that are checked, before they are split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.dataset import Task

MISSING = -1
"""The class index of an example whose label is missing."""


@dataclass(frozen=True)
class Raw:
    """All examples of a source, in its own order; the official test part comes last."""

    x: NDArray[np.generic]
    """uint8 images (n, height, width, channels), or float32 rows (n, features)."""
    y: NDArray[Any]
    """Class index, `MISSING` where the label is missing; or another task's targets."""
    id: NDArray[np.int64]
    """The example's place in its source, counted over all files from 0."""
    test: NDArray[np.bool_] | None
    """True for the official test part; None where the source has none."""
    labels: tuple[str, ...]
    digest: str
    """sha256 over what was read."""
    left_out: int = 0
    """Rows that the specification's filter left out."""
    task: Task = "classification"
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """What else is told about each example."""


@dataclass(frozen=True)
class Part:
    """One part of a source: the training files, or the official test files."""

    x: NDArray[np.generic]
    y: NDArray[Any]
    rows: NDArray[np.int64]
    """Places in the part, those of left-out rows missing."""
    total: int
    """Rows in the part, those left out included."""


def whole(x: NDArray[np.generic], y: NDArray[Any]) -> Part:
    """A part of which nothing was left out."""
    import numpy as np

    return Part(x, y, np.arange(len(y), dtype=np.int64), len(y))


def join(train: Part, test: Part | None, labels: tuple[str, ...], digest: str) -> Raw:
    """Put the training and the official test part together.

    Raises:
        BadData: when the test part has another shape.
    """
    import numpy as np

    left_out = train.total - len(train.y)
    if test is None:
        return Raw(train.x, train.y, train.rows, None, labels, digest, left_out)
    if len(test.y) and test.x.shape[1:] != train.x.shape[1:]:
        shapes = f"{list(test.x.shape[1:])}, training examples have {list(train.x.shape[1:])}"
        msg = f"examples of the official test part have shape {shapes}: give one size for both"
        raise BadData(msg)
    return Raw(
        x=np.concatenate([train.x, test.x.reshape((-1, *train.x.shape[1:]))]),
        y=np.concatenate([train.y, test.y]),
        id=np.concatenate([train.rows, test.rows + train.total]),
        test=np.arange(len(train.y) + len(test.y)) >= len(train.y),
        labels=labels,
        digest=digest,
        left_out=left_out + test.total - len(test.y),
    )


def too_large(what: str, found: int, limit: int, field: str) -> BadData:
    """A source that would take more room than it may."""
    return BadData(f"{what} is {found}, the limit is {limit}: raise source.{field} if it is right")
