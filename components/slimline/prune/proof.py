"""Prove that groups can be cut: the cut network runs, and answers as if they did not count.

Half of each group's units are taken out. Where no norm over channels lies behind, the answers must
be those of the uncut network in which all weights of these units are zero. A group that fails is
left alone with what went wrong; which one it is, is found by halving.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slimline.models.edit import PADDING, apply_edits
from slimline.prune.edits import edits_for
from slimline.prune.units import merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from slimline.prune.units import Group

_TOLERANCE = 1e-4
_BUFFERS = (f".{PADDING}", ".running_mean", ".running_var")


class Proof:
    """Trial cuts of one network on one input."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self._module = module
        self._x = _lively(module, example)

    def proven(self, groups: Sequence[Group]) -> tuple[tuple[Group, ...], dict[str, str]]:
        """The groups whose cut holds, all at once; by layer why the others are left alone."""
        reasons: dict[str, str] = {}
        kept: list[Group] = []
        for exact in (True, False):
            asked = [group for group in groups if group.exact is exact]
            kept = self._add(kept, asked, reasons)
        for together in _together([group for group in groups if group.name in reasons]):
            if self._wrong([*kept, together]) is None:
                kept.append(together)
                own = set(together.tensors)
                held = [g.name for g in groups if own >= set(g.tensors)]
                reasons = {name: why for name, why in reasons.items() if name not in held}
                break
        order = [group.name for group in groups]
        return tuple(sorted(kept, key=lambda group: order.index(group.name))), reasons

    def _add(
        self, kept: Sequence[Group], asked: Sequence[Group], reasons: dict[str, str]
    ) -> list[Group]:
        """As many of the asked groups as go together with those that are kept."""
        if not asked:
            return list(kept)
        wrong = self._wrong([*kept, *asked])
        if wrong is None:
            return [*kept, *asked]
        if len(asked) > 1:
            half = len(asked) // 2
            first = self._add(kept, asked[:half], reasons)
            return self._add(first, asked[half:], reasons)
        for other in _with_fewer_sizes(asked[0]):
            if self._wrong([*kept, other]) is None:
                return [*kept, other]
        through = f"; see {', '.join(asked[0].through)}" if asked[0].through else ""
        reasons[asked[0].name] = wrong + through
        return list(kept)

    def _wrong(self, groups: Sequence[Group]) -> str | None:
        """What is wrong with cutting these groups together; None when nothing is."""
        keep = [range(0, len(group.units), 2) for group in groups]
        made = copy.deepcopy(self._module)
        try:
            apply_edits(made, edits_for(made, groups, keep))
            answers = _answers(made, self._x)
        except Exception as error:  # noqa: BLE001 - whatever a forward raises is a reason
            said = str(error).strip() or type(error).__name__
            return f"the cut network does not run, a size may stand in its code: {said:.160}"
        exact = all(group.exact for group in groups)
        silent = _answers(_silenced(self._module, groups, keep), self._x)
        return _difference(answers, silent, exact=exact)


def _difference(answers: Sequence[Tensor], wanted: Sequence[Tensor], *, exact: bool) -> str | None:
    for got, want in zip(answers, wanted, strict=True):
        if got.shape != want.shape:
            return f"the cut network answers {list(got.shape)} in place of {list(want.shape)}"
        if not bool(got.isfinite().all()) and bool(want.isfinite().all()):
            return "the cut network answers NaN or infinity"
        if not exact or not got.is_floating_point():
            continue
        off = float((got - want).abs().max() / want.abs().max().clamp_min(1e-6))
        if off > _TOLERANCE:
            return f"the cut network answers otherwise than with these channels at zero: {off:.1e}"
    return None


def _together(failed: Sequence[Group]) -> Iterator[Group]:
    """Groups that hang on one size: a stream whose width the heads of attention divide.

    Code such as `c // heads` holds when stream and heads lose the same share.
    """
    for base in sorted(failed, key=lambda group: -len(group.units)):
        rest = [group for group in failed if group is not base]
        for count in sorted({len(group.units) for group in rest}):
            others = [group for group in rest if len(group.units) == count]
            if len(base.units) % count == 0:
                yield merged(base, others)


def _with_fewer_sizes(group: Group) -> Iterator[Group]:
    """The same without its attributes, then with one of them: a size may be equal by chance."""
    if group.sizes:
        yield replace(group, sizes=())
    if len(group.sizes) > 1:
        yield from (replace(group, sizes=(size,)) for size in group.sizes)


def _silenced(
    module: nn.Module, groups: Sequence[Group], keep: Sequence[Sequence[int]]
) -> nn.Module:
    """A copy in which the weights of the units that go are zero."""
    import torch

    gone: dict[tuple[str, int], set[int]] = defaultdict(set)
    for group, kept in zip(groups, keep, strict=True):
        for number in set(range(len(group.units))) - set(kept):
            for place in group.units[number]:
                gone[place.parameter, place.axis].update(place.indices)
    quiet = copy.deepcopy(module)
    state = quiet.state_dict()
    with torch.no_grad():
        for (parameter, axis), indices in gone.items():
            if not parameter.endswith(_BUFFERS):
                state[parameter].movedim(axis, 0)[sorted(indices)] = 0
    return quiet


def _answers(module: nn.Module, x: Tensor) -> list[Tensor]:
    import torch
    from torch.utils._pytree import tree_leaves

    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        found: Any = tree_leaves(module.eval()(x))
    return [leaf for leaf in found if isinstance(leaf, torch.Tensor)]


def _lively(module: nn.Module, example: Tensor) -> Tensor:
    """Random numbers in the example's shape, or the example where the network wants others."""
    import torch

    if not example.is_floating_point():
        return example
    draw = torch.Generator().manual_seed(0)
    made = torch.randn(example.shape, generator=draw, dtype=example.dtype)
    for x in (made, made.abs().clamp(max=0.9)):
        try:
            _answers(module, x)
        except (RuntimeError, ValueError, IndexError):
            continue
        return x
    return example
