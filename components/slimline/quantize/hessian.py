"""Second moments of what a layer reads: which errors of a weight matter, and which cancel.

For a layer y = W x the squared error of rounded weights V is tr((V-W) H (V-W)^T) with H the mean of
x x^T over calibration examples (Hassibi and Stork 1993, "Optimal Brain Surgeon"). A convolution is
such a layer on its patches (im2col).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.quantize.probe import inner_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.examples import Stream
    from slimline.quantize.layers import Layer

_MOST_ROWS = 4096
"""Patches of one batch that are counted; they are drawn at random, the same in every run."""
_MOST_BYTES = 512 << 20
"""Of second moments that are held at once; more layers take more passes."""
MOST_INPUTS = 6144
"""A layer with more inputs for each output is rounded to nearest: its moments would not fit."""


def second_moments(
    model: onnx.ModelProto, layers: Sequence[Layer], stream: Stream
) -> Iterator[tuple[Layer, NDArray[np.float32]]]:
    """For each layer the moments of its inputs, shape (groups, inputs, inputs)."""
    import numpy as np

    nodes = {node.name: node for node in model.graph.node}
    for some in _passes(layers):
        sums = {layer.name: np.zeros(_moment_shape(layer), np.float32) for layer in some}
        draw, rows = np.random.default_rng(0), dict.fromkeys(sums, 0)
        sources = sorted({layer.source for layer in some})
        for values in inner_values(model, sources, stream):
            for layer in some:
                x = patches(nodes[layer.name], layer, values[layer.source], draw)
                sums[layer.name] += np.matmul(x.transpose(0, 2, 1), x)
                rows[layer.name] += x.shape[1]
        for layer in some:
            yield layer, np.asarray(sums[layer.name] / max(rows[layer.name], 1), np.float32)


def patches(
    node: onnx.NodeProto, layer: Layer, x: NDArray[np.float32], draw: np.random.Generator
) -> NDArray[np.float32]:
    """What single outputs are computed from: shape (groups, at most 4096, inputs)."""
    import numpy as np

    if layer.kind != "Conv":
        flat = x.reshape(-1, x.shape[-1])
        if len(flat) > _MOST_ROWS:
            flat = flat[np.sort(draw.choice(len(flat), _MOST_ROWS, replace=False))]
        return flat[None]
    windows = _windows(node, layer, x)
    space = len(layer.shape) - 2
    outside = (windows.shape[0], *windows.shape[2 : 2 + space])
    count = int(np.prod(outside))
    chosen = np.sort(draw.choice(count, min(count, _MOST_ROWS), replace=False))
    place = np.unravel_index(chosen, outside)
    by_place = np.moveaxis(windows, 1, 1 + space)
    rows = by_place[place].reshape(len(chosen), layer.groups, -1)
    return np.ascontiguousarray(rows.transpose(1, 0, 2))


def _windows(node: onnx.NodeProto, layer: Layer, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A view of shape (batch, channels, *outputs, *kernel)."""
    import numpy as np

    kernel = layer.shape[2:]
    space = len(kernel)
    given = {a.name: list(a.ints) for a in node.attribute}
    strides, dilations = given.get("strides", [1] * space), given.get("dilations", [1] * space)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = given.get("pads", [0] * (2 * space))
    kind = next((a.s for a in node.attribute if a.name == "auto_pad"), b"NOTSET")
    if kind.startswith(b"SAME"):
        total = [
            max((-(-n // s) - 1) * s + r - n, 0)
            for n, s, r in zip(x.shape[2:], strides, reach, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if kind == b"SAME_UPPER" else large + small
    wide = np.pad(x, [(0, 0), (0, 0), *zip(pads[:space], pads[space:], strict=True)])
    axes = tuple(range(2, 2 + space))
    view = np.lib.stride_tricks.sliding_window_view(wide, reach, axis=axes)
    outputs = tuple(slice(None, None, s) for s in strides)
    inside = tuple(slice(None, None, d) for d in dilations)
    return np.asarray(view[(slice(None), slice(None), *outputs, *inside)])


def _moment_shape(layer: Layer) -> tuple[int, int, int]:
    import numpy as np

    inputs = int(np.prod(layer.shape)) // layer.shape[layer.axis]
    return layer.groups, inputs, inputs


def _passes(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers in groups whose moments fit into memory together."""
    some: list[Layer] = []
    held = 0
    for layer in layers:
        groups, inputs, _ = _moment_shape(layer)
        if inputs > MOST_INPUTS:
            continue
        size = 4 * groups * inputs * inputs
        if some and held + size > _MOST_BYTES:
            yield some
            some, held = [], 0
        some.append(layer)
        held += size
    if some:
        yield some
