"""The Great Expectations suite that the parameters ask for, and what it found.

Results come back in another order than the suite, so each expectation carries its key in `meta`.
Great Expectations passes values-between on nulls and on an empty table: `verdict` looks again.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.check_data.frames import COLUMNS, shape_text
from slimline.data.split import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd  # type: ignore[import-untyped]
    from great_expectations.expectations.expectation import Expectation

    from slimline.check_data.spec import Expectations
    from slimline.data.dataset import Task
    from slimline.data.sources import Raw

_BYTES = (0.0, 255.0)
_SHOWN = 5
_CHATTY = "great_expectations.data_context.types.base"
"""Sets itself to INFO, to tell of a directory that nobody uses."""


@dataclass(frozen=True)
class Check:
    """One expectation: its key, what it expects in words, the cure, and how GX tests it."""

    key: str
    expected: str
    cure: str
    kind: str
    """Name of the class in `great_expectations.expectations`."""
    settings: dict[str, Any]

    def expectation(self) -> Expectation:
        """The GX expectation, which carries the key."""
        import great_expectations as gx

        made: Expectation = getattr(gx.expectations, self.kind)(
            **self.settings, meta={"check": self.key}
        )
        return made


@dataclass(frozen=True)
class Finding:
    """What one check observed; `observed` is None when it could not be evaluated."""

    key: str
    expected: str
    observed: float | str | None
    passed: bool
    cure: str


@dataclass(frozen=True)
class Validation:
    """The table that was looked at, our findings, and GX's own result as plain JSON."""

    frame: pd.DataFrame
    findings: tuple[Finding, ...]
    result: dict[str, Any]


def example_checks(expect: Expectations, raw: Raw) -> Iterator[Check]:
    """Checks on the table of examples."""
    yield Check(
        "schema",
        f"columns {', '.join(COLUMNS)}",
        "report this: the table is made by check_data itself",
        "ExpectTableColumnsToMatchOrderedList",
        {"column_list": list(COLUMNS)},
    )
    yield Check(
        "rows", "at least 1 example", "give a source with examples",
        "ExpectTableRowCountToBeBetween", {"min_value": 1},
    )  # fmt: skip
    if raw.task == "classification":
        labels = expect.labels or raw.labels
        yield Check(
            "label_set",
            f"labels among {', '.join(labels)}",
            "correct the labels, or name every class in expectations.labels",
            "ExpectColumnValuesToBeInSet",
            {"column": "label", "value_set": list(labels)},
        )
    yield Check(
        "missing",
        f"a missing label or value in at most {expect.max_missing:.2%} of the examples",
        "fill in or remove those rows, or raise expectations.max_missing to leave them out",
        "ExpectColumnValuesToBeInSet",
        {"column": "missing", "value_set": [0], "mostly": 1 - expect.max_missing},
    )
    yield from _shape_checks(expect, raw)
    yield from _value_checks(expect, is_image=raw.x.dtype.kind == "u")


def split_checks(expect: Expectations, task: Task = "classification") -> Iterator[Check]:
    """Checks on the row of totals."""
    for split in SPLITS:
        least = getattr(expect, f"min_{split}")
        yield Check(
            f"{split}_examples",
            f"at least {least} examples in {split}",
            f"give more data, another fraction, or lower expectations.min_{split}",
            "ExpectColumnMinToBeBetween",
            {"column": f"{split}_examples", "min_value": least},
        )
        if task != "classification":
            continue
        yield Check(
            f"{split}_smallest",
            f"at least {expect.min_per_class} examples of each class in {split}",
            "give more data of the rarest class, or lower expectations.min_per_class",
            "ExpectColumnMinToBeBetween",
            {"column": f"{split}_smallest", "min_value": expect.min_per_class},
        )
        yield Check(
            f"{split}_ratio",
            f"largest class at most {expect.max_class_ratio:g} times the smallest in {split}",
            "balance the classes, or raise expectations.max_class_ratio",
            "ExpectColumnMaxToBeBetween",
            {"column": f"{split}_ratio", "max_value": expect.max_class_ratio},
        )


def validate(frame: pd.DataFrame, checks: Iterable[Check]) -> Validation:
    """Let GX evaluate the checks on a table, and match its results to them by key."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger(_CHATTY).setLevel(logging.WARNING)
    listed = tuple(checks)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("table")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name="check_data", expectations=[c.expectation() for c in listed])
    answer: Any = batch.validate(suite, result_format="SUMMARY")
    result = plain(answer.to_json_dict())
    by_key = {r["expectation_config"]["meta"]["check"]: r for r in result["results"]}
    findings = tuple(_finding(check, by_key.get(check.key)) for check in listed)
    kept = {
        "great_expectations_version": gx.__version__,
        "success": result["success"],
        "statistics": result["statistics"],
        "results": [by_key[c.key] for c in listed if c.key in by_key],
    }
    return Validation(frame, findings, kept)


def plain(value: Any) -> Any:
    """JSON without NaN and infinity: they become their names."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _shape_checks(expect: Expectations, raw: Raw) -> Iterator[Check]:
    shape = shape_text(expect.shape or raw.x.shape[1:])
    yield Check(
        "shape",
        f"every example of shape {shape}",
        "give the right source, resize with source.size, or correct expectations.shape",
        "ExpectColumnValuesToBeInSet",
        {"column": "shape", "value_set": [shape]},
    )


def _value_checks(expect: Expectations, *, is_image: bool) -> Iterator[Check]:
    defaults = _BYTES if is_image else (None, None)
    given = (expect.min_value, expect.max_value)
    limits = [d if g is None else g for g, d in zip(given, defaults, strict=True)]
    for side, limit, sign in (("min", limits[0], ">="), ("max", limits[1], "<=")):
        if limit is not None:
            yield Check(
                f"{side}_value",
                f"every value {sign} {limit:g}",
                f"correct the values, or expectations.{side}_value",
                "ExpectColumnValuesToBeBetween",
                {"column": side, f"{side}_value": limit},
            )
    if is_image:
        yield Check(
            "blank",
            f"an image of one colour in at most {expect.max_blank:.2%} of the examples",
            "look for broken images, or raise expectations.max_blank",
            "ExpectColumnValuesToBeBetween",
            {
                "column": "contrast",
                "min_value": 0,
                "strict_min": True,
                "mostly": 1 - expect.max_blank,
            },
        )


def _finding(check: Check, result: dict[str, Any] | None) -> Finding:
    passed = result is not None and result["success"] is True
    return Finding(check.key, check.expected, _observed(result), passed, check.cure)


def _observed(result: dict[str, Any] | None) -> float | str | None:
    """The observed value, or how many rows were not as expected and what they held."""
    found = (result or {}).get("result") or {}
    if "observed_value" in found:
        value = found["observed_value"]
        return ", ".join(str(v) for v in value) if isinstance(value, list) else value
    if "unexpected_count" not in found:
        return None
    count, of = found["unexpected_count"], found["element_count"]
    values = dict.fromkeys(str(v) for v in found.get("partial_unexpected_list") or [])
    shown = ", ".join(list(values)[:_SHOWN])
    return f"{count} of {of} otherwise" + (f": {shown}" if shown else "")
