"""Replay structural edits: cut tensors and set the attributes of their layers to match."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from slimline.models.info import Edit

PADDING = "padding"
"""`<module>.padding` names the channels that an `nn.ConstantPad3d` adds: left ones, then right."""


def apply_edits(module: nn.Module, edits: Iterable[Edit]) -> nn.Module:
    """Cut a network to shape, in place.

    Args:
        module: built by the factory, or cut by earlier edits.
        edits: in order; the indices of each count in the tensor as the earlier ones left it.

    Returns:
        The same module.

    Raises:
        BadData: on an edit that names no tensor of the network or an index outside it.
    """
    touched: set[str] = set()
    for edit in edits:
        owner, _, attribute = edit.parameter.rpartition(".")
        try:
            layer = module.get_submodule(owner)
        except AttributeError as error:
            raise _unfit(edit, "the network has no such layer") from error
        if attribute == PADDING:
            _cut_padding(layer, edit)
        else:
            _cut_tensor(layer, attribute, edit)
        touched.add(owner)
    for owner in sorted(touched):
        _match_attributes(module.get_submodule(owner))
    return module


def _cut_tensor(layer: nn.Module, attribute: str, edit: Edit) -> None:
    import torch

    before: Tensor | None = getattr(layer, attribute, None)
    if not isinstance(before, torch.Tensor):
        raise _unfit(edit, "the network has no such tensor")
    if not 0 <= edit.axis < before.ndim:
        raise _unfit(edit, f"the tensor has {before.ndim} axes")
    _check_keep(edit, before.shape[edit.axis])
    index = torch.tensor(edit.keep, device=before.device)
    after = before.detach().index_select(edit.axis, index).contiguous()
    if isinstance(before, torch.nn.Parameter):
        setattr(layer, attribute, torch.nn.Parameter(after, requires_grad=before.requires_grad))
    else:
        setattr(layer, attribute, after)


def _cut_padding(layer: nn.Module, edit: Edit) -> None:
    from torch import nn

    if not isinstance(layer, nn.ConstantPad3d):
        raise _unfit(edit, "only an nn.ConstantPad3d has channels of padding")
    left, right = layer.padding[4:]
    _check_keep(edit, left + right, least=0)
    kept = sum(i < left for i in edit.keep)
    layer.padding = (*layer.padding[:4], kept, len(edit.keep) - kept)


def _check_keep(edit: Edit, size: int, least: int = 1) -> None:
    keep = edit.keep
    rising = all(a < b for a, b in itertools.pairwise(keep))
    if len(keep) < least or not rising or (keep and not 0 <= keep[0] <= keep[-1] < size):
        raise _unfit(edit, f"keep must be rising indices below {size}")


def _unfit(edit: Edit, why: str) -> BadData:
    msg = f"edit of {edit.parameter}, axis {edit.axis}: {why}; make the model again from its recipe"
    return BadData(msg)


def _match_attributes(layer: nn.Module) -> None:
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        # A grouped convolution is cut by whole groups, so what one group makes stays the same.
        per_group = layer.out_channels // layer.groups
        layer.out_channels = layer.weight.shape[0]
        layer.groups = layer.out_channels // per_group if layer.groups > 1 else 1
        layer.in_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm):
        sized = layer.running_mean if layer.running_mean is not None else layer.weight
        layer.num_features = len(sized)
