"""Put global average pooling in the place of a flatten and its large dense layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.models.info import Layer, Replace
from slimline.models.traced import ACTIVATIONS, COPIES, POOLS, operation, owner, shape
from slimline.reshape.bench import Bench, Change, answers
from slimline.reshape.describe import identity, in_a_row
from slimline.reshape.graph import LeftAloneError
from slimline.reshape.observe import watch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from slimline.reshape.graph import Graph

_MAPS = (3, 4, 5)
"""Axes of feature maps: (examples, channels, one to three of space)."""
_RIDGE = 1e-3


@dataclass(frozen=True)
class _Head:
    """A dense layer on flattened feature maps, and what follows it."""

    path: str
    maps: tuple[int, ...]
    """Channels, then the sizes of space."""
    rest: tuple[str, ...] | None
    """The layers from there to the answer; None where they are not layers alone."""


def average_pool_head(bench: Bench, x: Tensor) -> None:
    """Average each feature map, and let one small linear layer answer.

    Global average pooling (Lin et al. 2013, arXiv:1312.4400, section 3.2) needs one weight for each
    map and class where a dense layer on the flattened maps needs one for each pixel. Where only
    layers follow up to the answer, all of them go, and the new linear layer starts as the ridge
    regression of the old answers on the pooled maps; where other code follows, only the first
    dense layer is replaced, and each map gets the sum of its pixels' weights.
    """
    graph = bench.graph()
    for path, why in graph.odd.items():
        bench.leave(path, why)
    for path, node in graph.layers.items():
        if operation(node) == "linear" and bench.wants(path):
            try:
                bench.attempt(_change(bench, _find(graph, path), x))
            except LeftAloneError as why:
                bench.leave(path, why)


def _find(graph: Graph, path: str) -> _Head:
    """The head that begins with a linear layer; raises LeftAloneError."""
    source: Any = graph.layers[path].args[0]
    while operation(source) in ACTIVATIONS | COPIES:
        source = source.args[0]
    maps = shape(source.args[0]) if source.op == "call_function" else ()
    flat = operation(source) in ("flatten", "view", "reshape")
    flat = flat and len(maps) in _MAPS and shape(source) == (maps[0], math.prod(maps[1:]))
    if not flat or (len(maps) == _MAPS[0] and not _convolved(source.args[0])):
        msg = "it does not take flattened feature maps"
        raise LeftAloneError(msg)
    if math.prod(maps[2:]) == 1:
        msg = "its feature maps are pooled already"
        raise LeftAloneError(msg)
    return _Head(path, maps[1:], _rest(graph, graph.layers[path]))


def _convolved(node: Any) -> bool:
    """Whether a tensor of three axes has channels second, and is no sequence of features."""
    while operation(node) in ACTIVATIONS | COPIES | POOLS | {"batch_norm"}:
        node = node.args[0]
    return operation(node) == "conv1d"


def _rest(graph: Graph, node: Node) -> tuple[str, ...] | None:
    """Paths of the layers from a node to the answer; None where something else stands there."""
    found: list[str] = []
    while True:
        users = list(node.users)
        if len(users) != 1:
            return None
        (node,) = users
        if node.op == "output":
            return tuple(found)
        path = owner(node)
        layer = graph.module.get_submodule(path)
        simple = operation(node) in ACTIVATIONS | COPIES | {"linear", "batch_norm"}
        if not simple or any(True for _ in layer.children()) or path in found or not path:
            return None
        if operation(node) in ("linear", "batch_norm") and graph.path(node) is None:
            return None
        found.append(path)


def _change(bench: Bench, head: _Head, x: Tensor) -> Change:
    dense: Any = bench.module.get_submodule(head.path)
    channels = head.maps[0]
    if head.rest is None:
        weight = dense.weight.detach().view(len(dense.weight), channels, -1).sum(2)
        bias = None if dense.bias is None else dense.bias.detach()
    else:
        weight, bias = _regression(bench, head, x)
    lines = {"in_features": channels, "out_features": len(weight), "bias": bias is not None}
    made = in_a_row(
        maps=Layer(type="Unflatten", arguments={"dim": 1, "unflattened_size": head.maps}),
        pool=Layer(type=f"AdaptiveAvgPool{len(head.maps) - 1}d", arguments={"output_size": 1}),
        flatten=Layer(type="Flatten"),
        linear=Layer(type="Linear", arguments=lines),
    )
    gone = head.rest or ()
    edits = (
        Replace(module=head.path, layer=made),
        *(Replace(module=path, layer=identity()) for path in gone),
    )
    weights = {f"{head.path}.linear.weight": weight}
    if bias is not None:
        weights[f"{head.path}.linear.bias"] = bias
    size = "x".join(map(str, head.maps))
    also = f", {', '.join(gone)} gone" if gone else ""
    said = f"{size} inputs -> {channels} averages{also}"
    return Change(head.path, said, edits, weights)


def _regression(bench: Bench, head: _Head, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias that answer from pooled maps what the network answers, by least squares."""
    import torch

    pooled: list[Tensor] = []

    def see(flat: Tensor, _: Tensor | None) -> None:
        pooled.append(flat.view(len(flat), head.maps[0], -1).mean(2).double())

    watch(bench.module, x, {head.path: see})
    features, wanted = torch.cat(pooled), answers(bench.module, x).double()
    centre, middle = features.mean(0), wanted.mean(0)
    features, wanted = features - centre, wanted - middle
    square = features.T @ features
    square += torch.eye(len(square)) * (_RIDGE * square.trace() / len(square) + 1e-12)
    weight = torch.linalg.solve(square, features.T @ wanted).T
    return weight.float(), (middle - weight @ centre).float()
