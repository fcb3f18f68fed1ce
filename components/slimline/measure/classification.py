"""Metrics of classification, as scikit-learn has them; answers are logits or probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.measure.metric import Metric, first_mean, mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CALIBRATION_BINS = 15


def check_classes(answers: NDArray[Any], targets: NDArray[Any]) -> None:
    """Refuse answers that are no table of one row per example; raises BadData."""
    if answers.ndim != 2 or targets.ndim != 1:  # noqa: PLR2004 - a table, a column
        msg = (
            f"answers {list(answers.shape)} to targets {list(targets.shape)}: (examples, classes) "
            "is needed; give a metric of this task, or cut the model to the classifier"
        )
        raise BadData(msg)


def probabilities(answers: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax of logits; rows that are probabilities already stay as they are."""
    import numpy as np

    scores = answers.astype(np.float64)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    softmax: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return softmax


def _accuracy(name: str) -> Metric:
    def rows(answers: Any, targets: Any, _: Any) -> Any:
        check_classes(answers, targets)
        return (answers.argmax(axis=1) == targets)[:, None].astype(float)

    return Metric(name, rows, first_mean, binary=True)


def _top5(name: str) -> Metric:
    def rows(answers: Any, targets: Any, _: Any) -> Any:
        check_classes(answers, targets)
        best = (-answers).argsort(axis=1, kind="stable")[:, :5]
        return (best == targets[:, None]).any(axis=1)[:, None].astype(float)

    return Metric(name, rows, first_mean, binary=True)


def _of_counts(name: str) -> Metric:
    """Means over classes: of F1, or of recall (balanced accuracy), as scikit-learn has them."""
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        check_classes(answers, targets)
        return np.stack([targets, answers.argmax(axis=1)], axis=1).astype(float)

    def values(rows: Any, weights: Any) -> Any:
        true, answer = rows.astype(np.int64).T
        classes = int(max(true.max(), answer.max())) + 1
        right = true == answer
        found = []
        for weight in weights:
            hits = np.bincount(true[right], weight[right], classes)
            due = np.bincount(true, weight, classes)
            said = np.bincount(answer, weight, classes)
            top, below = (2 * hits, due + said) if name == "macro_f1" else (hits, due)
            found.append((top[below > 0] / below[below > 0]).mean())
        return np.array(found)

    return Metric(name, rows, values, discrete=True)


def _log_loss(name: str) -> Metric:
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        check_classes(answers, targets)
        own = probabilities(answers)[np.arange(len(targets)), targets]
        return -np.log(np.maximum(own, np.finfo(np.float64).tiny))[:, None]

    return Metric(name, rows, first_mean, higher_is_better=False)


def _brier(name: str) -> Metric:
    """Brier score of all classes: G. W. Brier, Monthly Weather Review 78 (1950), 1-3."""
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        check_classes(answers, targets)
        off = probabilities(answers)
        off[np.arange(len(targets)), targets] -= 1
        return (off**2).sum(axis=1, keepdims=True)

    return Metric(name, rows, first_mean, higher_is_better=False)


def _ece(name: str) -> Metric:
    """Expected calibration error over 15 bins of equal width.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural
    networks" (2017), arXiv:1706.04599. Columns: gap, confidence and count of each bin.
    """
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        check_classes(answers, targets)
        sure = probabilities(answers)
        confidence = sure.max(axis=1)
        gap = (sure.argmax(axis=1) == targets) - confidence
        # Bins are open below and closed above, as in the paper: 0 belongs to the first.
        at = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)
        made = np.zeros((len(targets), 3, CALIBRATION_BINS))
        made[np.arange(len(targets)), :, np.minimum(at, CALIBRATION_BINS - 1)] = np.stack(
            [gap, confidence, np.ones_like(gap)], axis=1
        )
        return made.reshape(len(targets), -1)

    def values(rows: Any, weights: Any) -> Any:
        return np.abs(mean_of(rows[:, :CALIBRATION_BINS], weights)).sum(axis=1)

    return Metric(name, rows, values, higher_is_better=False)


METRICS = {
    "accuracy": _accuracy,
    "top5": _top5,
    "macro_f1": _of_counts,
    "balanced_accuracy": _of_counts,
    "log_loss": _log_loss,
    "brier": _brier,
    "ece": _ece,
}
