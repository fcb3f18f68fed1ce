"""Depth: remove the blocks and layers that a network misses least.

In the manner of layer pruning by measured contribution, as block-wise removal of residual networks
allows it (Veit et al. 2016, arXiv:1605.06431: residual blocks can be dropped one by one). Here the
loss on training examples decides, measured again after each removal.
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, get_logger
from slimline.models.edit import apply_edits
from slimline.models.info import Layer, Replace
from slimline.models.loop import judged
from slimline.prune.cut import CutNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

    from slimline.models.tensors import Batchable
    from slimline.prune.target import Target

log = get_logger(__name__)
_PLAIN = "it is called with other things than one tensor"


def remove_blocks(
    module: nn.Module, uncut: nn.Module, example: Tensor, samples: Batchable, target: Target
) -> CutNetwork:
    """Remove the least important blocks, one after the other, until the target is met.

    Args:
        module: in evaluation mode.
        uncut: the network that shares are counted of.
        example: an input of at least two examples.
        samples: training examples on which the loss is measured.
        target: MACs, parameters or latency; or a share of the uncut network's blocks.

    Raises:
        BadParameters: when no block can be removed, or the target is not met without all of them.
    """
    paths, left_alone = removable(module, example)
    may_stay = _may_stay(target, len(removable(uncut, example)[0]))
    current, gone, costs = copy.deepcopy(module), {}, dict.fromkeys(paths, float("-inf"))
    while not (target.is_met(current) if may_stay is None else len(costs) <= may_stay):
        if not costs:
            raise target.unreachable("the network without every block that can be removed")
        path, cost = _least(current, costs, samples)
        del costs[path]
        gone[path] = cost
        log.info("prune: removes %s: the loss rises by %.4f", path, cost)
        current = apply_edits(current, [_removal(path)])
    return CutNetwork(
        current,
        tuple(_removal(path) for path in gone),
        left_alone=left_alone,
        notes={path: f"removed: the loss rose by {cost:.4f}" for path, cost in gone.items()},
        probes=tuple(target.probes),
    )


def removable(module: nn.Module, example: Tensor) -> tuple[tuple[str, ...], dict[str, str]]:
    """The blocks and layers that can be skipped, and by layer why others cannot.

    A candidate has weights of its own, takes one tensor, once, and gives one of the same shape. A
    chain of layers is looked into, and a candidate itself where none is in it; a module with a way
    of its own, such as a residual block, is one candidate as a whole.
    """
    calls = _calls(module, example)
    found: list[str] = []
    left_alone: dict[str, str] = {}

    def look(path: str, layer: nn.Module) -> None:
        if not any(p.ndim > 1 for p in layer.parameters()):
            return
        children = list(layer.named_children())
        why = _why_not(calls.get(path, [])) if path else "it is the whole network"
        before = len(found)
        if why or _is_chain(layer):
            for name, child in children:
                look(f"{path}.{name}" if path else name, child)
        if not why and len(found) == before:
            found.append(path)
        elif not children:
            left_alone[path] = why

    look("", module)
    left_alone = {p: why for p, why in left_alone.items() if not _within(p, found)}
    kept = [path for path in found if _runs_without(module, path, example)]
    left_alone |= dict.fromkeys(set(found) - set(kept), "the network does not run without it")
    return tuple(kept), left_alone


def _within(path: str, blocks: Iterable[str]) -> bool:
    return any(path.startswith(f"{block}.") for block in blocks)


def _is_chain(layer: nn.Module) -> bool:
    from torch import nn

    return type(layer).forward is nn.Sequential.forward or type(layer) is nn.ModuleList


def _calls(module: nn.Module, example: Tensor) -> dict[str, list[str]]:
    """For each module, for each call: why it cannot be skipped, "" if it can."""
    import torch

    calls: dict[str, list[str]] = {}
    hooks = []
    for path, layer in module.named_modules():

        def note(
            _: nn.Module, given: tuple[object, ...], named: object, made: object, path: str = path
        ) -> None:
            calls.setdefault(path, []).append(_judge(given, named, made))

        hooks.append(layer.register_forward_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            module.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _judge(given: tuple[object, ...], named: object, made: object) -> str:
    import torch

    if named or len(given) != 1 or not isinstance(given[0], torch.Tensor):
        return _PLAIN
    if not isinstance(made, torch.Tensor):
        return "it answers with more than one tensor"
    if made.shape != given[0].shape:
        return f"it makes {list(made.shape[1:])} of {list(given[0].shape[1:])}"
    return ""


def _why_not(calls: list[str]) -> str:
    if len(calls) != 1:
        return f"it is called {len(calls)} times"
    return calls[0]


def _runs_without(module: nn.Module, path: str, example: Tensor) -> bool:
    import torch

    try:
        with torch.no_grad(), _skipped(module, path):
            module.eval()(example)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        return False
    return True


def _may_stay(target: Target, there: int) -> int | None:
    """Blocks that may stay after this step, of those of the uncut network; None without a ratio."""
    if target.job.target != "ratio":
        return None
    if not round(target.job.ratio * there):
        msg = (
            f"ratio {target.job.ratio:g} takes none of the {there} blocks and layers that could be "
            "removed: use a larger ratio, or method structured or magnitude"
        )
        raise BadParameters(msg)
    return there - round(target.job.ratio * target.share * there)


def _least(module: nn.Module, costs: dict[str, float], samples: Batchable) -> tuple[str, float]:
    """The candidate whose absence costs least, and by how much the loss rises; updates `costs`.

    What skipping costs hardly falls as more is skipped. So the candidates are measured anew in the
    order of their last costs, until the best of them is below what the next one cost before (lazy
    greedy selection, Minoux 1978).
    """
    base = _loss(module, samples)
    measured: dict[str, float] = {}
    for path in sorted(costs, key=lambda p: costs[p]):
        if measured and min(measured.values()) <= costs[path]:
            break
        with _skipped(module, path):
            measured[path] = _loss(module, samples) - base
    costs |= measured
    best = min(measured, key=lambda p: measured[p])
    return best, measured[best]


def _loss(module: nn.Module, samples: Batchable) -> float:
    loss = judged(module, samples)[0] / len(samples)
    return loss if math.isfinite(loss) else float("inf")


@contextmanager
def _skipped(module: nn.Module, path: str) -> Iterator[None]:
    """The network without a block, for as long as the context lasts."""
    from torch import nn

    parent, _, name = path.rpartition(".")
    owner, layer = module.get_submodule(parent), module.get_submodule(path)
    setattr(owner, name, nn.Identity())
    try:
        yield
    finally:
        setattr(owner, name, layer)


def _removal(path: str) -> Replace:
    return Replace(module=path, layer=Layer(type="Identity"))
