"""Put each channel's mean and variance right that coded weights moved.

Rounding moves the mean of a layer's outputs, and every layer after it reads that; the bias takes it
back (Nagel et al. 2019, "Data-free quantization", arXiv:1906.04721, here by examples). The variance
is put right by the channel's scale, so that codes stay codes: together they do to a graph what
estimating batch norm's statistics anew does to a network that still has batch norms. Layers are
corrected one after the other, each on inputs that are corrected already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.quantize.codebook import Codebook
from slimline.quantize.coded import with_values
from slimline.quantize.layers import with_constants
from slimline.quantize.probe import inner_values
from slimline.quantize.rounding import Uniform
from slimline.quantize.work import Made, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.coded import Coded
    from slimline.quantize.examples import Stream
    from slimline.quantize.layers import Layer
    from slimline.quantize.work import Work

_EXAMPLES = 128
_NARROW = 4
_DEAD = 1e-9
"""Standard deviation of a channel that says nothing."""
_LEAST_GAIN, _MOST_GAIN = 0.5, 2.0


def corrected(
    work: Work,
    coded: dict[str, Coded],
    build: Callable[[onnx.ModelProto, Mapping[str, Coded]], onnx.ModelProto],
) -> tuple[onnx.ModelProto, dict[str, Coded], Made]:
    """Correct as the parameters ask, and keep what the judges lose least with.

    Args:
        work: the job; `work.prepared` is the float graph.
        coded: its coded layers.
        build: makes the model that will run, of a float graph and coded layers.

    Returns:
        The float graph, the coded layers, and what to tell; as they were when nothing helped.
    """
    asked = work.job.correction
    narrow = any(c.bits <= _NARROW or isinstance(c.grid, Codebook) for c in coded.values())
    scaled = any(isinstance(c.grid, Uniform) for c in coded.values())
    kinds = [asked] if asked != "auto" else ["bias", "variance"] if scaled else ["bias"]
    if work.judge is None or not coded or asked == "none" or (asked == "auto" and not narrow):
        return work.prepared, coded, Made(work.prepared, "")
    made = {"none": (work.prepared, coded)}
    for kind in kinds:
        made[kind] = correct(work.prepared, coded, work.drawn.fit, variance=kind == "variance")
    losses = {kind: work.judge.loss(build(*pair)) for kind, pair in made.items()}
    best = min(losses, key=lambda kind: losses[kind].value)
    rows = tuple((k, x.value, x.agreement, x.drop) for k, x in losses.items())
    table = Table("Correction", ("corrected", "loss", "same class", "accuracy lost"), rows)
    reason = (
        f"Correction {best} loses least on the judges' examples: {losses[best].value:.3g}, without "
        f"any {losses['none'].value:.3g}."
    )
    words = "" if best == "none" else f", {best} corrected"
    return *made[best], Made(work.prepared, words, (table,), {"correction": best}, (reason,))


def correct(
    model: onnx.ModelProto, coded: Mapping[str, Coded], stream: Stream, *, variance: bool
) -> tuple[onnx.ModelProto, dict[str, Coded]]:
    """Correct all coded layers that have or can have a bias (Conv, Gemm).

    Args:
        model: the float graph.
        coded: its coded layers, in the order of the graph.
        stream: examples; the first 128 are used.
        variance: correct it as well as the mean; of uniform grids alone.

    Returns:
        The float graph with the new biases, and the layers with the new scales.
    """
    import numpy as np

    able = [c for c in coded.values() if c.layer.kind != "MatMul"]
    based = with_biases(model, [c.layer for c in able])
    wanted = _statistics(based, [c.layer for c in able], stream)
    after = dict(coded)
    for one in able:
        layer = one.layer
        mean, spread = _statistics(with_values(based, after), [layer], stream)[layer.name]
        gain = np.ones_like(mean)
        if variance and isinstance(one.grid, Uniform):
            wider = wanted[layer.name][1] / np.maximum(spread, _DEAD)
            gain = np.clip(wider, _LEAST_GAIN, _MOST_GAIN)
            gain = np.where(spread > _DEAD, gain, 1.0)
        name = bias_name(layer)
        bias = gain * _constant(based, name) + wanted[layer.name][0] - gain * mean
        based = with_constants(based, {name: bias.astype(np.float32)})
        after[layer.name] = one.stretched(gain.astype(np.float32))
    return based, after


def undone(
    based: onnx.ModelProto,
    original: onnx.ModelProto,
    coded: Mapping[str, Coded],
    back: Collection[str],
) -> onnx.ModelProto:
    """Give layers that go back to more bits the biases that they had before the correction."""
    import numpy as np
    from onnx import numpy_helper

    own = {i.name: i for i in original.graph.initializer}
    there = {i.name for i in based.graph.initializer}
    values = {}
    for layer in (c.layer for name, c in coded.items() if name in back):
        if bias_name(layer) in there:
            zeros = np.zeros(layer.shape[layer.axis], np.float32)
            values[bias_name(layer)] = (
                numpy_helper.to_array(own[layer.bias]) if layer.bias else zeros
            )
    return with_constants(based, values)


def bias_name(layer: Layer) -> str:
    """The constant that holds a layer's bias, its own or an added one."""
    return layer.bias or f"{layer.weight}_bias"


def with_biases(model: onnx.ModelProto, layers: list[Layer]) -> onnx.ModelProto:
    """A copy in which each of these layers has a bias, of zeros where it had none."""
    import numpy as np

    zeros = {
        bias_name(layer): np.zeros(layer.shape[layer.axis], np.float32)
        for layer in layers
        if not layer.bias
    }
    copy = with_constants(model, dict(zeros))
    lacking = {layer.name: bias_name(layer) for layer in layers if not layer.bias}
    for node in copy.graph.node:
        if node.name in lacking:
            del node.input[2:]
            node.input.append(lacking[node.name])
    return copy


def _statistics(
    model: onnx.ModelProto, layers: list[Layer], stream: Stream
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and standard deviation of each output channel."""
    import numpy as np

    sums = {layer.name: np.zeros((3, layer.shape[layer.axis])) for layer in layers}
    names = [layer.target for layer in layers]
    for values in inner_values(model, names, stream, _EXAMPLES):
        for layer in layers:
            value = values[layer.target].astype(np.float64)
            axes = tuple(a for a in range(value.ndim) if a != 1)
            sums[layer.name][0] += value.size / value.shape[1]
            sums[layer.name][1] += value.sum(axes)
            sums[layer.name][2] += (value**2).sum(axes)
    found = {}
    for name, (count, first, second) in sums.items():
        mean = first / count
        found[name] = mean, np.sqrt(np.maximum(second / count - mean**2, 0))
    return found


def _constant(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    from onnx import numpy_helper

    return next(numpy_helper.to_array(i) for i in model.graph.initializer if i.name == name)
