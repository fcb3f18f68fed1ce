"""Classes and slices of the test split, and the paired comparison on each of them."""

from __future__ import annotations

import operator
import re
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters
from slimline.measure.bootstrap import paired_bound
from slimline.measure.evaluation import SliceComparison

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples
    from slimline.measure.metric import Metric
    from slimline.validate.answers import Answers
    from slimline.validate.spec import Validate

_CONDITION = re.compile(r"^(?P<column>.+?)\s*(?P<how><=|>=|!=|=|<|>)\s*(?P<value>.+)$")
_HOW = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MOST_VALUES = 50


def compare_parts(
    job: Validate,
    examples: Examples,
    metric: Metric,
    answered: Sequence[Answers],
    right: Metric | None,
) -> tuple[SliceComparison, ...]:
    """Each class by accuracy, where there is one; then each slice by the evaluation's metric.

    Args:
        job: names the slices.
        examples: the test split.
        metric: what the evaluation is about.
        answered: of all models, the baseline's first and the candidate's last.
        right: accuracy, of a classifier.
    """
    first, last = answered[0].rows, answered[-1].rows
    found = []
    if right is not None:
        for name, mask in class_masks(examples).items():
            found.append(
                _compare(job, name, right, first["accuracy"][mask], last["accuracy"][mask])
            )
    for name, mask in slice_masks(examples, job.slices).items():
        rows = first[metric.name][mask], last[metric.name][mask]
        found.append(_compare(job, name, metric, *rows))
    return tuple(found)


def class_masks(examples: Examples) -> dict[str, NDArray[np.bool_]]:
    """The examples of each class that the split has."""
    masks = {f"class {n}": examples.y == i for i, n in enumerate(examples.info.labels)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def slice_masks(examples: Examples, slices: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """The examples of each slice.

    Args:
        examples: with the columns that are named.
        slices: `night` is where a column of booleans is true, and each value of any other column;
            `light=dark` and `age>=65` compare with a value.

    Raises:
        BadParameters: on a column that is not there, or a value that does not compare with it.
        BadData: on a slice without examples.
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    for text in slices:
        masks |= _masks(text, examples.columns)
    for name, mask in masks.items():
        if not mask.any():
            msg = (
                f"slices: no example of the test split is in {name!r}: correct it, or leave it out"
            )
            raise BadData(msg)
    return masks


def _masks(text: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    found = None if text in columns else _CONDITION.match(text)
    name = found["column"] if found else text
    if name not in columns:
        there = ", ".join(columns) or "none; name some in columns of the data's source"
        msg = f"slices: the test split has no column {name!r}; it has {there}"
        raise BadParameters(msg)
    column = columns[name]
    if found:
        return {text: _HOW[found["how"]](column, _value(text, found["value"], column))}
    if column.dtype.kind == "b":
        return {text: column}
    values = sorted(set(column.tolist()))
    if len(values) > _MOST_VALUES:
        msg = f"slices: column {name!r} has {len(values)} values; compare it, as in {name}>=1"
        raise BadParameters(msg)
    return {f"{name}={value}": column == value for value in values}


def _value(text: str, value: str, column: NDArray[Any]) -> str | float | bool:
    if column.dtype.kind == "U":
        return value
    if column.dtype.kind == "b" and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    try:
        return float(value)
    except ValueError as error:
        msg = f"slices: {text!r} compares {column.dtype} with {value!r}: give a number"
        raise BadParameters(msg) from error


def _compare(
    job: Validate, name: str, metric: Metric, first: NDArray[Any], last: NDArray[Any]
) -> SliceComparison:
    values = metric.value(first), metric.value(last)
    common: dict[str, Any] = {
        "name": name,
        "metric": metric.name,
        "examples": len(first),
        "baseline": values[0],
        "candidate": values[1],
    }
    if metric.binary:
        lost, won = int((first > last).sum()), int((first < last).sum())
        counts = {"only_baseline_right": lost, "only_candidate_right": won}
        return SliceComparison(**common, **counts, drop=(lost - won) / len(first))
    bound = paired_bound(
        metric, first, last, confidence=job.confidence, resamples=job.resamples, seed=job.seed
    )
    error = bound.standard_error
    if metric.discrete:
        # As in `paired_bound`: what no example shows is not impossible.
        z = NormalDist().inv_cdf(job.confidence)
        error = max(error, z / (len(first) + z * z))
    return SliceComparison(**common, drop=bound.drop, standard_error=error)
