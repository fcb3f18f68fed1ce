"""The report: one HTML page for people, with everything in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from slimline.measure.evaluation import slower_steps, speed_in_words
from slimline.measure.intervals import MEDIAN, WILSON
from slimline.validate.plots import (
    accuracy_plot,
    confusion_plot,
    latency_plot,
    picture,
    size_plot,
)
from slimline.validate.template import PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples
    from slimline.measure.evaluation import EvaluationRecord, StageNumbers
    from slimline.measure.latency import Latency
    from slimline.validate.stages import Stage

_MOST_PICTURES = 48
_IMAGE_RANK = 3


def render(
    record: EvaluationRecord,
    examples: Examples,
    stages: Sequence[Stage],
    times: Sequence[Latency],
) -> str:
    """The page as text; every name that came from outside is escaped."""
    paired = record.non_inferiority
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(PAGE).render(
        name=stages[-1].info.name,
        dataset=examples.info,
        record=record,
        paired=paired,
        summary=_summary(record),
        slower=_is_slower(record.stages[-1]),
        slower_steps=slower_steps(record.stages),
        accuracy=accuracy_plot(record.stages),
        size=size_plot(record.stages),
        latency=latency_plot(record.stages, times),
        confusion=confusion_plot(_confusion(stages[-1], examples), examples.info.labels),
        classes=_classes(record, examples),
        disputed=_disputed(stages[0], stages[-1], examples),
        disputed_count=paired.only_baseline_right + paired.only_candidate_right,
        history=stages[-1].info.history,
        wilson=WILSON,
        median=MEDIAN,
    )


def _summary(record: EvaluationRecord) -> str:
    first, last, paired = record.stages[0], record.stages[-1], record.non_inferiority
    return (
        f"{last.stage} is {last.shrink:.2f} times smaller than {first.stage} and "
        f"{speed_in_words(last, first.stage)}. Accuracy went from {first.accuracy.value:.2%} to "
        f"{last.accuracy.value:.2%}; with {100 * paired.confidence:.4g} % confidence the drop is "
        f"at most {100 * paired.upper_bound:.2f} points, {100 * paired.margin:.2f} are accepted."
    )


def _is_slower(stage: StageNumbers) -> bool:
    interval = stage.speedup_interval
    return (interval.high if interval else stage.speedup) < 1


def _confusion(stage: Stage, examples: Examples) -> NDArray[np.int64]:
    import numpy as np

    table = np.zeros((len(examples.info.labels),) * 2, np.int64)
    np.add.at(table, (examples.y, stage.predicted), 1)
    return table


def _classes(record: EvaluationRecord, examples: Examples) -> list[dict[str, Any]]:
    first, last = record.stages[0].per_class, record.stages[-1].per_class
    rows = []
    for index, label in enumerate(examples.info.labels):
        count = int((examples.y == index).sum())
        if count:
            row = {"label": label, "count": count, "first": first[label], "last": last[label]}
            rows.append({**row, "change": last[label] - first[label]})
    return sorted(rows, key=lambda row: row["change"])


def _disputed(first: Stage, last: Stage, examples: Examples) -> list[dict[str, Any]]:
    """Examples that only one of baseline and candidate gets right; those lost come before."""
    labels = examples.info.labels
    lost, won = first.right & ~last.right, ~first.right & last.right
    shown = [*lost.nonzero()[0], *won.nonzero()[0]][:_MOST_PICTURES]
    is_image = examples.x.dtype == "uint8" and examples.x.ndim == _IMAGE_RANK + 1
    return [
        {
            "id": int(examples.id[i]),
            "picture": picture(examples.x[i]) if is_image else "",
            "truth": labels[examples.y[i]],
            "first": labels[first.predicted[i]],
            "last": labels[last.predicted[i]],
            "lost": bool(lost[i]),
        }
        for i in shown
    ]
