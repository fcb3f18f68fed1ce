"""What the rules for operations share: the units that each axis of each tensor carries.

Every tensor of the graph has, for each of its axes, either the ids of its units or None: an axis
whose size is given and cannot change. A rule reads the ids of its operands and gives those of its
result; joining ids with a fixed axis fixes them too, and keeps the reason.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from slimline.prune.units import Ids, Size, Units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import CodeType

    from torch import nn
    from torch.export import ExportedProgram
    from torch.fx import Node

    from slimline.prune.units import Group

Axes = tuple[Ids | None, ...]
"""For each axis of a tensor its ids, or None where its size is fixed."""
Given = dict[str, Any]
"""The arguments of an operation, by the names of its schema."""
Rule: TypeAlias = "Callable[[Flow, Node, Given], Axes | list[Axes] | None]"
"""From the units of an operation's operands to those of its results; None: not understood."""


class Flow:
    """The units on their way through a network."""

    def __init__(
        self, module: nn.Module, program: ExportedProgram, choices: Mapping[str, int]
    ) -> None:
        kept = set(module.state_dict())
        signature = program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.names = {node: name for node, name in named.items() if name in kept}
        self.module, self.choices = module, choices
        self.units = Units()
        self.options: dict[str, int] = {}
        """How many ways there are to follow an operation, by what it is."""
        self.axes: dict[Node, Axes | list[Axes]] = {}
        self.frozen: dict[str, str] = {}
        """By parameter, why it must stay as a whole."""

    def axis(self, node: Any, axis: int) -> Ids | None:
        """The units of one axis of a tensor."""
        shape = shape_of(node)
        axis %= len(shape)
        if shape[axis] == 1:
            return None
        if node.name in self.names:
            return self.units.placed(self.names[node.name], axis, shape[axis])
        found = self.axes.get(node)
        return found[axis] if found and isinstance(found, tuple) else None

    def all_axes(self, node: Any) -> Axes:
        """The units of every axis of a tensor."""
        return tuple(self.axis(node, axis) for axis in range(len(shape_of(node))))

    def join(self, parts: Iterable[Ids | None], why: str) -> Ids | None:
        """Axes of one length that shrink together; a fixed one among them fixes all."""
        parts = list(parts)
        known = [ids for ids in parts if ids is not None]
        for ids in known[1:]:
            self.units.join(known[0], ids)
        if len(known) < len(parts):
            self.freeze(known, why)
        return known[0] if known else None

    def freeze(self, parts: Iterable[Ids | None], why: str) -> None:
        """These axes must keep their sizes."""
        for ids in parts:
            self.units.freeze(ids or (), why)

    def fixed(self, count: int, why: str) -> Ids:
        """Units that must stay, for an axis that is given."""
        ids = self.units.new(count)
        self.units.freeze(ids, why)
        return ids

    def freeze_inputs(self, node: Node, why: str) -> None:
        """Nothing that flows into an operation may change."""
        for source in filter(is_tensor, node.all_input_nodes):
            if source.name in self.names:
                self.frozen.setdefault(self.names[source.name], why)
            else:
                self.freeze(self.all_axes(source), why)

    def groups(self) -> tuple[tuple[Group, ...], dict[str, str]]:
        """What can be cut, and by layer why the rest cannot."""
        for name, why in self.frozen.items():
            self.units.freeze_parameter(name, why)
        groups, left_alone = self.units.groups()
        layers = {name.rpartition(".")[0] or name: why for name, why in self.frozen.items()}
        return groups, layers | left_alone

    def distinct(self, ids: Ids) -> Ids:
        """One id for each unit of an axis, in order."""
        return tuple({self.units.root(i): i for i in reversed(ids)}.values())[::-1]

    def choose(self, key: str, count: int) -> int:
        """Which of several ways to take; all operations of one key take the same."""
        self.options[key] = max(count, self.options.get(key, 1))
        return min(self.choices.get(key, 0), count - 1)

    def size(self, node: Node, value: int, ids: Ids) -> bool:
        """Let the attribute that holds this size shrink with the axis.

        An attribute counts when the code of its class reads it: of the innermost module first.

        Returns:
            Whether there is one.
        """
        if len(ids) != value:
            return False
        for path, layer in _stack(node, self.module):
            found = [
                Size(path, name, position)
                for name, position, held in _numbers(layer)
                if held == value
            ]
            for size in found:
                self.units.size(size, ids)
            if found:
                return True
        self.units.suspect(ids, f"{name_of(node)} in {where(node)}")
        return False


def name_of(node: Node) -> str:
    """`conv2d` of `aten.conv2d.default`, `relu` of its in-place form `relu_`."""
    return str(node.target).removeprefix("aten.").split(".", 1)[0].removesuffix("_")


def shape_of(node: Any) -> tuple[int, ...]:
    """Shape of a node's tensor; () when it is none."""
    value = node.meta.get("val") if hasattr(node, "meta") else None
    return tuple(getattr(value, "shape", ()))


def owner_of(node: Node) -> str:
    """Path of the innermost module that the operation stands in."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def where(node: Node) -> str:
    """The same in words."""
    return owner_of(node) or "the network"


def given_to(node: Node) -> Given:
    """The arguments of an operation by name, defaults filled in."""
    arguments = node.target._schema.arguments  # type: ignore[union-attr] # noqa: SLF001 - no other
    given = {a.name: a.default_value for a in arguments}
    given |= {a.name: value for a, value in zip(arguments, node.args, strict=False)}
    return given | dict(node.kwargs)


def is_tensor(node: Any) -> bool:
    """Whether an argument is a tensor of the graph."""
    return hasattr(node, "meta") and hasattr(node.meta.get("val"), "shape")


def _stack(node: Node, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that the operation stands in, innermost first; none for a layer with own sizes."""
    from torch import nn

    for path, _ in reversed(list(node.meta.get("nn_module_stack", {}).values())):
        try:
            layer = module.get_submodule(path)
        except AttributeError:  # a function that export shows as a module
            continue
        if isinstance(layer, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention):
            return  # an edit of their weights sets their sizes
        yield path, layer


def _numbers(layer: nn.Module) -> Iterator[tuple[str, int | None, int]]:
    """(attribute, position in it, value) for the whole numbers that a module's code reads."""
    kind: Any = type(layer)
    read = _names_read(kind)
    for name, value in vars(layer).items():
        if name not in read or name.startswith("__"):
            continue
        if type(value) is int:
            yield name, None, value
        elif isinstance(value, tuple | list) and all(type(v) is int for v in value):
            yield from ((name, position, v) for position, v in enumerate(value))


@cache
def _names_read(kind: type[nn.Module]) -> frozenset[str]:
    """Names in the code of a class's own methods, `__init__` aside."""
    from torch import nn

    own = [c for c in kind.__mro__ if c not in nn.Module.__mro__]
    codes: list[CodeType] = []
    for name, method in ((n, m) for c in own for n, m in vars(c).items()):
        if name != "__init__" and hasattr(method, "__code__"):
            codes.append(method.__code__)
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [c for c in code.co_consts if hasattr(c, "co_names")]
    return frozenset(names)


def parts_of(node: Node) -> Sequence[tuple[int, ...]]:
    """Shapes of an operation that gives several tensors."""
    return [tuple(value.shape) for value in node.meta["val"]]
