"""Weights that are indices into a short list of values.

k-means: the list is fitted to the weights (Han et al. 2015, "Deep Compression", arXiv:1510.00149).
Power of two: the list is 0 and plus or minus 2**e, so that a product is a shift where the hardware
has one (Miyashita et al. 2016, arXiv:1603.01025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROUNDS = 60
_BELOW, _ABOVE = 2, 1
"""Exponents around the largest weight's that are tried as the largest of the list."""


@dataclass(frozen=True)
class Codebook:
    """Values in rising order: shape (values,) for the whole tensor, or (rows, values)."""

    book: NDArray[np.float32]

    def code(self, values: NDArray[np.float32], column: int) -> NDArray[np.int64]:  # noqa: ARG002 - one book for all columns
        """The nearest entry's index; of two equally near the lower one."""
        import numpy as np

        if self.book.ndim == 1:
            return np.searchsorted((self.book[1:] + self.book[:-1]) / 2, values).astype(np.int64)
        return np.asarray(np.abs(values[:, None] - self.book).argmin(1))

    def value(self, codes: NDArray[np.int64], column: int) -> NDArray[np.float32]:  # noqa: ARG002 - one book for all columns
        """The entries."""
        import numpy as np

        if self.book.ndim == 1:
            return np.asarray(self.book[codes])
        return np.asarray(self.book[np.arange(len(codes)), codes])

    def rows(self, chosen: slice) -> Codebook:
        """The books of some rows."""
        return self if self.book.ndim == 1 else Codebook(self.book[chosen])


def kmeans_book(
    weight: NDArray[np.float32], bits: int, *, per_channel: bool, importance: NDArray[np.float64]
) -> Codebook:
    """Fit 2**bits values by Lloyd's algorithm.

    It begins on evenly spaced values, as Han et al. chose, and on quantiles; the better one stays.

    Args:
        weight: shape (rows, columns).
        bits: of an index.
        per_channel: a list for each row, not one for the tensor.
        importance: of each weight's squared error, same shape.
    """
    import numpy as np

    if per_channel:
        pairs = zip(weight, importance, strict=True)
        return Codebook(np.stack([_lloyd(w, i, 2**bits) for w, i in pairs]))
    return Codebook(_lloyd(weight.reshape(-1), importance.reshape(-1), 2**bits))


def power_book(
    weight: NDArray[np.float32], bits: int, *, per_channel: bool, importance: NDArray[np.float64]
) -> Codebook:
    """0 and powers of two of both signs; the largest exponent is that of least squared error.

    Args: as of `kmeans_book`. Of the 2**bits codes one stays unused: 0 has no sign.
    """
    import numpy as np

    if per_channel:
        pairs = zip(weight, importance, strict=True)
        return Codebook(np.stack([_powers(w, i, bits) for w, i in pairs]))
    return Codebook(_powers(weight.reshape(-1), importance.reshape(-1), bits))


def _lloyd(
    values: NDArray[np.float32], importance: NDArray[np.float64], count: int
) -> NDArray[np.float32]:
    import numpy as np

    order = np.argsort(values, kind="stable")
    x, w = values[order].astype(np.float64), importance.reshape(-1)[order]
    sums = [np.concatenate([[0.0], np.cumsum(part)]) for part in (w, w * x)]
    quantiles = np.quantile(x, (np.arange(count) + 0.5) / count)
    books = [_moved(b, x, sums) for b in (np.linspace(x[0], x[-1], count), quantiles)]
    errors = [float((w * (x - b[_owners(b, x)]) ** 2).sum()) for b in books]
    return np.asarray(books[int(np.argmin(errors))], np.float32)


def _owners(book: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the nearest value of a sorted list."""
    import numpy as np

    return np.searchsorted((book[1:] + book[:-1]) / 2, x).astype(np.int64)


def _moved(
    book: NDArray[np.float64], x: NDArray[np.float64], sums: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Lloyd's rounds: each value becomes the mean of those that it is nearest to."""
    import numpy as np

    for _ in range(_ROUNDS):
        edges = np.searchsorted(x, (book[1:] + book[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(x)]])
        mass, total = (s[edges[1:]] - s[edges[:-1]] for s in sums)
        after = np.where(mass > 0, total / np.where(mass > 0, mass, 1), book)
        if np.array_equal(after, book):
            break
        book = after
    return np.sort(book)


def _powers(
    values: NDArray[np.float32], importance: NDArray[np.float64], bits: int
) -> NDArray[np.float32]:
    import numpy as np

    largest = float(np.abs(values).max())
    top = int(np.ceil(np.log2(largest))) if largest > 0 else 0
    best: tuple[float, NDArray[np.float32]] | None = None
    for exponent in range(top + _ABOVE, top - _BELOW - 1, -1):
        magnitudes = 2.0 ** np.arange(exponent, exponent - (2 ** (bits - 1) - 1), -1)
        book = np.sort(np.concatenate([-magnitudes, [0.0], magnitudes])).astype(np.float32)
        nearest = book[np.searchsorted((book[1:] + book[:-1]) / 2, values)]
        error = float((importance.reshape(-1) * (values - nearest) ** 2).sum())
        if best is None or error < best[0]:
            best = error, book
    assert best is not None  # noqa: S101 - exponents were tried
    return best[1]
