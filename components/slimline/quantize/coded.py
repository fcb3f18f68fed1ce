"""Weights as codes on a grid, and what puts a layer's outputs right again after coding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slimline.quantize.hessian import second_moments
from slimline.quantize.layers import Layer, weights_of, with_constants
from slimline.quantize.rounding import Uniform, round_weight, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.codebook import Codebook
    from slimline.quantize.examples import Stream


@dataclass(frozen=True)
class Coded:
    """One layer's weight: a grid, and codes of shape (outputs, inputs)."""

    layer: Layer
    grid: Uniform | Codebook
    codes: NDArray[np.int64]
    bits: int
    block: int | None = None

    def values(self) -> NDArray[np.generic]:
        """What the codes stand for, in the shape of the file."""
        return self.layer.stored(values_of(self.grid, self.codes))

    def scale(self) -> NDArray[np.float32]:
        """The scale of each output channel; of a uniform grid with one scale a channel."""
        assert isinstance(self.grid, Uniform)  # noqa: S101 - the caller's business
        return self.grid.scale[:, 0]

    def stretched(self, gain: NDArray[np.float32]) -> Coded:
        """With each channel's values multiplied by a number of its own; the codes stay."""
        if not isinstance(self.grid, Uniform):
            return self
        return replace(self, grid=replace(self.grid, scale=self.grid.scale * gain[:, None]))


def moments_of(
    model: onnx.ModelProto, layers: Sequence[Layer], stream: Stream | None
) -> Iterator[tuple[Layer, NDArray[np.float32] | None]]:
    """Each layer with the second moments of its inputs, or None where there are none to have."""
    left = {layer.name: layer for layer in layers}
    if stream is not None and len(stream):
        for layer, moments in second_moments(model, layers, stream):
            yield left.pop(layer.name), moments
    for layer in left.values():
        yield layer, None


def code_uniform(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    stream: Stream | None,
    bits: int = 4,
    *,
    blocks: Mapping[str, int] | None = None,
    symmetric: bool = True,
) -> dict[str, Coded]:
    """Code layers on evenly spaced grids.

    Args:
        model: the float graph.
        layers: those to code.
        stream: examples for error compensation; None rounds to nearest.
        bits: of a code.
        blocks: inputs that share a scale, by the layer's name; others have one scale a channel.
        symmetric: a zero weight has code 0.

    Returns:
        By the layer's name, in the order of the graph.
    """
    weights, sizes, made = weights_of(model, list(layers)), blocks or {}, {}
    for layer, moments in moments_of(model, layers, stream):
        block = sizes.get(layer.name)
        grid, codes = round_weight(
            layer.matrix(weights[layer.weight]), moments, bits, block=block, symmetric=symmetric
        )
        made[layer.name] = Coded(layer, grid, codes, bits, block)
    return {layer.name: made[layer.name] for layer in layers}


def with_values(model: onnx.ModelProto, coded: Mapping[str, Coded]) -> onnx.ModelProto:
    """The float graph with the weights that the codes stand for."""
    return with_constants(model, {c.layer.weight: c.values() for c in coded.values()})
