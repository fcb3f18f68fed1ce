"""Split by a stable hash: an example's own bytes say where it goes.

The guarantee: no example of the test split has the same bytes as one of training or selection
(calibration takes training examples), and none of selection the same as one of training. It holds
because equal bytes have equal hashes, whatever their order, number or place, and because training
copies of official test examples are dropped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from slimline.data.dataset import DatasetInfo, Examples, Split
from slimline.data.sources.raw import MISSING, Raw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS: tuple[Split, ...] = get_args(Split)
LEFT_OUT_MISSING, LEFT_OUT_DUPLICATE, LEFT_OUT_LIMIT = "missing", "duplicate", "limit"
_WORD = 8
_TWO_64 = 2.0**64


@dataclass(frozen=True)
class Splitting:
    """How to split; equal settings and equal bytes give equal splits."""

    test_fraction: float
    """Share of all examples; not used where the source has an official test part."""
    selection_fraction: float
    """Share of the examples that are not test."""
    salt: str = ""
    """Another salt gives another, equally good split."""
    limit: int | None = None
    """At most so many examples a split, chosen by hash."""


@dataclass(frozen=True)
class Placement:
    """Where each example of a source goes, and what was seen on the way."""

    place: NDArray[np.str_]
    """"train", "selection", "test", or why it is left out: "missing", "duplicate", "limit"."""
    repeated: int
    """Examples whose bytes occurred before, anywhere in the source."""
    contradicting: int
    """Examples whose bytes occur with another label too."""

    def count(self, place: str) -> int:
        """The number of examples there."""
        return int((self.place == place).sum())

    def where(self, split: Split) -> NDArray[np.intp]:
        """Positions of a split's examples, in the source's order."""
        import numpy as np

        return np.flatnonzero(self.place == split)


def hashes(x: NDArray[np.generic], salt: str) -> list[bytes]:
    """sha256 of salt and bytes, for each example: 32 bytes each."""
    import numpy as np

    seed = hashlib.sha256(salt.encode() + b"\0")
    found = []
    for example in np.ascontiguousarray(x):
        state = seed.copy()
        state.update(example.tobytes())
        found.append(state.digest())
    return found


def place_examples(raw: Raw, how: Splitting) -> Placement:
    """Give every example its split."""
    import numpy as np

    digests = hashes(raw.x, how.salt)
    whole = ~missing_values(raw)
    place = np.array([_by_hash(d, how) for d in digests], dtype="<U9")
    if raw.test is not None:
        official = {d for d, is_test in zip(digests, raw.test & whole, strict=True) if is_test}
        again = Splitting(0.0, how.selection_fraction)
        place = np.array(
            [
                "test" if is_test else LEFT_OUT_DUPLICATE if d in official else _by_hash(d, again)
                for d, is_test in zip(digests, raw.test, strict=True)
            ],
            dtype="<U9",
        )
    place[~whole] = LEFT_OUT_MISSING
    if how.limit is not None:
        place = _limited(place, digests, how.limit)
    repeated, contradicting = _repetition(digests, raw.y, whole)
    return Placement(place, repeated, contradicting)


def missing_values(raw: Raw) -> NDArray[np.bool_]:
    """True for each example with a missing label or value."""
    import numpy as np

    missing: NDArray[np.bool_] = np.zeros(len(raw.y), np.bool_)
    if raw.task == "classification":
        missing = raw.y == MISSING
    elif raw.y.dtype.kind == "f":
        missing = np.isnan(raw.y.reshape(len(raw.y), -1)).any(axis=1)
    if raw.x.dtype.kind == "f":
        missing = missing | np.isnan(raw.x).any(axis=tuple(range(1, raw.x.ndim)))
    return missing


def _by_hash(digest: bytes, how: Splitting) -> Split:
    """Two independent words of the digest decide: test or not, then selection or not."""
    if int.from_bytes(digest[:_WORD]) / _TWO_64 < how.test_fraction:
        return "test"
    chosen = int.from_bytes(digest[_WORD : 2 * _WORD]) / _TWO_64 < how.selection_fraction
    return "selection" if chosen else "train"


def _limited(place: NDArray[np.str_], digests: list[bytes], limit: int) -> NDArray[np.str_]:
    """Keep the first examples of each split in the order of a third word of their digests."""
    import numpy as np

    kept = place.copy()
    for split in SPLITS:
        order = sorted(np.flatnonzero(place == split), key=lambda i: digests[i][2 * _WORD :])
        kept[order[limit:]] = LEFT_OUT_LIMIT
    return kept


def _repetition(digests: list[bytes], y: NDArray[Any], whole: NDArray[np.bool_]) -> tuple[int, int]:
    seen: dict[bytes, list[bytes]] = {}
    for digest, target, counts in zip(digests, y, whole.tolist(), strict=True):
        if counts:
            seen.setdefault(digest, []).append(target.tobytes())
    repeated = sum(len(labels) - 1 for labels in seen.values())
    contradicting = sum(len(labels) for labels in seen.values() if len(set(labels)) > 1)
    return repeated, contradicting


def take(raw: Raw, placement: Placement, split: Split, name: str) -> Examples:
    """One split as a dataset."""
    import numpy as np

    chosen = placement.where(split)
    info = DatasetInfo(
        name=name,
        split=split,
        shape=raw.x.shape[1:],
        dtype="uint8" if raw.x.dtype == np.uint8 else "float32",
        labels=raw.labels,
        count=len(chosen),
        source_digest=raw.digest,
        task=raw.task,
        target_shape=raw.y.shape[1:],
        columns=tuple(raw.columns),
    )
    columns = {column: values[chosen] for column, values in raw.columns.items()}
    return Examples(info, raw.x[chosen], raw.y[chosen], raw.id[chosen], columns)
