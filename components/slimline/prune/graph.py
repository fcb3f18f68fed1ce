"""Walk the graph of a network and find the groups of channels that can be removed.

Each tensor in the graph carries, for its channel axis (the second one), the ids of its units. A
layer that makes channels makes units, an addition joins those of its operands, a concatenation puts
them side by side, and an operation that is not understood freezes what flows into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.models.edit import PADDING
from slimline.prune.units import Group, Ids, Units

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.fx import Node

_ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh"),
    *("leaky_relu", "elu", "softplus", "mish", "clamp", "abs", "neg", "dropout", "feature_dropout"),
)
_POOLS = (
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("upsample_nearest2d", "upsample_bilinear2d"),
)
_COPIES = ("clone", "contiguous", "to", "detach", "alias")
_SAME_CHANNELS = (*_ACTIVATIONS, *_POOLS, *_COPIES)
_ELEMENTWISE = ("add", "sub", "mul", "div", "maximum", "minimum")
_FLATTENING = ("flatten", "view", "reshape", "_unsafe_view", "squeeze")


def find_groups(
    module: nn.Module, example: Tensor, *, through_reshapes: bool = True
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Find what can be cut.

    Args:
        module: in evaluation mode.
        example: an input of at least two examples.
        through_reshapes: whether a reshape to (batch, features) may narrow; wrong where its size
            is a number in the code.

    Returns:
        The groups, and by layer why it is left alone.

    Raises:
        BadData: when `torch.export` cannot read the network.
    """
    import torch

    try:
        program = torch.export.export(module, (example,))
    except Exception as error:  # torch.export's errors share no base class but Exception
        msg = (
            "torch.export cannot read the network, so it cannot be cut: use method magnitude, or "
            f"take control flow that depends on data out of it: {str(error).splitlines()[0]:.200}"
        )
        raise BadData(msg) from error
    return _Walk(module, program, through_reshapes=through_reshapes).run()


class _Walk:
    def __init__(
        self, module: nn.Module, program: ExportedProgram, *, through_reshapes: bool
    ) -> None:
        signature = program.graph_signature
        self.nodes = list(program.graph.nodes)
        self.names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.module, self.through_reshapes = module, through_reshapes
        self.units = Units()
        self.ids: dict[Node, Ids] = {}
        self.frozen_parameters: dict[str, str] = {}
        self.rules: dict[str, Callable[[Node], Ids | None]] = {
            "conv1d": self._conv,
            "conv2d": self._conv,
            "conv3d": self._conv,
            "linear": self._linear,
            "batch_norm": self._batch_norm,
            "cat": self._cat,
            "pad": self._pad,
            "constant_pad_nd": self._pad,
            "mean": self._mean,
            "slice": self._slice,
        }
        self.rules |= dict.fromkeys(_SAME_CHANNELS, self._same)
        self.rules |= dict.fromkeys(_ELEMENTWISE, self._elementwise)
        self.rules |= dict.fromkeys(_FLATTENING, self._flatten)

    def run(self) -> tuple[tuple[Group, ...], dict[str, str]]:
        for node in self.nodes:
            if node.op == "placeholder":
                self._given(node)
            elif node.op == "call_function":
                self._visit(node)
            elif node.op == "output":
                self._freeze_inputs(node, "its channels are the network's answer")
        for name, why in self.frozen_parameters.items():
            self.units.freeze_parameter(name, why)
        return self.units.groups()

    def _given(self, node: Node) -> None:
        if node.name not in self.names and len(_shape(node)) > 1:
            self.ids[node] = self.units.new(_shape(node)[1])
            self.units.freeze(self.ids[node], "its channels are the network's input")

    def _visit(self, node: Node) -> None:
        rule = self.rules.get(_operation(node))
        ids = rule(node) if rule else None
        if ids is None:
            # Not understood: nothing that flows in may change, what comes out is not followed.
            self._freeze_inputs(node, f"{_operation(node)} in {_where(node)} is not understood")
        else:
            self.ids[node] = ids

    def _freeze_inputs(self, node: Node, why: str) -> None:
        for source in node.all_input_nodes:
            self.units.freeze(self.ids.get(source, ()), why)
            if source.name in self.names:
                self.frozen_parameters.setdefault(self.names[source.name], why)

    def _input(self, node: Node) -> Ids:
        """Units of the first operand; frozen ones where it is not followed."""
        source = node.all_input_nodes[0]
        if source not in self.ids:
            made = self.units.new(_shape(source)[1])
            self.units.freeze(made, f"the input of {_where(node)} is given")
            self.ids[source] = made
        return self.ids[source]

    def _parameter(self, node: Node, position: int) -> str | None:
        """Name of the parameter in an operand; None when it is left out or computed."""
        operand: Any = node.args[position] if len(node.args) > position else None
        return self.names.get(operand.name) if operand is not None else None

    def _conv(self, node: Node) -> Ids | None:
        weight = self._parameter(node, 1)
        if weight is None or len(_shape(node.args[0])) < 3:  # noqa: PLR2004 - with a batch
            return None
        groups = node.args[6] if len(node.args) > 6 else 1  # noqa: PLR2004 - its place in aten
        before, shape = self._input(node), _shape(node.args[1])
        if groups == 1:
            self.units.place(weight, 1, before)
            after = self.units.new(shape[0])
        elif groups == len(before) == shape[0]:
            after = before
        else:
            return None
        return self._made(node, weight, after)

    def _linear(self, node: Node) -> Ids | None:
        weight = self._parameter(node, 1)
        if weight is None or len(_shape(node.args[0])) != 2:  # noqa: PLR2004 - rows only
            return None
        self.units.place(weight, 1, self._input(node))
        return self._made(node, weight, self.units.new(_shape(node)[1]))

    def _made(self, node: Node, weight: str, ids: Ids) -> Ids | None:
        self.units.place(weight, 0, ids)
        if len(node.args) > 2 and node.args[2] is not None:  # noqa: PLR2004 - the bias
            bias = self._parameter(node, 2)
            if bias is None:
                self.units.freeze(ids, f"the bias of {_where(node)} is computed")
            else:
                self.units.place(bias, 0, ids)
        return ids

    def _batch_norm(self, node: Node) -> Ids | None:
        names = [self._parameter(node, i) for i in range(1, 5)]
        if None in names[2:]:
            return None
        ids = self._input(node)
        for name in names:
            if name is not None:
                self.units.place(name, 0, ids)
        return ids

    def _same(self, node: Node) -> Ids | None:
        return self._input(node) if len(_shape(node)) > 1 else None

    def _elementwise(self, node: Node) -> Ids | None:
        one, *rest = node.all_input_nodes
        if not rest:
            return self._same(node)
        (other,) = rest
        if one not in self.ids or other not in self.ids:
            return None
        same_axes = len(_shape(one)) == len(_shape(other))
        if not same_axes or len(self.ids[one]) != len(self.ids[other]):
            return None
        return self.units.join(self.ids[one], self.ids[other])

    def _cat(self, node: Node) -> Ids | None:
        parts: Any = node.args[0]
        axis = node.args[1] if len(node.args) > 1 else 0
        axes = len(_shape(node))
        if axis not in (1, 1 - axes) or any(p not in self.ids for p in parts):
            return None
        return tuple(i for part in parts for i in self.ids[part])

    def _pad(self, node: Node) -> Ids | None:
        """Channels that a padding layer adds are units with a place in its padding."""
        sizes: Any = node.args[1]
        axes = len(_shape(node))
        at = 2 * (axes - 2)
        if len(sizes) <= at:
            return self._same(node)
        left, right = sizes[at : at + 2]
        path = _owner(node)
        if len(sizes) > at + 2 or not self._is_padding_layer(path):
            return None
        before, added = self._input(node), self.units.new(left + right)
        self.units.place(f"{path}.{PADDING}", 1, added)
        return (*added[:left], *before, *added[left:])

    def _is_padding_layer(self, path: str) -> bool:
        from torch import nn

        return isinstance(self.module.get_submodule(path), nn.ConstantPad3d)

    def _mean(self, node: Node) -> Ids | None:
        axes, over = len(_shape(node.args[0])), node.args[1] if len(node.args) > 1 else None
        over_places = over if isinstance(over, list | tuple) else range(axes)
        return None if {int(a) % axes for a in over_places} & {0, 1} else self._input(node)

    def _slice(self, node: Node) -> Ids | None:
        axis = node.args[1] if len(node.args) > 1 else 0
        axes = len(_shape(node))
        whole = _shape(node) == _shape(node.args[0])
        spatial = isinstance(axis, int) and axis % axes > 1
        return self._input(node) if whole or spatial else None

    def _flatten(self, node: Node) -> Ids | None:
        """To (batch, features): each channel becomes a run of features."""
        before, after = _shape(node.args[0]), _shape(node)
        if before[:2] == after[:2]:
            return self._input(node)
        constant = _operation(node) not in ("flatten", "squeeze") and not self.through_reshapes
        if constant or len(after) != 2 or before[0] != after[0]:  # noqa: PLR2004 - rows
            return None
        ids = self._input(node)
        run = after[1] // len(ids)
        return tuple(i for i in ids for _ in range(run))


def _operation(node: Node) -> str:
    """`conv2d` of `aten.conv2d.default`, `relu` of its in-place form `relu_`."""
    return str(node.target).removeprefix("aten.").split(".", 1)[0].removesuffix("_")


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if hasattr(value, "shape") else ()


def _owner(node: Node) -> str:
    """Path of the innermost module that the operation stands in."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _where(node: Node) -> str:
    return _owner(node) or "the network"
