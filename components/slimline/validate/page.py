"""The report: one HTML page for people, with everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from slimline.measure.evaluation import slower_steps, speed_in_words
from slimline.measure.intervals import MEDIAN, WILSON
from slimline.measure.metrics import NAMES, UNBOUNDED
from slimline.measure.slices import upper_bound
from slimline.validate.layers import count_operators, read_layers, side_by_side
from slimline.validate.plots import (
    confusion_plot,
    front_plot,
    latency_plot,
    metric_plot,
    picture,
    reliability_plot,
    size_plot,
)
from slimline.validate.template import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples
    from slimline.measure.evaluation import EvaluationRecord, StageNumbers
    from slimline.measure.latency import Latency
    from slimline.validate.answers import Answers
    from slimline.validate.stages import Stage

_MOST_PICTURES = 48
_IMAGE_RANK = 3


@dataclass(frozen=True)
class Evidence:
    """What the numbers were made of."""

    examples: Examples
    stages: Sequence[Stage]
    answered: Sequence[Answers]
    times: Sequence[Latency]
    in_batches: Sequence[Latency] | None = None


def render(record: EvaluationRecord, evidence: Evidence) -> str:
    """The page as text; every name that came from outside is escaped."""
    paired = record.non_inferiority
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["value"] = value_of(paired.metric)
    environment.filters["change"] = change_of(paired.metric)
    names = [stage.stage for stage in record.stages]
    return environment.from_string(PAGE).render(
        name=evidence.stages[-1].info.name,
        dataset=evidence.examples.info,
        record=record,
        paired=paired,
        summary=_summary(record),
        slower=_is_slower(record.stages[-1]),
        slower_steps=slower_steps(record.stages),
        names=names,
        plots=_plots(record, evidence),
        parts=_parts(record),
        classes=[] if record.slices else _classes(record),
        **_differences(evidence),
        layers=side_by_side([read_layers(stage.path) for stage in evidence.stages]),
        operators=[count_operators(stage.path) for stage in evidence.stages],
        agreement=_agreement(evidence),
        parity=parity_in_words(evidence.stages[-1].info.history),
        history=evidence.stages[-1].info.history,
        wilson=WILSON,
        median=MEDIAN,
    )


def value_of(metric: str) -> Callable[[float], str]:
    """How a metric's value is written: as percent, or as the number it is."""
    return (lambda v: f"{100 * v:.2f} %") if _is_fraction(metric) else (lambda v: f"{v:.4g}")


def change_of(metric: str) -> Callable[[float], str]:
    """How a difference of two of its values is written."""
    return (lambda v: f"{100 * v:.2f} points") if _is_fraction(metric) else (lambda v: f"{v:.4g}")


def _is_fraction(metric: str) -> bool:
    return metric in NAMES and metric not in UNBOUNDED


def _summary(record: EvaluationRecord) -> str:
    first, last, paired = record.stages[0], record.stages[-1], record.non_inferiority
    value, change = value_of(paired.metric), change_of(paired.metric)
    named = paired.metric[:1].upper() + paired.metric[1:]
    return (
        f"{last.stage} is {last.shrink:.2f} times smaller than {first.stage} and "
        f"{speed_in_words(last, first.stage)}. {named} went from {value(first.measured.value)} to "
        f"{value(last.measured.value)}; with {100 * paired.confidence:.4g} % confidence it is "
        f"worse by at most {change(paired.upper_bound)}, {change(paired.margin)} are accepted."
    )


def parity_in_words(history: Sequence[str]) -> str:
    """What is known of the way from the source to the ONNX file, by what was done."""
    if any(line.startswith("exported to ONNX") for line in history):
        return "Torch and ONNX answer alike: export checked it, and would have stopped otherwise."
    if any(line.startswith("adopted from an ONNX file") for line in history):
        return "The ONNX file was adopted: its form was checked against the file that was given."
    return "Nothing is known of parity with the model that this ONNX file was made from."


def _is_slower(stage: StageNumbers) -> bool:
    interval = stage.speedup_interval
    return (interval.high if interval else stage.speedup) < 1


def _plots(record: EvaluationRecord, evidence: Evidence) -> dict[str, str]:
    stages, paired = record.stages, record.non_inferiority
    sign = 1 if paired.higher_is_better else -1
    best = stages[0].measured.value
    unit = 100 if _is_fraction(paired.metric) else 1
    drop = f"worse in {paired.metric}" + (", points" if unit > 1 else "")
    drops = [sign * unit * (best - stage.measured.value) for stage in stages]
    plots = {
        f"{paired.metric} of each stage": metric_plot(stages, paired.metric),
        "size of each stage": size_plot(stages),
        "latency of each stage": latency_plot(stages, evidence.times),
        "drop against latency": front_plot(
            stages,
            drops,
            [s.latency_ms.value for s in stages],
            drop=drop,
            cost="median latency, ms",
        ),
        "drop against size": front_plot(
            stages, drops, [s.bytes / 1000 for s in stages], drop=drop, cost="model.onnx in kB"
        ),
    }
    if stages[0].reliability:
        plots["reliability: how often answers that sure are right"] = reliability_plot(stages)
        table = _confusion(evidence.answered[-1], evidence.examples)
        labels = evidence.examples.info.labels
        plots["confusion of the candidate"] = confusion_plot(table, labels)
    return plots


def _confusion(answers: Answers, examples: Examples) -> NDArray[np.int64]:
    import numpy as np

    table = np.zeros((len(examples.info.labels),) * 2, np.int64)
    np.add.at(table, (examples.y, answers.predicted), 1)
    return table


def _parts(record: EvaluationRecord) -> list[dict[str, Any]]:
    """Classes and slices, the worst first, with a bound of its own and one for all together."""
    confidence = record.non_inferiority.confidence
    together = 1 - (1 - confidence) / max(1, len(record.slices))
    rows = [
        {
            "part": part,
            "value": value_of(part.metric),
            "change": change_of(part.metric),
            "alone": upper_bound(part, confidence),
            "together": upper_bound(part, together),
        }
        for part in record.slices
    ]
    return sorted(rows, key=lambda row: -row["part"].drop)


def _classes(record: EvaluationRecord) -> list[dict[str, Any]]:
    """Classes of a task in which an example has more than one."""
    first, last = record.stages[0].per_class, record.stages[-1].per_class
    rows = [
        {"label": label, "first": first[label], "last": last[label]}
        for label in first
        if label in last
    ]
    return sorted(rows, key=lambda row: row["last"] - row["first"])


def _agreement(evidence: Evidence) -> list[float] | None:
    """Share of examples on which each classifier gives the baseline's answer."""
    first = evidence.answered[0].predicted
    if len(first) == 0:
        return None
    return [float((found.predicted == first).mean()) for found in evidence.answered]


def _differences(evidence: Evidence) -> dict[str, Any]:
    """Examples that only one of baseline and candidate gets right; those lost come before."""
    first, last, examples = evidence.answered[0], evidence.answered[-1], evidence.examples
    if len(first.predicted) == 0:
        return {"disputed": [], "disputed_count": None}
    labels = examples.info.labels
    lost, won = first.right & ~last.right, ~first.right & last.right
    shown = [*lost.nonzero()[0], *won.nonzero()[0]][:_MOST_PICTURES]
    is_image = examples.x.dtype == "uint8" and examples.x.ndim == _IMAGE_RANK + 1
    cards = [
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
    return {"disputed": cards, "disputed_count": int(lost.sum() + won.sum())}
