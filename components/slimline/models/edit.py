"""Replay structural edits: cut tensors, set attributes to match, replace layers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.models.info import Cut, Replace, SetAttribute
from slimline.models.layers import make_layer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from slimline.models.info import Edit

PADDING = "padding"
"""`<module>.padding` names the channels that an `nn.ConstantPad3d` adds: left ones, then right."""


def apply_edits(module: nn.Module, edits: Iterable[Edit]) -> nn.Module:
    """Bring a network into shape, in place.

    Args:
        module: built by the factory, or changed by earlier edits.
        edits: in order; the indices of each count in the tensor as the earlier ones left it.

    Returns:
        The same module.

    Raises:
        BadData: on an edit that names no module or tensor of the network, an index outside it, or
            a layer that cannot be made.
    """
    touched: set[str] = set()
    for edit in edits:
        if isinstance(edit, Cut):
            touched.add(_cut(module, edit))
        elif isinstance(edit, SetAttribute):
            _set_attribute(_find(module, edit.module, edit), edit)
        else:
            _match(module, touched)
            _replace(module, edit)
    _match(module, touched)
    return module


def _match(module: nn.Module, touched: set[str]) -> None:
    """Let the sizes of layers follow their tensors; none of them is left to do afterwards."""
    while touched:
        _match_attributes(module.get_submodule(touched.pop()))


def _cut(module: nn.Module, edit: Cut) -> str:
    """Cut a tensor; returns the path of its layer."""
    owner, _, attribute = edit.parameter.rpartition(".")
    layer = _find(module, owner, edit)
    if attribute == PADDING:
        _cut_padding(layer, edit)
    else:
        _cut_tensor(layer, attribute, edit)
    return owner


def _find(module: nn.Module, path: str, edit: Edit) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise _unfit(edit, "the network has no such layer") from error


def _set_attribute(layer: nn.Module, edit: SetAttribute) -> None:
    """Only sizes may change: an attribute that is there, and holds whole numbers."""
    before = vars(layer).get(edit.name)
    old, new = (v if isinstance(v, tuple | list) else (v,) for v in (before, edit.value))
    plain = all(type(size) is int for size in old)
    if not plain or isinstance(before, tuple | list) != isinstance(edit.value, tuple):
        raise _unfit(edit, "it is no size of that form")
    setattr(layer, edit.name, list(new) if isinstance(before, list) else edit.value)


def _replace(module: nn.Module, edit: Replace) -> None:
    before = _find(module, edit.module, edit)
    parent, _, name = edit.module.rpartition(".")
    made = make_layer(edit.layer)
    made.train(before.training)
    setattr(module.get_submodule(parent), name, made)


def _cut_tensor(layer: nn.Module, attribute: str, edit: Cut) -> None:
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
    _match_groups(layer, attribute, edit, before.shape[edit.axis])


def _cut_padding(layer: nn.Module, edit: Cut) -> None:
    from torch import nn

    if not isinstance(layer, nn.ConstantPad3d):
        raise _unfit(edit, "only an nn.ConstantPad3d has channels of padding")
    left, right = layer.padding[4:]
    _check_keep(edit, left + right, least=0)
    kept = sum(i < left for i in edit.keep)
    layer.padding = (*layer.padding[:4], kept, len(edit.keep) - kept)


def _check_keep(edit: Cut, size: int, least: int = 1) -> None:
    keep = edit.keep
    rising = all(a < b for a, b in itertools.pairwise(keep))
    if len(keep) < least or not rising or (keep and not 0 <= keep[0] <= keep[-1] < size):
        raise _unfit(edit, f"keep must be rising indices below {size}")


def _unfit(edit: Edit, why: str) -> BadData:
    if isinstance(edit, Cut):
        what = f"{edit.parameter}, axis {edit.axis}"
    elif isinstance(edit, SetAttribute):
        what = f"{edit.module}.{edit.name}"
    else:
        what = edit.module
    msg = f"edit of {what}: {why}; make the model again from its recipe"
    return BadData(msg)


def _match_attributes(layer: nn.Module) -> None:
    """Let a layer's sizes say what its tensors are; groups follow where they are cut."""
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if isinstance(layer, _ConvNd):
        sizes = layer.weight.shape[:2]
        one, other = reversed(sizes) if layer.transposed else sizes
        # The second axis of a weight counts what lies in one group.
        layer.out_channels = one * (layer.groups if layer.transposed else 1)
        layer.in_channels = other * (1 if layer.transposed else layer.groups)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
    elif isinstance(layer, nn.RNNBase):
        (_, layer.input_size), (_, layer.hidden_size) = (w.shape for w in layer.all_weights[0][:2])
        layer.flatten_parameters()
    elif isinstance(layer, nn.RNNCellBase):
        (_, layer.input_size), (_, layer.hidden_size) = layer.weight_ih.shape, layer.weight_hh.shape
    elif isinstance(layer, nn.MultiheadAttention):
        _match_attention(layer)
    else:
        _match_norm(layer)


def _match_norm(layer: nn.Module) -> None:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    if isinstance(layer, _NormBase):
        sized = layer.running_mean if layer.running_mean is not None else layer.weight
        layer.num_features = len(sized)
    elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = len(layer.weight)


def _match_attention(layer: nn.MultiheadAttention) -> None:
    """Heads keep their width, so their number follows; it holds for packed projections alone."""
    packed: Tensor | None = layer.in_proj_weight
    if packed is not None:
        layer.embed_dim = layer.kdim = layer.vdim = packed.shape[1]
        layer.num_heads = packed.shape[0] // 3 // layer.head_dim


def _match_groups(layer: nn.Module, attribute: str, edit: Cut, size: int) -> None:
    """Groups that are cut as a whole are fewer; where each loses as many, their number stays."""
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if attribute != "weight" or edit.axis != 0:
        return
    if isinstance(layer, _ConvNd) and layer.groups > 1:
        layer.groups = _groups_left(edit, size, layer.groups)
    elif isinstance(layer, nn.GroupNorm):
        layer.num_groups = _groups_left(edit, size, layer.num_groups)


def _groups_left(edit: Cut, size: int, groups: int) -> int:
    each = size // groups
    counts = [sum(i // each == group for i in edit.keep) for group in range(groups)]
    if set(counts) <= {0, each}:
        return counts.count(each)
    if len(set(counts)) > 1:
        raise _unfit(edit, f"of its {groups} groups each must lose all or as many as the others")
    return groups
