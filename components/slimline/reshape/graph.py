"""What feeds what in a network: its plain layers, and the way from one to the next.

Only the simple form is followed: a layer whose outputs go through batch norm, activations, pooling
and depthwise convolutions to exactly one layer that takes them. Whatever else there is is left
alone, with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.models.traced import ACTIVATIONS, COPIES, POOLS, operation, owner, shape, trace

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import Node

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d")
_WEIGHTED = (*_CONVOLUTIONS, *_TRANSPOSED, "linear", "batch_norm")
_RUNNING_MEAN = 3
_ROWS = 2


class LeftAloneError(Exception):
    """Why a layer cannot be treated; it goes into the report."""


@dataclass(frozen=True)
class Chain:
    """The outputs of one layer on their way to the only layer that takes them."""

    maker: str
    between: tuple[str, ...]
    """Batch norms and depthwise convolutions, in order."""
    taker: str
    units: int
    run: int
    """Inputs of the taker for each unit: more than 1 after a flatten."""


class Graph:
    """The layers of a network that its forward calls once, by path.

    Attributes:
        layers: plain torch convolutions, linear layers and batch norms, each with its node.
        odd: the others of these kinds, each with why it is not plain.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        program = trace(module.eval(), example)
        signature = program.graph_signature
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.module = module
        self.nodes: list[Node] = list(program.graph.nodes)
        self.layers: dict[str, Node] = {}
        self.odd: dict[str, str] = {}
        self._find_layers()
        self._paths = {node: path for path, node in self.layers.items()}

    def path(self, node: Node) -> str | None:
        """Path of the plain layer that a node calls."""
        return self._paths.get(node)

    def macs(self, path: str) -> int:
        """Multiply-accumulates of one example in a convolution or linear layer."""
        node = self.layers[path]
        weight: Any = self.module.get_submodule(path).weight
        sizes = shape(node)
        spatial = sizes[1:-1] if operation(node) == "linear" else sizes[2:]
        return int(weight.numel()) * math.prod(spatial)

    def chain(self, maker: str) -> Chain:
        """Follow a layer's outputs to where they are taken.

        Raises:
            LeftAloneError: when they go to several layers, or through what mixes them.
        """
        return _Walk(self, maker).run()

    def sole_user(self, node: Node) -> Node:
        """The one node that takes what this one gives; raises LeftAloneError."""
        users = list(node.users)
        if len(users) != 1:
            msg = f"its output is used {len(users)} times"
            raise LeftAloneError(msg)
        if users[0].op == "output":
            msg = "its channels are the network's answer"
            raise LeftAloneError(msg)
        return users[0]

    def _find_layers(self) -> None:
        from torch import nn

        kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001
        tied = _tied(self.module)
        called: Counter[str] = Counter()
        for node in self.nodes:
            if operation(node) in _WEIGHTED:
                path = owner(node)
                called[path] += 1
                self.layers[path] = node
        for path, layer in self.module.named_modules():
            if isinstance(layer, kinds):
                why = self._oddity(path, layer, called[path], tied)
                if why:
                    self.odd[path] = why
        plain = {p for p, m in self.module.named_modules() if isinstance(m, kinds)}
        plain -= self.odd.keys()
        self.layers = {p: n for p, n in self.layers.items() if p in plain}

    def _oddity(self, path: str, layer: nn.Module, calls: int, tied: set[str]) -> str | None:
        """Why a layer is not one that may be changed by itself."""
        from torch import nn

        if not type(layer).__module__.startswith("torch.nn.modules") or not hasattr(
            nn, type(layer).__name__
        ):
            return f"{type(layer).__name__} is no plain torch layer"
        if calls != 1:
            times = f"{calls} times" if calls else "never; its weights may be used without it"
            return f"forward calls it {times}"
        if any(f"{path}.{name}" in tied for name, _ in layer.named_parameters()):
            return "it shares its weights with another layer"
        node = self.layers[path]
        at = _RUNNING_MEAN if operation(node) == "batch_norm" else 1
        operand: Any = node.args[at]
        if operand is None:
            return "it normalises by its own batch"
        known = self._names.get(operand.name, "")
        return None if known.startswith(f"{path}.") else "its weights are computed"


class _Walk:
    """One walk along the outputs of a layer."""

    def __init__(self, graph: Graph, maker: str) -> None:
        self.graph, self.maker = graph, maker
        self.node = graph.layers[maker]
        self.between: list[str] = []
        layer: Any = graph.module.get_submodule(maker)
        linear = operation(self.node) == "linear"
        if operation(self.node) not in (*_CONVOLUTIONS, "linear"):
            msg = f"{type(layer).__name__} is not followed"
            raise LeftAloneError(msg)
        if not linear and layer.groups > 1:
            msg = "its channels are convolved in groups"
            raise LeftAloneError(msg)
        self.axis = len(shape(self.node)) - 1 if linear else 1
        self.units = int(layer.weight.shape[0])

    def run(self) -> Chain:
        while True:
            self.node = self.graph.sole_user(self.node)
            name, path = operation(self.node), self.graph.path(self.node)
            if path and name in (*_CONVOLUTIONS, "linear") and not self._is_depthwise(path):
                return self._arrive(path)
            if path and (name == "batch_norm" or self._is_depthwise(path)) and self.axis == 1:
                self.between.append(path)
            elif not self._passes(name):
                where = owner(self.node) or "the network"
                msg = f"its channels go through {name} in {where}"
                raise LeftAloneError(msg)

    def _is_depthwise(self, path: str) -> bool:
        layer: Any = self.graph.module.get_submodule(path)
        groups = getattr(layer, "groups", 1)
        return bool(groups > 1 and groups == layer.in_channels == layer.out_channels)

    def _passes(self, name: str) -> bool:
        """Whether an operation treats every channel by itself and leaves its axis in place."""
        (source, *others), after = self.node.all_input_nodes, shape(self.node)
        before = shape(source)
        if others or len(before) <= self.axis:
            return False
        if name in ACTIVATIONS or name in COPIES:
            return True
        spatial = self.axis == 1 and len(before) > _ROWS
        if name in POOLS:
            return spatial
        if name == "mean":
            return spatial and after[:_ROWS] == before[:_ROWS]
        if name in ("flatten", "view", "reshape", "squeeze"):
            rows = (before[0], math.prod(before[1:]))
            return self.axis == 1 and (after == rows or after[:_ROWS] == before[:_ROWS])
        return False

    def _arrive(self, taker: str) -> Chain:
        layer: Any = self.graph.module.get_submodule(taker)
        linear = operation(self.node) == "linear"
        if not linear and layer.groups > 1:
            msg = f"{taker} convolves its channels in groups"
            raise LeftAloneError(msg)
        before = shape(self.node.args[0])
        inputs = int(layer.weight.shape[1])
        if (linear and self.axis != len(before) - 1) or inputs % self.units:
            msg = f"{taker} takes another axis than its channels"
            raise LeftAloneError(msg)
        return Chain(self.maker, tuple(self.between), taker, self.units, inputs // self.units)


def _tied(module: nn.Module) -> set[str]:
    """Names of parameters that are one tensor under several names."""
    named = list(module.named_parameters(remove_duplicate=False))
    count = Counter(id(parameter) for _, parameter in named)
    return {name for name, parameter in named if count[id(parameter)] > 1}
