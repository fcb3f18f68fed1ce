"""Run the models over the test split in batches; rows of metrics stay, answers do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.contract import progress
from slimline.measure.runtime import answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples
    from slimline.measure.metric import Metric
    from slimline.validate.stages import Stage

_MOST, _ROOM = 256, 2**21
"""Examples, and input values, in one batch."""


@dataclass(frozen=True)
class Answers:
    """What is kept of one model's answers."""

    rows: Mapping[str, NDArray[np.float64]]
    """By metric, a row for each example."""
    predicted: NDArray[np.int64]
    """The class, of a classifier; else empty."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer of a classifier is right."""
        found: NDArray[np.bool_] = self.rows["accuracy"][:, 0] > 0
        return found


def batches(examples: Examples) -> Iterator[slice]:
    """Cut a dataset so that a batch takes tens of megabytes at most."""
    step = max(1, min(_MOST, _ROOM // max(1, math.prod(examples.info.shape))))
    return (slice(start, start + step) for start in range(0, len(examples), step))


def answer_all(
    stages: Sequence[Stage], examples: Examples, metrics: Sequence[Metric]
) -> list[Answers]:
    """All models' answers, batch by batch, the baseline's first.

    Raises:
        BadData: when answers are not finite, or not what a metric takes.
    """
    import numpy as np

    rows: list[dict[str, list[Any]]] = [{m.name: [] for m in metrics} for _ in stages]
    classes: list[list[Any]] = [[] for _ in stages]
    parts = list(batches(examples))
    for part in progress(parts, len(parts), "validate: batches of the test split"):
        raw, targets = examples.x[part], examples.y[part]
        reference: Any = None
        for stage, kept, said in zip(stages, rows, classes, strict=True):
            found = answer(stage.session, stage.info.preprocessing.apply(raw), stage.what)
            reference = found if reference is None else reference
            for metric in metrics:
                kept[metric.name].append(metric.rows(found, targets, reference))
            if "accuracy" in kept:
                said.append(found.argmax(axis=1))
    none = np.zeros(0, np.int64)
    return [
        Answers(
            {name: np.concatenate(pieces) for name, pieces in kept.items()},
            np.concatenate([none, *said]),
        )
        for kept, said in zip(rows, classes, strict=True)
    ]
