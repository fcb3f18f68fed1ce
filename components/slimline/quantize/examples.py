"""The examples that choose: some set ranges and rounding, others judge, none is ever a test one.

The dataset is mapped, not read: raw examples are kept of those alone that were drawn, and model
inputs are made a batch at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters
from slimline.data.dataset import load_examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.preprocess import Preprocessing
    from slimline.models.info import ModelInfo
    from slimline.quantize.spec import Quantize

_BATCH = 32
LEAST_SAMPLES = 32


@dataclass(frozen=True)
class Stream:
    """Raw examples with their classes, given out as model inputs."""

    raw: NDArray[np.generic]
    y: NDArray[np.int64]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)

    def batches(self, most: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Model inputs, float32, at most 32 in memory; `most` examples, or all."""
        end = len(self) if most is None else min(most, len(self))
        for start in range(0, end, _BATCH):
            yield self.preprocessing.apply(self.raw[start : min(start + _BATCH, end)])


@dataclass(frozen=True)
class Drawn:
    """Two disjoint draws from the training split."""

    fit: Stream
    """Choose ranges and rounding."""
    judge: Stream
    """Choose among what was made: loss, sensitivity, budget."""


def draw_examples(job: Quantize, info: ModelInfo) -> Drawn:
    """Draw from the training split; both draws are empty when there is no dataset.

    A set too small for both gives a quarter of what it has to the judges.

    Raises:
        BadParameters: when the scheme needs examples and has none.
        BadData: on another split than train, or fewer than 32 examples.
    """
    import numpy as np

    if job.calibration is None:
        if job.needs_examples():
            msg = (
                f"calibration: {job.scheme} needs the train split; give it or use a scheme that "
                "needs none, such as int8-dynamic"
            )
            raise BadParameters(msg)
        none = np.zeros((0, *info.preprocessing.shape), info.preprocessing.dtype)
        empty = Stream(none, np.zeros(0, np.int64), info.preprocessing)
        return Drawn(empty, empty)
    examples = load_examples(job.calibration.path, split="train", mapped=True)
    if len(examples) < LEAST_SAMPLES:
        msg = (
            f"calibration set has {len(examples)} examples, {job.scheme} needs at least "
            f"{LEAST_SAMPLES}: give more data or use int8-dynamic"
        )
        raise BadData(msg)
    # By id, so that the order in which a source was read does not change the result.
    order = np.random.default_rng(job.seed).permutation(np.argsort(examples.id, kind="stable"))
    first, then = split_rows(order, job.calibration_samples, job.selection_samples)
    streams = [
        Stream(examples.x[rows], examples.y[rows], info.preprocessing) for rows in (first, then)
    ]
    return Drawn(*streams)


def split_rows(
    order: NDArray[np.int64], samples: int, judges: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first `samples` rows, and up to `judges` of those that follow."""
    first, then = order[:samples], order[samples : samples + judges]
    if len(then) < LEAST_SAMPLES:
        kept = len(first) - len(first) // 4
        first, then = first[:kept], first[kept:]
    return first, then
