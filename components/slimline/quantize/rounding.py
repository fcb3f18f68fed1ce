"""Which grid value each weight takes: the nearest one, or the one that undoes others' errors.

`compensate` rounds column by column and lets the columns that are still free take up the error, as
GPTQ does (Frantar et al. 2022, arXiv:2210.17323); sweeps of coordinate descent on the same squared
error of the layer's output follow (as QuantEase, Behdin et al. 2023, arXiv:2309.01885), and the
scale of each channel is fitted anew by least squares between them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DAMPING = 0.01
_SWEEPS = 4
_BLOCK = 128
"""Columns whose errors are handed on one by one; later columns get them together."""
_SHARES = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58)
"""Of a row's largest weight: where its grid may end."""


class Grid(Protocol):
    """The values that weights may take, told by codes; rows are output channels."""

    def code(self, values: NDArray[np.float32], column: int) -> NDArray[np.int64]:
        """The codes nearest to the values of one column, shape (rows,)."""

    def value(self, codes: NDArray[np.int64], column: int) -> NDArray[np.float32]:
        """What the codes of one column stand for."""

    def rows(self, chosen: slice) -> Grid:
        """The grid of some rows."""


@dataclass(frozen=True)
class Uniform:
    """Evenly spaced values: (code - zero) * scale; scale and zero have shape (rows, columns)."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    low: int
    high: int

    def code(self, values: NDArray[np.float32], column: int) -> NDArray[np.int64]:
        """Round and clip."""
        import numpy as np

        codes = np.round(values / self.scale[:, column]) + self.zero[:, column]
        return np.clip(codes, self.low, self.high).astype(np.int64)

    def value(self, codes: NDArray[np.int64], column: int) -> NDArray[np.float32]:
        """Undo."""
        import numpy as np

        return np.asarray((codes - self.zero[:, column]) * self.scale[:, column], np.float32)

    def rows(self, chosen: slice) -> Uniform:
        """The scales of some rows."""
        return replace(self, scale=self.scale[chosen], zero=self.zero[chosen])


def codes_of(grid: Grid, weight: NDArray[np.float32]) -> NDArray[np.int64]:
    """Round a whole matrix to nearest."""
    import numpy as np

    return np.stack([grid.code(weight[:, j], j) for j in range(weight.shape[1])], 1)


def values_of(grid: Grid, codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """What a whole matrix of codes stands for."""
    import numpy as np

    return np.stack([grid.value(codes[:, j], j) for j in range(codes.shape[1])], 1)


def uniform_grid(
    weight: NDArray[np.float32], bits: int, block: int, *, symmetric: bool, share: float = 1.0
) -> Uniform:
    """A grid for each row and block of columns that spans `share` of its weights' range.

    Args:
        weight: shape (rows, columns).
        bits: codes run from -2**(bits-1) to 2**(bits-1) - 1.
        block: columns with one scale, counted from the first.
        symmetric: zero has code 0; else the grid is moved to where the weights are.
        share: 1 reaches the largest weight; less cuts it off and gains resolution.
    """
    import numpy as np

    rows, columns = weight.shape
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    blocks = -(-columns // block)
    padded = np.zeros((rows, blocks * block), np.float32)
    padded[:, :columns] = weight
    parts = padded.reshape(rows, blocks, block)
    if symmetric:
        scale = share * np.abs(parts).max(2) / (high + 0.5 * (bits < 8))  # noqa: PLR2004
        zero = np.zeros_like(scale)
    else:
        bottom = share * np.minimum(parts.min(2), 0)
        scale = (share * np.maximum(parts.max(2), 0) - bottom) / (high - low)
        zero = np.round(low - bottom / np.maximum(scale, 1e-12))
    scale = np.where(scale > 0, scale, 1.0)
    return Uniform(
        scale=np.repeat(scale, block, 1)[:, :columns].astype(np.float32),
        zero=np.repeat(zero, block, 1)[:, :columns].astype(np.int64),
        low=low,
        high=high,
    )


def round_weight(
    weight: NDArray[np.float32],
    moments: NDArray[np.float32] | None,
    bits: int,
    *,
    block: int | None = None,
    symmetric: bool = True,
) -> tuple[Uniform, NDArray[np.int64]]:
    """Round one layer to integers.

    Args:
        weight: shape (rows, columns).
        moments: of its inputs, shape (groups, columns, columns); None rounds to nearest.
        bits: of a code.
        block: columns with one scale; None for all of a row.
        symmetric: see `uniform_grid`.

    Returns:
        The grid and the codes. Of seven clippings each row keeps the one of least error.
    """
    size = block or weight.shape[1]
    best: tuple[Uniform, NDArray[np.int64], NDArray[np.float32]] | None = None
    for share in _SHARES if bits < 8 else _SHARES[:1]:  # noqa: PLR2004 - fine as it is
        grid = uniform_grid(weight, bits, size, symmetric=symmetric, share=share)
        codes = codes_of(grid, weight) if moments is None else compensate(grid, weight, moments)
        error = output_error(values_of(grid, codes) - weight, moments)
        best = (grid, codes, error) if best is None else _better(best, (grid, codes, error))
    assert best is not None  # noqa: S101 - there is a first share
    grid, codes, _ = best
    for sweep in range(0 if moments is None else _SWEEPS):
        assert moments is not None  # noqa: S101 - else there is no sweep
        if sweep and symmetric and size >= weight.shape[1]:
            grid = _fitted(grid, codes, weight, moments)
        codes = descend(grid, codes, weight, moments)
    return grid, codes


def _better(
    one: tuple[Uniform, NDArray[np.int64], NDArray[np.float32]],
    other: tuple[Uniform, NDArray[np.int64], NDArray[np.float32]],
) -> tuple[Uniform, NDArray[np.int64], NDArray[np.float32]]:
    """Row by row the one of less error."""
    import numpy as np

    wins = (other[2] < one[2])[:, None]
    grid = replace(
        one[0],
        scale=np.where(wins, other[0].scale, one[0].scale),
        zero=np.where(wins, other[0].zero, one[0].zero),
    )
    return grid, np.where(wins, other[1], one[1]), np.minimum(one[2], other[2])


def compensate(
    grid: Grid, weight: NDArray[np.float32], moments: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Codes by GPTQ, columns of strong inputs first; shapes as in `round_weight`."""
    import numpy as np

    codes = np.zeros(weight.shape, np.int64)
    for rows, moment in _groups(weight, moments):
        order = np.argsort(-np.diag(moment), kind="stable")
        upper = _inverse_root(moment[np.ix_(order, order)])
        left = weight[rows][:, order].astype(np.float64)
        part = grid.rows(rows)
        for start in range(0, len(order), _BLOCK):
            end = min(start + _BLOCK, len(order))
            errors = np.zeros((len(left), end - start))
            for place in range(start, end):
                column = int(order[place])
                codes[rows, column] = part.code(left[:, place].astype(np.float32), column)
                value = part.value(codes[rows, column], column)
                error = (left[:, place] - value) / upper[place, place]
                left[:, place:end] -= np.outer(error, upper[place, place:end])
                errors[:, place - start] = error
            left[:, end:] -= errors @ upper[start:end, end:]
    return codes


def descend(
    grid: Grid,
    codes: NDArray[np.int64],
    weight: NDArray[np.float32],
    moments: NDArray[np.float32],
) -> NDArray[np.int64]:
    """One sweep of coordinate descent: each column takes its best code, the others given."""
    import numpy as np

    after = codes.copy()
    for rows, moment in _groups(weight, moments):
        part = grid.rows(rows)
        full = _damped(moment)
        values = values_of(part, after[rows]).astype(np.float64)
        slope = (values - weight[rows]) @ full
        for start in range(0, weight.shape[1], _BLOCK):
            end = min(start + _BLOCK, weight.shape[1])
            before = values[:, start:end].copy()
            for column in range(start, end):
                wanted = values[:, column] - slope[:, column] / full[column, column]
                after[rows, column] = part.code(wanted.astype(np.float32), column)
                change = part.value(after[rows, column], column) - values[:, column]
                values[:, column] += change
                slope[:, column:end] += np.outer(change, full[column, column:end])
            slope[:, end:] += (values[:, start:end] - before) @ full[start:end, end:]
    return after


def output_error(
    difference: NDArray[np.float32], moments: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Squared error of each row's output; of the row itself when there are no moments."""
    import numpy as np

    if moments is None:
        return np.asarray((difference**2).sum(1))
    parts = [
        ((difference[rows] @ moment) * difference[rows]).sum(1)
        for rows, moment in _groups(difference, moments)
    ]
    return np.concatenate(parts)


def _fitted(
    grid: Uniform,
    codes: NDArray[np.int64],
    weight: NDArray[np.float32],
    moments: NDArray[np.float32],
) -> Uniform:
    """The scale of each row that makes the least squared error with these codes."""
    import numpy as np

    scale = grid.scale.copy()
    for rows, moment in _groups(weight, moments):
        q = (codes[rows] - grid.zero[rows]).astype(np.float64)
        projected = q @ _damped(moment)
        below = (projected * q).sum(1)
        best = (projected * weight[rows]).sum(1) / np.where(below > 0, below, 1)
        good = (best > 0) & (below > 0)
        scale[rows] = np.where(good[:, None], best[:, None], scale[rows])
    return replace(grid, scale=scale.astype(np.float32))


def _groups(
    weight: NDArray[np.float32], moments: NDArray[np.float32]
) -> list[tuple[slice, NDArray[np.float32]]]:
    """The rows of each group of a grouped convolution with the moments of its inputs."""
    rows = len(weight) // len(moments)
    return [(slice(i * rows, (i + 1) * rows), m) for i, m in enumerate(moments)]


def _damped(moment: NDArray[np.float32]) -> NDArray[np.float64]:
    import numpy as np

    full = moment.astype(np.float64)
    mean = float(np.diag(full).mean())
    full[np.diag_indices_from(full)] += _DAMPING * (mean if mean > 0 else 1.0)
    return full


def _inverse_root(moment: NDArray[np.float32]) -> NDArray[np.float64]:
    """The upper Cholesky factor of the inverse, as GPTQ takes it."""
    import numpy as np

    return np.asarray(np.linalg.cholesky(np.linalg.inv(_damped(moment))).T)
