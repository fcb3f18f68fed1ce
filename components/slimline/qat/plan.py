"""Choose the layers that are trained in levels, and their levels; say why others are not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters
from slimline.models.fake_quantize_plan import FakeQuantization, LayerPlan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.qat.spec import Qat

_FEW = 4


def make_plan(
    module: nn.Module, example: Tensor, job: Qat
) -> tuple[FakeQuantization, dict[str, str]]:
    """Plan the training of a network.

    Args:
        module: in evaluation mode.
        example: an input of it.
        job: kinds and bits that are wanted, and what is excluded.

    Returns:
        The plan, and for each layer that stays float the reason.

    Raises:
        BadData: when the network has no layer that could be trained in levels.
        BadParameters: when `exclude` finds none or all of them, or only edges are left.
    """
    left_alone = _unfit(module)
    read = _read_tensors(module, example, left_alone)
    if not read:
        reasons = "; ".join(f"{k}: {v}" for k, v in list(left_alone.items())[:_FEW])
        msg = (
            "the network has no convolution or linear layer that could be trained in levels"
            f"{f' ({reasons})' if reasons else ''}: leave this step out"
        )
        raise BadData(msg)
    left_alone |= _excluded(read, job.exclude)
    chosen = {name: key for name, key in read.items() if name not in left_alone}
    edges = {next(iter(read)), next(reversed(read))} if job.edge_bits else set()
    owners: dict[int, str] = {}
    layers = {}
    for name, key in chosen.items():
        owner = owners.setdefault(key, name) if job.activation_bits != 32 else None  # noqa: PLR2004 - float
        layers[name] = _layer(job, owner, is_edge=name in edges)
    if job.weights != "integer" and not any(p.kind == job.weights for p in layers.values()):
        msg = (
            f"no layer would have {job.weights} weights: {', '.join(layers)} are the first and "
            "last of the network; set edge_bits to 0, or leave this step out"
        )
        raise BadParameters(msg)
    return FakeQuantization(method=job.method, layers=layers), left_alone


def _unfit(module: nn.Module) -> dict[str, str]:
    """Layers with a matrix of weights that no quantizer fits, with the reason."""
    from torch import nn

    owners: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    found = {}
    for path, layer in module.named_modules():
        matrices = [p for p in layer.parameters(recurse=False) if p.ndim > 1]
        if not matrices:
            continue
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            found[path] = f"{type(layer).__name__} is no convolution or linear layer"
        elif len(owners[id(layer.weight)]) > 1:
            found[path] = f"shares its weights: {', '.join(owners[id(layer.weight)])}"
    return found


def _read_tensors(module: nn.Module, example: Tensor, left_alone: dict[str, str]) -> dict[str, int]:
    """The other layers in the order of their first call, each with a number of what it reads.

    Layers that read the same tensor have the same number. One that is never called is left alone:
    its network reads the weights itself, and its input cannot be seen.
    """
    import torch
    from torch import nn

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    wanted = {p: m for p, m in module.named_modules() if isinstance(m, kinds)}
    wanted = {path: layer for path, layer in wanted.items() if path not in left_alone}
    seen: dict[str, Tensor] = {}
    numbers: dict[tuple[int, int, tuple[int, ...]], int] = {}
    read: dict[str, int] = {}

    def note(layer: Any, given: tuple[Tensor, ...]) -> None:
        path = paths[layer]
        if given and path not in read:
            seen[path] = given[0]  # kept, so that its memory is not given to another
            key = given[0].data_ptr(), given[0]._version, tuple(given[0].shape)  # noqa: SLF001 - torch's own name for it
            read[path] = numbers.setdefault(key, len(numbers))

    paths = {layer: path for path, layer in wanted.items()}
    hooks = [layer.register_forward_pre_hook(note) for layer in wanted.values()]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    for path in wanted.keys() - read.keys():
        left_alone[path] = "its own forward is never called, so its input cannot be rounded"
    return read


def _excluded(read: dict[str, int], pattern: str) -> dict[str, str]:
    if not pattern:
        return {}
    try:
        found = [name for name in read if re.search(pattern, name)]
    except re.error as error:
        msg = f"exclude {pattern!r} is no regular expression: {error}"
        raise BadParameters(msg) from error
    if not 0 < len(found) < len(read):
        more = " ..." if len(read) > _FEW else ""
        names = ", ".join(list(read)[:_FEW]) + more
        msg = f"exclude {pattern!r} finds {len(found)} of the layers {names}: find some, not all"
        raise BadParameters(msg)
    return dict.fromkeys(found, f"exclude {pattern!r} finds it")


def _layer(job: Qat, owner: str | None, *, is_edge: bool) -> LayerPlan:
    if is_edge and (job.weights != "integer" or job.weight_bits < job.edge_bits):
        return LayerPlan(kind="integer", bits=job.edge_bits, input=owner)
    bits = {"binary": 1, "ternary": 2}.get(job.weights, job.weight_bits)
    return LayerPlan(kind=job.weights, bits=bits, balance=job.balance, input=owner)
