"""Rules for layers with weights: convolution, linear, norms, embedding, recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.prune.rules import Axes, Flow, Given, Rule, name_of, owner_of, shape_of, where

if TYPE_CHECKING:
    from torch.fx import Node

    from slimline.prune.units import Ids

_INPUT = "its channels are the network's input, or of a given size"
_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def convolution(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Channels in, channels out; a grouped one loses whole groups, or as many in each group."""
    x, weight, groups = given["input"], given["weight"], given["groups"]
    spatial = len(shape_of(weight)) - 2
    if len(shape_of(x)) != spatial + 2:
        return None
    over = flow.all_axes(x)[2:]
    if weight.name not in flow.names:  # computed, as by a weight norm
        over += flow.all_axes(weight)[2:]
    flow.freeze(over, f"the convolution {where(node)} slides over them")
    transposed = name_of(node).startswith("conv_transpose")
    if groups == 1:
        flow.join([flow.axis(x, 1), flow.axis(weight, int(not transposed))], _INPUT)
        after = flow.axis(weight, int(transposed))
    else:
        after = _grouped(flow, node, given, transposed=transposed)
    return (flow.axis(x, 0), _made(flow, node, given, after), *[None] * spatial)


def _grouped(flow: Flow, node: Node, given: Given, *, transposed: bool) -> Ids | None:
    x, weight, groups = given["input"], given["weight"], given["groups"]
    count_in, count_out = shape_of(x)[1], shape_of(node)[1]
    each_in, each_out = count_in // groups, count_out // groups
    key = f"{name_of(node)} of {count_in} to {count_out} channels in {groups} groups"
    share = flow.choose(key, 2 if each_in > 1 and each_out > 1 else 1)
    before = flow.axis(x, 1) or flow.fixed(count_in, _INPUT)
    first = flow.axis(weight, 0) or flow.fixed(1, _INPUT)
    if transposed:
        flow.units.join(before, first)
        after = flow.units.new(count_out)
    else:
        after = first
    if not share:
        for k in range(groups):
            flow.units.tie((*before[k * each_in :][:each_in], *after[k * each_out :][:each_out]))
        return after
    inner = flow.axis(weight, 1) or flow.fixed(1, _INPUT)
    repeated, other = (after, before) if transposed else (before, after)
    flow.units.join(repeated, inner * groups)
    each = len(other) // groups
    flow.units.join(other, other[:each] * groups)
    return after


def linear(flow: Flow, node: Node, given: Given) -> Axes | None:
    """The last axis, whatever the rank."""
    x, weight = given["input"], given["weight"]
    if len(shape_of(weight)) != 2:  # noqa: PLR2004 - a matrix
        return None
    before = flow.axis(x, -1)
    flow.join([before, flow.axis(weight, 1)], _INPUT)
    after = _made(flow, node, given, flow.axis(weight, 0))
    if _is_attention(flow, node, weight) and before and after:
        # torch's own attention wants as many channels inside as outside.
        flow.units.join(after, before * (len(after) // len(before)))
    return (*flow.all_axes(x)[:-1], after)


def _is_attention(flow: Flow, node: Node, weight: Node) -> bool:
    from torch import nn

    name = flow.names.get(weight.name, "")
    if not name.endswith("in_proj_weight"):
        return False
    return isinstance(flow.module.get_submodule(owner_of(node)), nn.MultiheadAttention)


def _made(flow: Flow, node: Node, given: Given, ids: Ids | None) -> Ids | None:
    """What a layer makes: with its bias, and its name for the report."""
    if given.get("bias") is not None:
        flow.join([ids, flow.axis(given["bias"], 0)], f"the bias of {where(node)} is computed")
    weight = flow.names.get(given["weight"].name, owner_of(node))
    if weight and ids:
        flow.units.made(weight.removesuffix(".weight"), ids)
    return ids


def channel_norm(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Batch and instance norm: each channel on its own."""
    x = given["input"]
    ids = flow.axis(x, 1)
    held = [given[n] for n in ("weight", "bias", "running_mean", "running_var") if given.get(n)]
    flow.join([ids, *(flow.axis(tensor, 0) for tensor in held)], _INPUT)
    if not held and ids:
        flow.size(node, len(ids), ids)
    return flow.all_axes(x)


def layer_norm(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Layer and root mean square norm: what stays is scaled by what is left."""
    x, shape = given["input"], given["normalized_shape"]
    axes = len(shape_of(x))
    for i in range(len(shape)):
        ids = flow.axis(x, axes - len(shape) + i)
        held = [given[n] for n in ("weight", "bias") if given.get(n) is not None]
        flow.join([ids, *(flow.axis(tensor, i) for tensor in held)], _INPUT)
        flow.units.blur(ids or ())
        if not held and ids:
            flow.size(node, len(ids), ids)
    return flow.all_axes(x)


def group_norm(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Whole groups go, so that the others are what they were; or as many of each group."""
    x, groups = given["input"], given["num_groups"]
    held = [given[n] for n in ("weight", "bias") if given.get(n) is not None]
    ids = flow.join([flow.axis(x, 1), *(flow.axis(tensor, 0) for tensor in held)], _INPUT)
    if ids is None:
        return flow.all_axes(x)
    each = len(ids) // groups
    share = groups == 1 or flow.choose(f"group_norm of {len(ids)} in {groups}", 2 - (each == 1))
    if share:
        flow.units.join(ids, ids[:each] * groups)
        flow.units.blur(ids)
        return flow.all_axes(x)
    for k in range(groups):
        flow.units.tie(ids[k * each :][:each])
    if not held:
        flow.size(node, groups, ids[::each])
    return flow.all_axes(x)


def embedding(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Its features are channels; its vocabulary is given."""
    ids = flow.axis(given["weight"], 1)
    name = flow.names.get(given["weight"].name)
    if name and ids:
        flow.units.made(name.removesuffix(".weight"), ids)
    return (*flow.all_axes(given["indices"]), ids) if shape_of(node) else None


def prelu(flow: Flow, node: Node, given: Given) -> Axes | None:
    """One slope for all, or one for each channel."""
    x, weight = given["self"], given["weight"]
    if len(shape_of(x)) > 1 and shape_of(weight)[0] > 1:
        flow.join([flow.axis(x, 1), flow.axis(weight, 0)], _INPUT)
    return flow.all_axes(x) if shape_of(node) else None


def recurrent(flow: Flow, node: Node, given: Given) -> list[Axes] | None:
    """LSTM, GRU, RNN: hidden units, the same number in each layer and direction."""
    x, weights = given["input"], given["params"]
    directions = 2 if given["bidirectional"] else 1
    layers = given["num_layers"] * directions
    if len(weights) != layers * (4 if given["has_biases"] else 2):
        return None  # with a projection
    hidden = flow.axis(weights[1], 1)
    gates, each = _GATES[name_of(node)], len(weights) // layers
    before = flow.axis(x, -1)
    for i in range(layers):
        if i and i % directions == 0:
            before = hidden and hidden * directions
        part = weights[i * each : (i + 1) * each]
        flow.join([before, flow.axis(part[0], 1)], _INPUT)
        flow.join([hidden, flow.axis(part[1], 1)], _INPUT)
        for tensor in (part[0], *part[1:]):
            flow.join([hidden and hidden * gates, flow.axis(tensor, 0)], _INPUT)
    if hidden:
        flow.units.made(owner_of(node) or name_of(node), hidden)
    return _states(flow, node, given, hidden, directions)


def _states(
    flow: Flow, node: Node, given: Given, hidden: Ids | None, directions: int
) -> list[Axes] | None:
    first: Any = given["hx"]
    states = list(first) if isinstance(first, list | tuple) else [first]
    for state in states:
        flow.join([hidden, flow.axis(state, -1)], f"the first state of {where(node)} is given")
    x = given["input"]
    out = hidden and hidden * directions
    blank: Axes = (None,) * (len(shape_of(x)) - 1)
    return [(*blank, out), *[(*blank, hidden) for _ in states]]


def recurrent_cell(flow: Flow, node: Node, given: Given) -> Axes | list[Axes]:
    """One step of an LSTM, GRU or RNN."""
    gates = _GATES[name_of(node).removesuffix("_cell")]
    states = given["hx"] if isinstance(given["hx"], list | tuple) else [given["hx"]]
    hidden = flow.axis(given["w_hh"], 1)
    flow.join([flow.axis(given["input"], -1), flow.axis(given["w_ih"], 1)], _INPUT)
    flow.join([hidden, *(flow.axis(state, -1) for state in states)], _INPUT)
    for tensor in (given[n] for n in ("w_ih", "w_hh", "b_ih", "b_hh") if given[n] is not None):
        flow.join([hidden and hidden * gates, flow.axis(tensor, 0)], _INPUT)
    if hidden:
        flow.units.made(owner_of(node) or name_of(node), hidden)
    made: Axes = (*flow.all_axes(given["input"])[:-1], hidden)
    return made if shape_of(node) else [made] * len(states)


def weight_norm(flow: Flow, _node: Node, given: Given) -> Axes:
    """A weight of a direction and a length; without some of its inputs its length differs."""
    weight, length = given["v"], given["g"]
    axes = flow.all_axes(weight)
    for axis, ids in enumerate(axes):
        if shape_of(length)[axis] > 1:
            flow.join([ids, flow.axis(length, axis)], _INPUT)
        else:
            flow.units.blur(ids or ())
    return axes


RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), convolution),
    "linear": linear,
    **dict.fromkeys(("batch_norm", "instance_norm"), channel_norm),
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    "group_norm": group_norm,
    "embedding": embedding,
    "prelu": prelu,
    **dict.fromkeys(_GATES, recurrent),
    **dict.fromkeys([f"{name}_cell" for name in _GATES], recurrent_cell),
    "_weight_norm": weight_norm,
}
