"""Our own verdict: every check was evaluated, every number is finite, nothing is empty.

Great Expectations says yes to an empty table and to NaN, so its yes is needed but not enough.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slimline.check_data.suite import Finding
from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slimline.check_data.spec import Expectations
    from slimline.data.dataset import Examples, Split
    from slimline.data.sources import Raw


def refuse_unusable(raw: Raw) -> None:
    """Stop before anything is computed on nothing, or on infinity.

    Raises:
        BadData: when there is no example, no value in an example, or one that is infinite.
    """
    import numpy as np

    if raw.x.size == 0 or (len(raw.labels) == 0 and raw.task != "regression"):
        msg = f"the source holds no example (shape {list(raw.x.shape)}): give one that does"
        raise BadData(msg)
    if raw.x.dtype.kind == "f" and np.isinf(raw.x).any():
        row, *at = (int(i) for i in np.argwhere(np.isinf(raw.x))[0])
        msg = (
            f"example {int(raw.id[row])} has an infinite value at {at} (as float32): "
            "correct it, or bring the feature to a smaller range"
        )
        raise BadData(msg)


def label_order(expect: Expectations, raw: Raw) -> Finding:
    """The place of a label is its class index, so the order matters; GX looks at sets only."""
    wanted = expect.labels or raw.labels
    return Finding(
        "label_order",
        f"classes in the order {', '.join(wanted)}",
        ", ".join(raw.labels),
        wanted == raw.labels,
        "name the classes in that order in source.labels, or correct expectations.labels",
    )


def judge(name: str, findings: Iterable[Finding], splits: Mapping[Split, Examples]) -> None:
    """Let the data pass, or say everything that is wrong with it.

    Raises:
        BadData: a line for each failed check: its name, expected, observed, cure.
    """
    wrong = [_line(f) for f in findings if not (f.passed and _is_evaluated(f))]
    wrong += [line for split, examples in splits.items() for line in _not_finite(split, examples)]
    if wrong:
        raise BadData("\n".join([f"dataset {name} is refused: {len(wrong)} failed", *wrong]))


def _is_evaluated(finding: Finding) -> bool:
    """Whether there is an observed value, and it is finite where it is a number."""
    if isinstance(finding.observed, str):
        return finding.observed not in ("", "nan", "inf", "-inf")
    return finding.observed is not None and math.isfinite(finding.observed)


def _line(finding: Finding) -> str:
    observed = "nothing" if finding.observed is None else finding.observed
    return (
        f"- {finding.key}: expected {finding.expected:.300}; observed {observed!s:.300}; "
        f"{finding.cure}"
    )


def _not_finite(split: str, examples: Examples) -> list[str]:
    import numpy as np

    if len(examples) == 0:
        return [f"- finite: the {split} split is empty; give more data or another fraction"]
    if not (np.isfinite(examples.x).all() and np.isfinite(examples.y).all()):
        return [f"- finite: the {split} split holds NaN or infinity; clean the data"]
    return []
