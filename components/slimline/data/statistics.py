"""Mean and standard deviation of a training split: what a preprocessing normalises by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples

_CHUNK = 65_536
_BYTE = 255.0


def channel_statistics(train: Examples) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, or of each feature of rows.

    Bytes are measured on the scale 0..1, as they are after `Scale(by=1/255)`; float rows as they
    are. A channel that never changes has standard deviation 1, so that dividing by it is safe.

    Args:
        train: a training split, of at least one example.

    Returns:
        Means and population standard deviations, one number for each entry of the last axis.
    """
    import numpy as np

    channels = train.x.shape[-1]
    unit = _BYTE if train.x.dtype == np.uint8 else 1.0
    flat: NDArray[Any] = train.x.reshape(-1, channels)
    pieces = [flat[i : i + _CHUNK] for i in range(0, len(flat), _CHUNK)]
    mean = sum((p.sum(axis=0, dtype=np.float64) for p in pieces), np.zeros(channels)) / len(flat)
    squares = sum((((p - mean) ** 2).sum(axis=0) for p in pieces), np.zeros(channels))
    std = np.sqrt(squares / len(flat))
    std[std == 0] = unit
    return tuple((mean / unit).tolist()), tuple((std / unit).tolist())
