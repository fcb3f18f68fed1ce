"""Rules for parts of axes: concatenate, split, slice, pad, shuffle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.models.edit import PADDING
from slimline.prune.rules import (
    Axes,
    Flow,
    Given,
    Rule,
    name_of,
    owner_of,
    parts_of,
    shape_of,
    where,
)

if TYPE_CHECKING:
    from torch.fx import Node

    from slimline.prune.units import Ids


def concatenate(flow: Flow, node: Node, given: Given) -> Axes:
    """Side by side along one axis, together along the others."""
    parts, count = given["tensors"], len(shape_of(node))
    parts = [part for part in parts if len(shape_of(part)) == count]
    along = given.get("dim", 0) % count
    why = f"{name_of(node)} in {where(node)} joins them with an axis of fixed size"
    axes = [
        None if i == along else flow.join([flow.axis(part, i) for part in parts], why)
        for i in range(count)
    ]
    found = [flow.axis(part, along) for part in parts]
    if any(ids is not None for ids in found):
        sized = zip(parts, found, strict=True)
        axes[along] = sum((i or flow.fixed(shape_of(p)[along], why) for p, i in sized), ())
    return tuple(axes)


def stack(flow: Flow, node: Node, given: Given) -> Axes:
    """A new axis."""
    parts, count = given["tensors"], len(shape_of(node))
    why = f"{name_of(node)} in {where(node)} joins them with an axis of fixed size"
    axes = [flow.join([flow.axis(part, i) for part in parts], why) for i in range(count - 1)]
    axes.insert(given.get("dim", 0) % count, None)
    return tuple(axes)


def split(flow: Flow, node: Node, given: Given) -> list[Axes]:
    """Parts in a row: equal ones lose the same indices, so that they stay equal."""
    x = given["self"]
    axes = flow.all_axes(x)
    along = given.get("dim", 0) % len(axes)
    ids, sizes = axes[along], [shape[along] for shape in parts_of(node)]
    if ids is None:
        return [axes] * len(sizes)
    if len(set(sizes)) == 1:
        flow.units.join(ids, ids[: sizes[0]] * len(sizes))
    elif name_of(node) == "chunk":
        flow.freeze([ids], f"chunk in {where(node)} splits them unevenly")
    made: list[Axes] = []
    for i, size in enumerate(sizes):
        part = ids[sum(sizes[:i]) :][:size]
        flow.size(node, size, part)
        made.append((*axes[:along], part, *axes[along + 1 :]))
    return made


def unbind(flow: Flow, node: Node, given: Given) -> list[Axes]:
    """Each index a tensor of its own."""
    axes = list(flow.all_axes(given["self"]))
    count = len(parts_of(node))
    gone = axes.pop(given.get("dim", 0))
    flow.freeze([gone], f"{name_of(node)} in {where(node)} takes them apart by number")
    return [tuple(axes)] * count


def select(flow: Flow, node: Node, given: Given) -> Axes:
    """One index of an axis."""
    axes = list(flow.all_axes(given["self"]))
    gone = axes.pop(given["dim"])
    flow.freeze([gone], f"{name_of(node)} in {where(node)} takes them apart by number")
    return tuple(axes)


def cut_out(flow: Flow, node: Node, given: Given) -> Axes | None:
    """A run of indices; one of several equal runs loses what the others lose."""
    axes = list(flow.all_axes(given["self"]))
    along = given["dim"] % len(axes)
    ids, length = axes[along], shape_of(node)[along]
    if ids is None or length == len(ids):
        return tuple(axes)
    start = int(given["start"] or 0)
    start += len(ids) if start < 0 else 0
    axes[along] = ids[start : start + length]
    if given.get("step", 1) != 1 or length == 1:
        flow.freeze([ids], f"{name_of(node)} in {where(node)} takes them apart by number")
        return tuple(axes)
    key = f"{name_of(node)} of {len(ids)} to {length}"
    equal = len(ids) % length == 0 and start % length == 0
    if equal and not flow.choose(key, 2):
        flow.units.join(ids, ids[:length] * (len(ids) // length))
    for size, part in (
        (start, ids[:start]),
        (start + length, ids[: start + length]),
        (length, ids[start : start + length]),
    ):
        if size and size < len(ids):
            flow.size(node, size, part)
    return tuple(axes)


def index(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Rows of a table; the indexed axes keep their sizes."""
    x = given["self"]
    axes, indices = flow.all_axes(x), list(given["indices"])
    indices += [None] * (len(axes) - len(indices))
    used = [i for i, by in enumerate(indices) if by is not None]
    if not used or used != list(range(used[0], used[-1] + 1)):
        return None
    flow.freeze([axes[i] for i in used], f"index in {where(node)} takes them apart by number")
    new = len(shape_of(node)) - (len(axes) - len(used))
    return (*axes[: used[0]], *[None] * new, *axes[used[-1] + 1 :])


def index_select(flow: Flow, node: Node, given: Given) -> Axes:
    """Indices of an axis in a given order."""
    axes = list(flow.all_axes(given["self"]))
    flow.freeze([axes[given["dim"]]], f"index_select in {where(node)} takes them by number")
    axes[given["dim"]] = None
    return tuple(axes)


def pad(flow: Flow, node: Node, given: Given) -> Axes:
    """What is added to an axis that shrinks are units too, with a place in the padding's size.

    A width that stands in the code keeps the added ones; those between may still go.
    """
    widths: Any = given["pad"]
    axes = list(flow.all_axes(given["self"]))
    for i in range(len(widths) // 2):
        axis, (left, right) = len(axes) - 1 - i, widths[2 * i : 2 * i + 2]
        ids = axes[axis]
        if ids is None or (left, right) == (0, 0):
            continue
        if min(left, right) < 0 or given.get("mode", "constant") != "constant":
            flow.freeze([ids], f"pad in {where(node)} repeats or crops them")
            axes[axis] = None
            continue
        added = flow.units.new(left + right)
        if not _padding_place(flow, node, axis, len(axes), added):
            for width, part in ((left, added[:left]), (right, added[left:])):
                if width and not flow.size(node, width, part):
                    why = f"the width of a padding stands in the code of {where(node)}"
                    flow.units.freeze(part, why)
        axes[axis] = (*added[:left], *ids, *added[left:])
    return tuple(axes)


def _padding_place(flow: Flow, node: Node, axis: int, count: int, added: Ids) -> bool:
    from torch import nn

    path = owner_of(node)
    if not isinstance(flow.module.get_submodule(path), nn.ConstantPad3d):
        return False
    if axis != count - 3:
        return False
    flow.units.place(f"{path}.{PADDING}", 1, added)
    return True


def pixel_shuffle(flow: Flow, node: Node, given: Given) -> Axes:
    """Channels in runs become pixels, or pixels channels."""
    axes = flow.all_axes(given["self"])
    ids = axes[-3]
    if ids is not None and name_of(node) == "pixel_shuffle":
        run = int(given["upscale_factor"]) ** 2
        for start in range(0, len(ids), run):
            flow.units.tie(ids[start : start + run])
        ids = ids[::run] if len(ids) > run else None
    elif ids is not None:
        ids = tuple(i for i in ids for _ in range(int(given["downscale_factor"]) ** 2))
    return (*axes[:-3], ids, None, None)


def channel_shuffle(flow: Flow, _node: Node, given: Given) -> Axes:
    """Groups take turns; each loses the same."""
    axes, groups = flow.all_axes(given.get("self", given.get("input"))), given["groups"]
    ids = axes[1]
    if ids is None:
        return axes
    each = len(ids) // groups
    flow.units.join(ids, ids[:each] * groups)
    shuffled = tuple(ids[k * each + j] for j in range(each) for k in range(groups))
    return (axes[0], shuffled, *axes[2:])


def glu(flow: Flow, _node: Node, given: Given) -> Axes:
    """One half gates the other: both lose the same."""
    axes = list(flow.all_axes(given["self"]))
    ids = axes[given["dim"]]
    if ids is not None:
        half = len(ids) // 2
        axes[given["dim"]] = flow.units.join(ids[:half], ids[half:])
    return tuple(axes)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenate),
    "stack": stack,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), split),
    "unbind": unbind,
    "select": select,
    **dict.fromkeys(("slice", "narrow"), cut_out),
    "index": index,
    "index_select": index_select,
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), pixel_shuffle),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), channel_shuffle),
    "glu": glu,
}
