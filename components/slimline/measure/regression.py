"""Metrics of numbers: errors, explained variance, and how alike two embeddings are."""

from __future__ import annotations

from typing import Any

from slimline.contract import BadData
from slimline.measure.metric import Metric, first_mean, mean_of


def _numbers(answers: Any, targets: Any) -> tuple[Any, Any]:
    """Answers and targets as float64 (examples, outputs); raises BadData where they differ."""
    import numpy as np

    flat = [part.reshape(len(part), -1).astype(np.float64) for part in (answers, targets)]
    if flat[0].shape != flat[1].shape:
        msg = (
            f"answers {list(answers.shape)} to targets {list(targets.shape)}: one number for each "
            "target is needed"
        )
        raise BadData(msg)
    return flat[0], flat[1]


def _mae(name: str) -> Metric:
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        ours, due = _numbers(answers, targets)
        return np.abs(ours - due).mean(axis=1, keepdims=True)

    return Metric(name, rows, first_mean, higher_is_better=False)


def _rmse(name: str) -> Metric:
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        ours, due = _numbers(answers, targets)
        return ((ours - due) ** 2).mean(axis=1, keepdims=True)

    def values(rows: Any, weights: Any) -> Any:
        return np.sqrt(first_mean(rows, weights))

    return Metric(name, rows, values, higher_is_better=False)


def _r2(name: str) -> Metric:
    """Mean over outputs of 1 - squared error / variance; 0 where a target never changes."""
    import numpy as np

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        ours, due = _numbers(answers, targets)
        return np.concatenate([(ours - due) ** 2, due], axis=1)

    def values(rows: Any, weights: Any) -> Any:
        error, due = np.split(rows, 2, axis=1)
        due = due - due.mean(axis=0)
        outputs = due.shape[1]
        means = mean_of(np.concatenate([error, due, due**2], axis=1), weights)
        variance = means[:, 2 * outputs :] - means[:, outputs : 2 * outputs] ** 2
        flat = variance <= 1e-12 * (due**2).mean(axis=0)
        share = means[:, :outputs] / np.where(flat, 1, variance)
        return np.where(flat, (means[:, :outputs] == 0) * 1.0, 1 - share).mean(axis=1)

    return Metric(name, rows, values)


def _cosine(name: str) -> Metric:
    """Cosine of an example's embedding with the one that the baseline gives; its own is 1."""
    import numpy as np

    def rows(answers: Any, _: Any, reference: Any) -> Any:
        if answers.shape != reference.shape:
            msg = (
                f"embeddings {list(answers.shape)}, the baseline gives {list(reference.shape)}: "
                "cosine compares embeddings of one size; give another metric"
            )
            raise BadData(msg)
        ours, theirs = (a.reshape(len(a), -1).astype(np.float64) for a in (answers, reference))
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines = (ours * theirs).sum(axis=1) / np.where(lengths > 0, lengths, 1)
        # Two embeddings of length 0 are the same; one alone points nowhere.
        same = np.where((ours == theirs).all(axis=1), 1.0, cosines)
        return same[:, None]

    return Metric(name, rows, first_mean)


METRICS = {"mae": _mae, "rmse": _rmse, "r2": _r2, "cosine": _cosine}
