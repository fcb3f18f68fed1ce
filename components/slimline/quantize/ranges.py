"""The range of each activation, by four methods from one histogram.

All methods read the same two passes over the calibration examples, so that trying every one costs
little more than trying one. Memory holds a batch and 2,048 counts for each tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slimline.quantize.probe import inner_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.examples import Stream

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")
Ranges = dict[str, tuple[float, float]]

_BINS = 2048
_LEVELS = 256
_CANDIDATES = 64
_MOST_VALUES = 1 << 18
"""Values of one tensor and batch that are counted; a larger one is strided evenly."""


@dataclass(frozen=True)
class Histogram:
    """Counts of a tensor's values between its extremes."""

    low: float
    high: float
    counts: NDArray[np.float64]

    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        import numpy as np

        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2)


def histograms(model: onnx.ModelProto, stream: Stream) -> dict[str, Histogram]:
    """Count the values of every float tensor that is no constant, in two passes."""
    import numpy as np

    names = _activations(model)
    lows, highs = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for values in inner_values(model, names, stream):
        for name, value in values.items():
            lows[name] = min(lows[name], float(value.min()))
            highs[name] = max(highs[name], float(value.max()))
    counts = {name: np.zeros(_BINS) for name in names}
    for values in inner_values(model, names, stream):
        for name, value in values.items():
            flat = value.reshape(-1)
            step = -(-len(flat) // _MOST_VALUES)
            span = (lows[name], max(highs[name], lows[name] + 1e-6))
            counts[name] += np.histogram(flat[::step], _BINS, span)[0]
    return {n: Histogram(lows[n], max(highs[n], lows[n] + 1e-6), counts[n]) for n in names}


def choose_ranges(
    found: Mapping[str, Histogram], method: Method, percentile: float = 99.99
) -> Ranges:
    """The lowest and the highest value that each tensor's integers will stand for.

    Args:
        found: what `histograms` counted.
        method: `minmax` keeps all; `percentile` cuts the same share at both ends; `entropy` loses
            least information (Kullback-Leibler, as Migacz 2017, "8-bit inference with TensorRT");
            `mse` makes the least squared error (as Banner et al. 2018, arXiv:1810.05723).
        percentile: the share that method `percentile` keeps, in percent.
    """
    return {name: _choose(histogram, method, percentile) for name, histogram in found.items()}


def _choose(found: Histogram, method: Method, percentile: float) -> tuple[float, float]:
    import numpy as np

    if method == "minmax":
        return found.low, found.high
    if method == "percentile":
        cut, share = (100 - percentile) / 200, np.cumsum(found.counts) / found.counts.sum()
        centres = found.centres()
        low = centres[min(int(np.searchsorted(share, cut)), _BINS - 1)]
        high = centres[min(int(np.searchsorted(share, 1 - cut)), _BINS - 1)]
        return (found.low if cut == 0 else float(low)), (found.high if cut == 0 else float(high))
    if method == "entropy":
        return _search(_without_zeros(found), _divergence)
    return _search(found, _squared_error)


def _without_zeros(found: Histogram) -> Histogram:
    """Exact zeros, which a ReLU makes many of and any range keeps, no longer outweigh the rest."""
    import numpy as np

    counts, place = found.counts.copy(), int(np.abs(found.centres()).argmin())
    beside = counts[max(place - 1, 0) : place + 2]
    counts[place] = sum(sorted(beside)[:-1]) / max(len(beside) - 1, 1)
    return Histogram(found.low, found.high, counts)


def _search(
    found: Histogram, loss: Callable[[Histogram, float, float], float]
) -> tuple[float, float]:
    """Draw in the upper end, then the lower one, to where the loss is least."""
    shares = [1 - i / _CANDIDATES for i in range(_CANDIDATES - 1)]
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if high > 0:
        high = min((loss(found, low, high * t), -t, high * t) for t in shares)[2]
    if low < 0:
        low = min((loss(found, low * t, high), -t, low * t) for t in shares)[2]
    return low, high


def _squared_error(found: Histogram, low: float, high: float) -> float:
    import numpy as np

    x = found.centres()
    scale = max(high - low, 1e-12) / (_LEVELS - 1)
    restored = np.clip(np.round((x - low) / scale), 0, _LEVELS - 1) * scale + low
    return float((found.counts * (x - restored) ** 2).sum())


def _divergence(found: Histogram, low: float, high: float) -> float:
    """Kullback-Leibler divergence of the histogram from what 256 levels keep of it."""
    import numpy as np

    x = found.centres()
    scale = max(high - low, 1e-12) / (_LEVELS - 1)
    level = np.clip(np.round((x - low) / scale), 0, _LEVELS - 1).astype(np.int64)
    inside = (x >= low) & (x <= high)
    if not inside.any():
        return float("inf")
    p = np.where(inside, found.counts, 0)
    first, last = np.flatnonzero(inside)[[0, -1]]
    p[first] += found.counts[:first].sum()
    p[last] += found.counts[last + 1 :].sum()
    # Each level's count is spread over those of its bins that hold anything.
    kept = np.where(inside, found.counts, 0)
    filled = inside & (p > 0)
    mass = np.bincount(level[inside], kept[inside], _LEVELS)
    bins = np.bincount(level[filled], minlength=_LEVELS)
    q = np.where(filled, mass[level] / np.maximum(bins[level], 1), 0)
    if q.sum() == 0:
        return float("inf")
    p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-12)
    return float((p[filled] * np.log(p[filled] / q[filled])).sum())


def _activations(model: onnx.ModelProto) -> list[str]:
    """Float tensors by the shapes that were inferred, in the order of the graph."""
    from onnx import TensorProto

    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.value_info]}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in graph.output}
    constant = {i.name for i in graph.initializer}
    constant |= {n.output[0] for n in graph.node if n.op_type == "Constant"}
    names = [graph.input[0].name, *(name for n in graph.node for name in n.output)]
    float_ones = [n for n in names if kinds.get(n) == TensorProto.FLOAT and n not in constant]
    return list(dict.fromkeys(float_ones))
