"""Walk the graph of a network and find the groups of channels that can be removed.

Each tensor in the graph carries, for each axis that can shrink, the ids of its units. A layer that
makes channels makes units, an addition joins those of its operands, a concatenation puts them side
by side, a reshape spreads them; an operation that is not understood freezes what flows into it.
`torch.export` gives the graph; the grouping follows DepGraph (Fang et al. 2023, arXiv:2301.12900),
but by index maps in place of pairwise dependencies. Each group is then proven by a trial cut.
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.prune import rules_layers, rules_math, rules_parts, rules_shapes
from slimline.prune.proof import Proof
from slimline.prune.rules import Flow, given_to, is_tensor, name_of, where

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.fx import Node

    from slimline.prune.rules import Axes, Rule
    from slimline.prune.units import Group

_RULES: Mapping[str, Rule] = {
    **rules_math.RULES,
    **rules_shapes.RULES,
    **rules_parts.RULES,
    **rules_layers.RULES,
}
_CHECKS = ("_assert", "sym_", "_set_grad")
_WAYS = 40
"""Alternatives that are tried at most, over all operations that have some."""


def find_groups(module: nn.Module, example: Tensor) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Find what can be cut.

    Args:
        module: in evaluation mode.
        example: an input of at least two examples.

    Returns:
        The groups that a trial cut has proven, and by layer why it is left alone.

    Raises:
        BadData: when `torch.export` cannot read the network.
    """
    flow = _best(module, _exported(module, example))
    found, left_alone = flow.groups()
    single = {g.name: "its channels can only go all together" for g in found if len(g.units) == 1}
    groups, unproven = Proof(module, example).proven([g for g in found if len(g.units) > 1])
    return groups, single | unproven | left_alone


def _exported(module: nn.Module, example: Tensor) -> ExportedProgram:
    import torch

    try:
        # Without gradients, torch's transformer layer is a single operation.
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a recurrent layer's own list of weights
            return torch.export.export(module, (example,))
    except Exception as error:  # torch.export's errors share no base class but Exception
        msg = (
            "torch.export cannot read the network, so it cannot be cut: use method magnitude, or "
            f"take control flow that depends on data out of it: {str(error).splitlines()[0]:.200}"
        )
        raise BadData(msg) from error


def _best(module: nn.Module, program: ExportedProgram) -> Flow:
    """Follow the graph; where an operation can be followed in several ways, in the best one.

    The best leaves most to cut. Operations of one kind and size take the same way.
    """
    choices: dict[str, int] = {}
    best = _walk(Flow(module, program, choices), program)
    worth, tried = _worth(best), 0
    for key, count in list(best.options.items()):
        for way in range(1, count):
            if tried == _WAYS:
                return best
            tried += 1
            other = _walk(Flow(module, program, {**choices, key: way}), program)
            if _worth(other) > worth * 1.001:
                choices[key], best, worth = way, other, _worth(other)
    return best


def _worth(flow: Flow) -> float:
    """Weights that can be removed, each counted for each of its axes."""
    total = 0.0
    state = flow.module.state_dict()
    for group in flow.groups()[0]:
        if len(group.units) == 1:
            continue
        for place in (p for unit in group.units for p in unit if p.parameter in state):
            shape = state[place.parameter].shape
            total += math.prod(shape) / shape[place.axis] * len(place.indices)
    return total


def _walk(flow: Flow, program: ExportedProgram) -> Flow:
    for node in program.graph.nodes:
        if node.op == "output":
            flow.freeze_inputs(node, "its channels are the network's answer")
        elif node.op == "call_function":
            axes = _visit(flow, node)
            if axes is None:
                # Not understood: what flows in must stay, what comes out is not followed.
                flow.freeze_inputs(node, f"{name_of(node)} in {where(node)} is not understood")
            else:
                flow.axes[node] = axes
    return flow


def _visit(flow: Flow, node: Node) -> Axes | list[Axes] | None:
    import torch

    if node.target is operator.getitem:
        source, number = node.args
        parts = flow.axes.get(source)  # type: ignore[arg-type]
        return parts[number] if isinstance(parts, list) else ()  # type: ignore[index]
    if name_of(node).startswith(_CHECKS):
        return ()
    if not hasattr(node.target, "_schema"):
        return None if any(map(is_tensor, node.all_input_nodes)) else ()
    rule = _RULES.get(name_of(node))
    if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        rule = rules_math.elementwise
    try:
        return rule(flow, node, given_to(node)) if rule else None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None  # operands of a form that the rule does not know
