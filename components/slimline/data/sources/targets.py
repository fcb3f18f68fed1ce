"""Targets that are no classes: numbers to predict, masks of pixels, boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from slimline.data.dataset import Task

_MASK_AXES, _BOX_AXES, _BOX = 3, 3, 5
_MOST_OUTPUTS_AXES = 2
_MOST_CLASSES = 10_000


def targets_fit(array: NDArray[Any], task: Task, examples: tuple[int, ...]) -> bool:
    """Whether an array can be the targets of a task, for examples of this shape."""
    if task == "regression":
        return array.dtype.kind in "iuf" and 1 <= array.ndim <= _MOST_OUTPUTS_AXES
    if task == "segmentation":
        return (
            array.dtype.kind in "iu"
            and array.ndim == _MASK_AXES == len(examples) - 1
            and (array.shape[1:] == examples[1:3])
        )
    return array.dtype.kind == "f" and array.ndim == _BOX_AXES and array.shape[2] == _BOX


def from_targets(
    arrays: Sequence[NDArray[Any]], task: Task, labels: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Check the classes in masks or boxes; returns the labels, numbers where none are given.

    Raises:
        BadData: on a class below -1, one that is no whole number, or one that has no label.
    """
    if task == "regression":
        return ()
    parts = [a[..., 4] if task == "detection" else a for a in arrays]
    parts = [part for part in parts if part.size]
    low = min((float(part.min()) for part in parts), default=0.0)
    high = max((float(part.max()) for part in parts), default=-1.0)
    most = len(labels) if labels else _MOST_CLASSES
    if not -1 <= low <= high < most or any((part % 1 != 0).any() for part in parts):
        msg = (
            f"source.y: classes from {low:g} to {high:g} are not whole numbers in -1..{most - 1}: "
            "correct them, or name every class in source.labels"
        )
        raise BadData(msg)
    return labels or tuple(str(i) for i in range(int(high) + 1))
