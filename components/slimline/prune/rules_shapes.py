"""Rules for shapes: reshape, permute, expand, repeat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slimline.prune.rules import Axes, Flow, Given, Rule, name_of, shape_of, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.fx import Node

    from slimline.prune.units import Ids


def reshape(flow: Flow, node: Node, given: Given) -> Axes | None:
    """Runs of axes that turn into other runs of as many numbers."""
    x = given.get("self", given.get("input"))
    before, after = shape_of(x), shape_of(node)
    axes = flow.all_axes(x)
    made: list[Ids | None] = [None] * len(after)
    for olds, news in _blocks(before, after):
        known = [i for i in olds if axes[i] is not None]
        if len(known) > 1:
            why = f"{name_of(node)} in {where(node)} merges two axes that could shrink"
            flow.freeze([axes[i] for i in known], why)
        elif known:
            where_to, ids = _through(flow, node, axes, (before, olds, known[0]), (after, news))
            if where_to is not None:
                made[where_to] = ids
    for axis, found in enumerate(made):
        if found is not None:
            _sizes(flow, node, found, after[axis])
    return tuple(made)


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Shortest runs of axes, longer than 1, with the same product on both sides."""
    olds = [i for i, size in enumerate(before) if size != 1]
    news = [i for i, size in enumerate(after) if size != 1]
    while olds and news:
        one, other = [olds.pop(0)], [news.pop(0)]
        while (a := math.prod(before[i] for i in one)) != (b := math.prod(after[i] for i in other)):
            if a < b:
                one.append(olds.pop(0))
            else:
                other.append(news.pop(0))
        yield one, other


def _through(
    flow: Flow,
    node: Node,
    axes: Axes,
    source: tuple[Sequence[int], Sequence[int], int],
    target: tuple[Sequence[int], Sequence[int]],
) -> tuple[int | None, Ids | None]:
    """Follow one axis through a reshape: which new axis carries it, and its ids.

    All that shares an index of the new axis falls together. Where several axes could carry it,
    the one that ties least is taken first; behind features it is the axis before the last, as
    heads are.
    """
    (before, olds, known), (after, news) = source, target
    ids = axes[known]
    if ids is None or (len(olds) == len(news) == 1):
        return news[0], ids
    inner = math.prod(before[i] for i in olds if i > known)
    outer = math.prod(before[i] for i in olds if i < known)
    flat = [i for i in ids for _ in range(inner)] * outer
    sizes = [after[i] for i in news]
    rows = {new: _rows(flat, sizes, place) for place, new in enumerate(news)}
    counts = {new: _classes(flow, found) for new, found in rows.items()}
    ways = sorted((n for n in news if counts[n] > 1), key=lambda n: -counts[n])
    if not ways:
        flow.freeze([ids], f"{name_of(node)} in {where(node)} mixes them with other axes")
        return None, None
    if ways[0] == len(after) - 1 and len(ways) > 1:
        ways.append(ways.pop(0))
    shapes = f"{[before[i] for i in olds]} to {sizes}"
    taken = ways[flow.choose(f"{name_of(node)} of {shapes} at {known}", len(ways))]
    for row in rows[taken]:
        flow.units.tie(row)
    return taken, tuple(row[0] for row in rows[taken])


def _rows(flat: Sequence[int], sizes: Sequence[int], place: int) -> list[list[int]]:
    """For each index of one axis of a shape, the flat ids that lie there."""
    run = math.prod(sizes[place + 1 :])
    rows: list[list[int]] = [[] for _ in range(sizes[place])]
    for position in range(0, len(flat), run):
        rows[position // run % sizes[place]] += dict.fromkeys(flat[position : position + run])
    return [list(dict.fromkeys(row)) for row in rows]


def _classes(flow: Flow, rows: Sequence[Sequence[int]]) -> int:
    """How many units are left when the ids of each row fall together."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent.setdefault(i, i) != i:
            i = parent[i]
        return i

    for row in rows:
        first = root(flow.units.root(row[0]))
        for i in row[1:]:
            parent[root(flow.units.root(i))] = first = root(first)
    return sum(1 for i, above in parent.items() if i == above)


def _sizes(flow: Flow, node: Node, ids: Ids, size: int) -> None:
    """Attributes that may hold the size of an axis, or the number of its units."""
    flow.size(node, size, ids)
    units = flow.distinct(ids)
    if 1 < len(units) < size:
        flow.size(node, len(units), units)


def permute(flow: Flow, _node: Node, given: Given) -> Axes:
    """Axes in another order."""
    axes = flow.all_axes(given["self"])
    return tuple(axes[i] for i in given["dims"])


def transpose(flow: Flow, node: Node, given: Given) -> Axes:
    """Two axes change places; `t` of a matrix too."""
    axes = list(flow.all_axes(given["self"]))
    if name_of(node) in {"t", "numpy_T"}:
        return tuple(reversed(axes))
    one, other = (-2, -1) if name_of(node) == "mT" else _swapped(given)
    axes[one], axes[other] = axes[other], axes[one]
    return tuple(axes)


_PLACES = (("dim0", "axis0"), ("dim1", "axis1"))


def _swapped(given: Given) -> tuple[int, int]:
    first, second = (next(given[n] for n in names if n in given) for names in _PLACES)
    return int(first), int(second)


def movedim(flow: Flow, _node: Node, given: Given) -> Axes:
    """Some axes move to other places, the rest keeps its order."""
    axes = flow.all_axes(given["self"])
    source, target = (
        [i % len(axes) for i in (v if isinstance(v, list | tuple) else [v])]
        for v in (given["source"], given["destination"])
    )
    rest = iter(i for i in range(len(axes)) if i not in source)
    order = dict(zip(target, source, strict=True))
    return tuple(axes[order[i] if i in order else next(rest)] for i in range(len(axes)))


def expand(flow: Flow, node: Node, given: Given) -> Axes:
    """An axis of one is repeated: as often as what it then meets is long."""
    x, after = given["self"], shape_of(node)
    axes: list[Ids | None] = []
    for back in range(-len(after), 0):
        known = -back <= len(shape_of(x)) and shape_of(x)[back] == after[back]
        if known or after[back] == 1:
            axes.append(flow.axis(x, back) if known else None)
            continue
        ids = flow.units.new(after[back])
        flow.size(node, after[back], ids)
        axes.append(ids)
    return tuple(axes)


def repeat(flow: Flow, _node: Node, given: Given) -> Axes:
    """The whole axis again and again."""
    x, repeats = given["self"], given["repeats" if "repeats" in given else "dims"]
    missing = len(repeats) - len(shape_of(x))
    axes = [*[None] * missing, *flow.all_axes(x)]
    return tuple(ids and ids * times for ids, times in zip(axes, repeats, strict=True))


def repeat_interleave(flow: Flow, _node: Node, given: Given) -> Axes | None:
    """Each index several times."""
    times, dim = given["repeats"], given["dim"]
    if not isinstance(times, int) or dim is None:
        return None
    axes = list(flow.all_axes(given["self"]))
    axes[dim] = axes[dim] and tuple(i for i in axes[dim] or () for _ in range(times))
    return tuple(axes)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten"), reshape),
    **dict.fromkeys(("squeeze", "unsqueeze"), reshape),
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t", "mT", "numpy_T"), transpose),
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("repeat", "tile"), repeat),
    "repeat_interleave": repeat_interleave,
}
