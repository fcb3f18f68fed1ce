"""Rules for arithmetic: elementwise operations, products of activations, reductions, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.prune.rules import Axes, Flow, Given, Rule, is_tensor, name_of, shape_of, where

if TYPE_CHECKING:
    from torch.fx import Node

    from slimline.prune.units import Ids

_EXACT_SUMS = ("sum", "linalg_vector_norm", "norm")
_COPIES = (
    *("clone", "contiguous", "to", "_to_copy", "detach", "alias", "lift_fresh_copy", "type_as"),
    *("dropout", "feature_dropout", "alpha_dropout", "zeros_like", "ones_like", "full_like"),
    *("float", "double", "half", "relu6", "hardtanh", "hardswish", "hardsigmoid", "selu", "celu"),
    *("softplus", "elu", "mish", "log_sigmoid", "hardshrink", "softshrink", "square", "clamp"),
)
_POOLS = (
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
)
_ALONG = ("softmax", "log_softmax", "_softmax", "cumsum", "cumprod", "flip", "roll", "sort")
_REDUCTIONS = ("mean", "sum", "amax", "amin", "var", "std", "logsumexp", *_EXACT_SUMS)
_CREATED = ("zeros", "ones", "full", "empty", "rand", "randn", "new_zeros", "new_ones", "new_full")


def elementwise(flow: Flow, node: Node, _given: Given) -> Axes | None:
    """Operands with broadcasting, aligned from the last axis."""
    shape = shape_of(node)
    operands = [n for n in node.all_input_nodes if is_tensor(n)]
    why = f"{name_of(node)} in {where(node)} joins them with an axis of fixed size"
    axes: list[Ids | None] = []
    for back in range(-len(shape), 0):
        meeting = [o for o in operands if -back <= len(shape_of(o)) and shape_of(o)[back] > 1]
        axes.append(flow.join([flow.axis(o, back) for o in meeting], why))
    return tuple(axes)


def matmul(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Two stacks of matrices; the inner axes meet and go."""
    one = given["self"]
    other = given.get("other", given.get("mat2"))
    if min(len(shape_of(one)), len(shape_of(other))) < 2:  # noqa: PLR2004 - matrices
        return None
    why = f"the product in {where(node)} has an inner axis of fixed size"
    flow.join([flow.axis(one, -1), flow.axis(other, -2)], why)
    axes: list[Ids | None] = []
    for back in range(-len(shape_of(node)), -2):
        meeting = [o for o in (one, other) if -back <= len(shape_of(o)) and shape_of(o)[back] > 1]
        axes.append(flow.join([flow.axis(o, back) for o in meeting], why))
    return (*axes, flow.axis(one, -2), flow.axis(other, -1))


def addmm(flow: Flow, node: Node, given: Given) -> Axes | None:
    """A product and a bias."""
    product = {"self": given["mat1"], "other": given["mat2"]}
    rows, columns = matmul(flow, node, product) or (None, None)
    bias = given["self"]
    why = f"the bias in {where(node)} has a fixed size"
    if shape_of(bias)[-1:] == shape_of(node)[-1:]:
        columns = flow.join([columns, flow.axis(bias, -1)], why)
    return (rows, columns)


def einsum(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Axes of one letter shrink together."""
    before, arrow, after = str(given["equation"]).replace(" ", "").partition("->")
    terms, operands = before.split(","), given["tensors"]
    if not arrow or "." in before or len(terms) != len(operands):
        return None
    meeting: dict[str, list[Ids | None]] = {}
    for term, operand in zip(terms, operands, strict=True):
        for axis, letter in enumerate(term):
            if shape_of(operand)[axis] > 1:
                meeting.setdefault(letter, []).append(flow.axis(operand, axis))
    why = f"einsum in {where(node)} joins them with an axis of fixed size"
    joined = {letter: flow.join(parts, why) for letter, parts in meeting.items()}
    return tuple(joined.get(letter) for letter in after)


def attention(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Scaled dot products: heads shrink together, what values carry on its own.

    The features of queries and keys stay: the scale is the root of their number.
    """
    query, key, value, mask = (given[n] for n in ("query", "key", "value", "attn_mask"))
    if given["enable_gqa"]:
        return None
    asking, holding = flow.axis(query, -1), flow.axis(key, -1)
    if given["scale"] is None:
        flow.freeze([asking, holding], f"the attention in {where(node)} is scaled by their number")
    why = f"the attention in {where(node)} needs as many as it has"
    flow.join([asking, holding], why)
    flow.freeze([flow.axis(key, -2), flow.axis(value, -2)], why)
    flow.freeze(flow.all_axes(mask) if mask is not None else (), why)
    axes: list[Ids | None] = []
    for axis in range(len(shape_of(node)) - 2):
        meeting = [o for o in (query, key, value) if shape_of(o)[axis] > 1]
        axes.append(flow.join([flow.axis(o, axis) for o in meeting], why))
    return (*axes, flow.axis(query, -2), flow.axis(value, -1))


def reduction(flow: Flow, node: Node, given: Given) -> Axes:
    """Axes that go; where one shrinks, only a sum over it stays what it was."""
    x = given.get("self", given.get("input"))
    axes = flow.all_axes(x)
    over = given.get("dim")
    places = range(len(axes)) if over in (None, []) else over if isinstance(over, list) else [over]
    gone = {int(axis) % max(1, len(axes)) for axis in places}
    if name_of(node) not in _EXACT_SUMS:
        for axis in gone:
            flow.units.blur(axes[axis] or ())
    if given.get("keepdim"):
        return tuple(None if i in gone else ids for i, ids in enumerate(axes))
    return tuple(ids for i, ids in enumerate(axes) if i not in gone)


def maximum(flow: Flow, node: Node, given: Given) -> Axes | list[Axes] | None:
    """Of two tensors, of all numbers, or over an axis: then with the indices."""
    if "other" in given:
        return elementwise(flow, node, given)
    found = reduction(flow, node, given)
    return found if is_tensor(node) else [found] * 2


def along(flow: Flow, node: Node, given: Given) -> Axes | list[Axes] | None:
    """Operations in which the order or number along one axis matters: that one stays."""
    x: Any = given.get("self", given.get("input"))
    axes = list(flow.all_axes(x))
    over = given.get("dim", given.get("dims"))
    for axis in over if isinstance(over, list | tuple) else [-1 if over is None else over]:
        flow.freeze([axes[axis]], f"{name_of(node)} in {where(node)} is taken over them")
        axes[axis] = None
    return tuple(axes) if shape_of(node) else [tuple(axes)] * 2


def pooling(flow: Flow, node: Node, given: Given) -> Axes | list[Axes] | None:
    """Pooling and resizing: over the last axes, each channel on its own."""
    x: Any = given.get("self", given.get("input"))
    spatial = int(name_of(node).split("d")[-2][-1]) if name_of(node).endswith("d") else 2
    axes = flow.all_axes(x)
    flow.freeze(axes[-spatial:], f"{name_of(node)} in {where(node)} is taken over them")
    kept: Axes = (*axes[:-spatial], *[None] * spatial)
    return kept if shape_of(node) else [kept, kept]


def created(flow: Flow, node: Node, _given: Given) -> Axes | None:
    """A tensor of a constant: as large as what it meets, where an attribute says its size."""
    axes = []
    for size in shape_of(node):
        ids = flow.units.new(size) if size > 1 else None
        if ids:
            flow.size(node, size, ids)
        axes.append(ids)
    return tuple(axes)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_COPIES, elementwise),
    **dict.fromkeys(("matmul", "mm", "bmm"), matmul),
    "addmm": addmm,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(_REDUCTIONS, reduction),
    **dict.fromkeys(("max", "min"), maximum),
    **dict.fromkeys(_ALONG, along),
    **dict.fromkeys(_POOLS, pooling),
    **dict.fromkeys(_CREATED, created),
}
