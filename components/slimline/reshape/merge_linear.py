"""Merge linear layers and convolutions between which no non-linearity lies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from slimline.models.info import Replace
from slimline.models.traced import COPIES, operation, shape
from slimline.reshape.bench import Bench, Change
from slimline.reshape.describe import identity, layer_like
from slimline.reshape.graph import LeftAloneError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from slimline.reshape.graph import Graph

_MERGEABLE = ("linear", "conv1d", "conv2d", "conv3d")


def merge_linear(bench: Bench) -> None:
    """Merge two layers in a row into one where that is cheaper.

    Two linear maps in a row are one: linear with linear, a convolution with a 1x1 convolution after
    it, and a 1x1 convolution with one after it, as far as padding does not come between (the
    collapsing of linear over-parametrisation: Bhardwaj et al. 2021, arXiv:2103.09404). The merged
    layer takes the first one's place, the second becomes an identity. Nothing is merged where
    multiply-accumulates or parameters would grow, as in a bottleneck. Fold batch norm first: it
    stands between layers as a non-linearity would.
    """
    merged = True
    while merged:
        merged = False
        graph, touched = bench.graph(), set[str]()
        for path, node in graph.layers.items():
            if operation(node) not in _MERGEABLE or path in touched or not bench.wants(path):
                continue
            try:
                change, other = _merge(graph, path)
            except LeftAloneError as why:
                bench.leave(path, why)
                continue
            if other not in touched and bench.attempt(change):
                touched |= {path, other}
                merged = True


def _merge(graph: Graph, path: str) -> tuple[Change, str]:
    """How a layer merges with the next; raises LeftAloneError."""
    node = graph.layers[path]
    after = graph.sole_user(node)
    while operation(after) in COPIES:
        after = graph.sole_user(after)
    other = graph.path(after)
    if other is None or operation(after) != operation(node):
        msg = f"{operation(after)} follows it"
        raise LeftAloneError(msg)
    one, two = (graph.module.get_submodule(p) for p in (path, other))
    made = _linear(one, two) if operation(node) == "linear" else _convolution(one, two)
    arguments, weight, bias = made
    _check_cost(graph, (path, other), weight, after)
    weights = {f"{path}.weight": weight.float().detach()}
    if bias is not None:
        weights[f"{path}.bias"] = bias.float().detach()
    edits = (
        Replace(module=path, layer=layer_like(one, **arguments, bias=bias is not None)),
        Replace(module=other, layer=identity()),
    )
    return Change(path, f"merged with {other}", edits, weights), other


def _check_cost(graph: Graph, paths: tuple[str, str], weight: Tensor, after: Node) -> None:
    """Raise LeftAloneError where one layer costs more than the two."""
    sizes = shape(after)
    spatial = sizes[1:-1] if operation(after) == "linear" else sizes[2:]
    macs = weight.numel() * math.prod(spatial)
    layers: list[Any] = [graph.module.get_submodule(p) for p in paths]
    numbers = sum(layer.weight.numel() for layer in layers)
    if macs > sum(map(graph.macs, paths)) or weight.numel() > numbers:
        msg = f"one layer in place of it and {paths[1]} would cost more: {weight.numel()} weights"
        raise LeftAloneError(msg)


def _linear(one: Any, two: Any) -> tuple[dict[str, Any], Tensor, Tensor | None]:
    weight = two.weight.double() @ one.weight.double()
    return {"out_features": two.out_features}, weight, _bias(one, two, two.weight.double())


def _convolution(one: Any, two: Any) -> tuple[dict[str, Any], Tensor, Tensor | None]:
    """Arguments that change, weight and bias of the merged convolution; raises LeftAloneError."""
    if one.groups > 1 or two.groups > 1:
        msg = "one of the two convolves in groups"
        raise LeftAloneError(msg)
    second: Tensor = two.weight.double()
    bias = _bias(one, two, second.flatten(2).sum(2))
    if _is_pointwise(two):
        weight = _times(second.flatten(1), one.weight.double())
        strides = tuple(a * b for a, b in zip(one.stride, two.stride, strict=True))
        return {"out_channels": two.out_channels, "stride": strides}, weight, bias
    if not _is_pointwise(one):
        msg = "both kernels are larger than 1"
        raise LeftAloneError(msg)
    if any(size != 1 for size in one.stride):
        msg = "its stride comes before a larger kernel"
        raise LeftAloneError(msg)
    if two.padding_mode == "zeros" and _pads(two) and one.bias is not None and one.bias.any():
        msg = "its bias meets the padding of the next layer"
        raise LeftAloneError(msg)
    first = one.weight.double().flatten(1)
    weight = _times(first.T, second.transpose(0, 1)).transpose(0, 1).contiguous()
    taken = ("kernel_size", "stride", "padding", "dilation", "padding_mode", "out_channels")
    return {name: getattr(two, name) for name in taken}, weight, bias


def _times(matrix: Tensor, kernel: Tensor) -> Tensor:
    """A matrix times the first axis of a kernel."""
    return (matrix @ kernel.flatten(1)).view(len(matrix), *kernel.shape[1:])


def _bias(one: Any, two: Any, matrix: Tensor) -> Tensor | None:
    """What the two biases come to; `matrix` is the second layer, summed over its kernel."""
    carried = None if one.bias is None else matrix @ one.bias.double()
    if two.bias is None:
        return carried
    own: Tensor = two.bias.double()
    return own if carried is None else own + carried


def _is_pointwise(layer: Any) -> bool:
    return all(size == 1 for size in layer.kernel_size) and not _pads(layer)


def _pads(layer: Any) -> bool:
    same = layer.padding == "same" and any(size > 1 for size in layer.kernel_size)
    return same if isinstance(layer.padding, str) else any(layer.padding)
