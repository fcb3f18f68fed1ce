"""Mean intersection over union of segmentation: over all pixels of all images, mean of classes.

Source: M. Everingham et al., "The PASCAL visual object classes challenge: a retrospective",
International Journal of Computer Vision 111 (2015), 98-136. An example is an image: images are
drawn anew in a bootstrap, pixels of one image stay together.
"""

from __future__ import annotations

from typing import Any

from slimline.contract import BadData
from slimline.measure.metric import Metric, mean_of

_LOGITS_AXES = 4
IGNORED = -1
"""A pixel of this class counts for nothing."""


def mean_iou(classes: int) -> Metric:
    """The metric; answers are logits (N, classes, H, W), targets classes (N, H, W)."""
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        _check(answers, targets, classes)
        found = answers.argmax(axis=1)
        made = np.empty((len(targets), 2 * classes))
        for i, (ours, due) in enumerate(zip(found, targets, strict=True)):
            counts = due != IGNORED
            both, said = due[counts & (ours == due)], ours[counts]
            shared = np.bincount(both, minlength=classes)
            either = np.bincount(said, minlength=classes) - shared
            either = either + np.bincount(due[counts], minlength=classes)
            made[i] = np.concatenate([shared, either])
        return made

    def values(rows: Any, weights: Any) -> Any:
        return np.nan_to_num(np.nanmean(_shares(mean_of(rows, weights)), axis=1))

    def per_class(rows: Any) -> Any:
        return _shares(rows.mean(axis=0)[None])[0]

    return Metric("mean_iou", rows, values, per_class=per_class)


def _shares(means: Any) -> Any:
    """Intersection over union of each class; NaN where a class is neither there nor answered."""
    import numpy as np

    shared, either = np.split(means, 2, axis=1)
    return np.where(either > 0, shared / np.where(either > 0, either, 1), np.nan)


def _check(answers: Any, targets: Any, classes: int) -> None:
    due = (len(targets), classes, *targets.shape[1:])
    if answers.ndim != _LOGITS_AXES or answers.shape != due:
        msg = (
            f"answers {list(answers.shape)} to masks {list(targets.shape)} of {classes} classes: "
            f"logits {list(due)} are needed"
        )
        raise BadData(msg)
