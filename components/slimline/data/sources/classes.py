"""Turn labels as a file writes them, numbers or names, into class indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.data.sources.raw import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_MOST_NUMBERED = 10_000
"""Without names, a class index above this is taken for damage, not for so many classes."""


def from_indices(
    values: NDArray[Any], labels: tuple[str, ...] | None, where: str
) -> NDArray[np.int64]:
    """Check class indices against the names, where there are some.

    Args:
        values: indices as they were read; -1 says that the label is missing.
        labels: the names; None takes any index up to a sane limit.
        where: the file, for the message.

    Raises:
        BadData: on an index that has no name; says the row.
    """
    import numpy as np

    top = len(labels) if labels else _MOST_NUMBERED
    wrong = np.flatnonzero((values >= top) | ((values < 0) & (values != MISSING)))
    if len(wrong):
        row = int(wrong[0])
        msg = (
            f"{where}: row {row} has label {values[row]}, outside the set 0..{top - 1}: "
            "correct the row, or name every class in source.labels"
        )
        raise BadData(msg)
    return values.astype(np.int64)


def numbered(*parts: NDArray[np.int64]) -> tuple[str, ...]:
    """Names for classes that have none: "0", "1", ... up to the highest index seen."""
    top = max((int(y.max()) for y in parts if len(y)), default=-1)
    return tuple(str(i) for i in range(top + 1))


def names_found(values: Iterable[str | None]) -> tuple[str, ...]:
    """The names that occur, sorted; as numbers if all of them are whole numbers."""
    found = {v for v in values if v is not None}
    if all(v.isascii() and v.isdigit() for v in found):
        return tuple(sorted(found, key=lambda v: (int(v), v)))
    return tuple(sorted(found))


def from_names(
    values: Sequence[str | None], labels: tuple[str, ...], where: str
) -> NDArray[np.int64]:
    """Look names up; None becomes `MISSING`.

    Raises:
        BadData: on a name that is not among the labels; says the row.
    """
    import numpy as np

    index = {name: i for i, name in enumerate(labels)}
    y = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        if value is not None and value not in index:
            msg = (
                f"{where}: row {row} has label {value!r:.80}, outside the set "
                f"{', '.join(labels)!r:.200}: correct the row, or add the class to source.labels"
            )
            raise BadData(msg)
        y[row] = MISSING if value is None else index[value]
    return y
