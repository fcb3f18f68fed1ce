"""What an evaluation is about: metrics as rows per example, so that examples can be drawn anew.

A metric turns a batch of answers and targets into one row of numbers per example, and rows with
weights into its value. So answers stream through in batches, and a bootstrap resamples rows and
never runs the model again. Weights have shape (resamples, examples); values (resamples,).

A metric of your own is `module:function`, of a package that the environment trusts (see
`slimline.models.build`). `function(answers, targets)` returns an array of shape (batch,) or
(batch, k); the metric is the mean over the examples, passed through `function.combine(means)` where
the function has such an attribute, with means of shape (resamples, k). It is an error, less is
better, where `function.lower_is_better` is true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters
from slimline.measure import classification, regression
from slimline.measure.detection import detection_metric
from slimline.measure.metric import Metric, first_mean, mean_of
from slimline.measure.segmentation import mean_iou

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSIFICATION = ("accuracy", "top5", "macro_f1", "balanced_accuracy", "log_loss", "brier", "ece")
REGRESSION = ("mae", "rmse", "r2")
SEGMENTATION = ("mean_iou",)
DETECTION = ("map", "map50")
EMBEDDING = ("cosine",)
NAMES = (*CLASSIFICATION, *REGRESSION, *SEGMENTATION, *DETECTION, *EMBEDDING)
DEFAULTS = {
    "classification": "accuracy",
    "regression": "rmse",
    "segmentation": "mean_iou",
    "detection": "map",
}
"""By a dataset's task."""
UNBOUNDED = ("log_loss", "mae", "rmse", "r2")
"""A margin of these is in their own unit; that of the others is a fraction."""
LOWER_IS_BETTER = ("log_loss", "brier", "ece", "mae", "rmse")

_BY_NAME: dict[str, Callable[[str], Metric]] = {**classification.METRICS, **regression.METRICS}


def task_of(name: str) -> str | None:
    """The task whose targets a metric needs; None where it takes any."""
    for task, names in (
        ("classification", CLASSIFICATION),
        ("regression", REGRESSION),
        ("segmentation", SEGMENTATION),
        ("detection", DETECTION),
    ):
        if name in names:
            return task
    return None


def find_metric(name: str, classes: int) -> Metric:
    """A metric by its name, or a function of your own.

    Args:
        name: one of `NAMES`, or `module:function`.
        classes: of the dataset; 0 where it has none.

    Raises:
        BadParameters: when there is none of that name, or its package is not trusted.
    """
    if ":" in name:
        return _own(name)
    if name in DETECTION:
        return detection_metric(name, classes)
    if name in SEGMENTATION:
        return mean_iou(classes)
    if name not in _BY_NAME:
        msg = f"metric: there is no {name!r}; give one of {', '.join(NAMES)} or module:function"
        raise BadParameters(msg)
    return _BY_NAME[name](name)


def _own(name: str) -> Metric:
    """A function of a trusted package; see the top of this file for what it is to return."""
    import numpy as np

    from slimline.models.build import find_factory  # noqa: PLC0415 - brings in the zoo

    function = find_factory(name, what="metric")
    combine = getattr(function, "combine", None)

    def rows(answers: Any, targets: Any, _: Any) -> Any:
        found = np.asarray(function(answers, targets), np.float64)
        if len(found.shape) not in {1, 2} or len(found) != len(targets):
            msg = f"metric {name} gave {list(found.shape)} for {len(targets)} examples: a row each"
            raise BadData(msg)
        return found.reshape(len(found), -1)

    def values(rows: Any, weights: Any) -> Any:
        if combine is None:
            return first_mean(rows, weights)
        combined = np.asarray(combine(mean_of(rows, weights)), np.float64)
        if combined.shape != (len(weights),):
            msg = f"metric {name}: combine gave {list(combined.shape)}, {len(weights)} are due"
            raise BadData(msg)
        return combined

    return Metric(name, rows, values, higher_is_better=not getattr(function, "lower_is_better", 0))
