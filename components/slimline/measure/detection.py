"""Mean average precision of object detection, as COCO measures it.

Answers are float32 (N, boxes, 6): x1, y1, x2, y2, score, class. Targets are float32 (N, boxes, 5):
x1, y1, x2, y2, class. Both are padded with rows of class -1. Coordinates are those of one system,
whichever; x2 and y2 lie beyond the box.

Average precision is the mean over 101 recalls of the precision envelope; `map` is the mean over
thresholds of overlap 0.50, 0.55, ... 0.95 and over classes, `map50` at 0.5 alone. An answer matches
the free target of its class and image with which it overlaps most; answers go first that have the
highest score, at most 100 an image. No class of sizes and no crowd regions are told apart.

Source: T.-Y. Lin et al., "Microsoft COCO: common objects in context" (2014), arXiv:1405.0312.
"""

from __future__ import annotations

from typing import Any

from slimline.contract import BadData
from slimline.measure.metric import Metric

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
_RECALLS = 101
_MOST = 100
_ANSWER, _TARGET, _AXES = 6, 5, 3


def detection_metric(name: str, classes: int) -> Metric:
    """`map` or `map50`.

    A row holds, for each of an image's answers, its score, class and whether it is right at each
    threshold, then the number of the image's targets of each class.
    """
    import numpy as np

    thresholds = THRESHOLDS if name == "map" else THRESHOLDS[:1]
    width = 2 + len(thresholds)

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        _check(answers, targets)
        made = np.zeros((len(targets), _MOST * width + classes))
        for row, found, due in zip(made, answers, targets, strict=True):
            real = due[due[:, 4] >= 0]
            best = found[found[:, 5] >= 0]
            best = best[np.argsort(-best[:, 4], kind="stable")[:_MOST]]
            judged = np.full((_MOST, width), -1.0)
            judged[: len(best), :2] = best[:, 4:6]
            judged[: len(best), 2:] = _matches(best, real, thresholds).T
            row[: _MOST * width] = judged.ravel()
            row[_MOST * width :] = np.bincount(real[:, 4].astype(int), minlength=classes)[:classes]
        return made

    def precisions(rows: Any, weights: Any) -> Any:
        answers = rows[:, : _MOST * width].reshape(len(rows), _MOST, width)
        return _average_precisions(answers, rows[:, _MOST * width :], weights)

    def values(rows: Any, weights: Any) -> Any:
        return np.nan_to_num(np.nanmean(precisions(rows, weights), axis=1))

    def per_class(rows: Any) -> Any:
        return precisions(rows, np.ones((1, len(rows))))[0]

    return Metric(name, rows, values, discrete=True, per_class=per_class)


def overlaps(first: Any, second: Any) -> Any:
    """Intersection over union of boxes (n, 4+) with boxes (m, 4+): float64 (n, m)."""
    import numpy as np

    a, b = first[:, None, :4].astype(np.float64), second[None, :, :4].astype(np.float64)
    sides = np.clip(
        np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None
    )
    shared = sides.prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(0).prod(axis=-1) for box in (a, b)]
    either = areas[0] + areas[1] - shared
    return np.where(either > 0, shared / np.where(either > 0, either, 1), 0.0)


def _matches(best: Any, real: Any, thresholds: tuple[float, ...]) -> Any:
    """Whether each answer, the surest first, finds a free target: (thresholds, answers)."""
    import numpy as np

    shared = overlaps(best, real)
    shared[best[:, 5][:, None] != real[:, 4][None]] = -1
    right = np.zeros((len(thresholds), len(best)))
    for t, threshold in enumerate(thresholds):
        free = shared.copy()
        for i in range(len(best)):
            at = int(free[i].argmax()) if len(real) else -1
            if at >= 0 and free[i, at] >= threshold - 1e-10:
                right[t, i] = 1
                free[:, at] = -1
    return right


def _average_precisions(answers: Any, due: Any, weights: Any) -> Any:
    """For each resample and class, the mean over thresholds; NaN where a class has no target."""
    import numpy as np

    classes = due.shape[1]
    found = np.full((len(weights), classes), np.nan)
    targets = weights @ due
    for label in range(classes):
        image, place = np.nonzero(answers[:, :, 1] == label)
        chosen = answers[image, place]
        order = np.argsort(-chosen[:, 0], kind="stable")
        right = chosen[order, 2:].T
        for b in np.flatnonzero(targets[:, label] > 0):
            weight = weights[b, image[order]]
            kept = weight > 0
            hits = np.cumsum(right[:, kept] * weight[kept], axis=1)
            said = np.cumsum(weight[kept])
            found[b, label] = _area(hits / targets[b, label], hits / said)
    return found


def _area(recall: Any, precision: Any) -> float:
    """Mean over thresholds and recalls 0, 0.01, ... 1 of the best precision from there on."""
    import numpy as np

    if precision.shape[1] == 0:
        return 0.0
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    wanted = np.linspace(0, 1, _RECALLS)
    total = 0.0
    for reached, best in zip(recall, envelope, strict=True):
        at = np.searchsorted(reached, wanted - 1e-12)
        total += best[at[at < len(best)]].sum() / _RECALLS
    return float(total / len(recall))


def _check(answers: Any, targets: Any) -> None:
    fits = answers.ndim == targets.ndim == _AXES
    if not fits or answers.shape[2] != _ANSWER or targets.shape[2] != _TARGET:
        msg = (
            f"answers {list(answers.shape)} to boxes {list(targets.shape)}: (N, boxes, 6) of x1, "
            "y1, x2, y2, score, class to (N, boxes, 5) is needed"
        )
        raise BadData(msg)
