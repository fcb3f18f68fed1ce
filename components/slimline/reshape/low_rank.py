"""Factorise layers into smaller ones of low rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from slimline.models.info import Layer, Replace
from slimline.models.traced import operation, shape
from slimline.reshape.bench import Bench, Change
from slimline.reshape.describe import in_a_row
from slimline.reshape.graph import LeftAloneError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from slimline.reshape.graph import Graph
    from slimline.reshape.spec import Reshape

_SWEEPS = 10


class Part(NamedTuple):
    """One of the layers that take a layer's place."""

    name: str
    layer: Layer
    weight: Tensor
    ends: tuple[bool, bool] = (True, True)
    """For height and width: whether it works at the size of the output, not of the input."""


def low_rank(bench: Bench, job: Reshape) -> None:
    """Put two or three thin layers in the place of a thick one, where that is cheaper.

    Linear layers and 1x1 convolutions take a truncated singular value decomposition (Denton et al.
    2014, arXiv:1404.0736). Other two-dimensional convolutions take Tucker-2, which is 1x1, kxk and
    1x1 (Kim et al. 2015, arXiv:1511.06530; by higher-order orthogonal iteration, from the higher-
    order singular values), or the spatial decomposition kx1, 1xk (Jaderberg et al. 2014,
    arXiv:1405.3866). Ranks keep `energy` of the squared singular values, or are the share `rank` of
    the full ones, and are rounded up to a multiple of `round_to`. A layer whose parts would need as
    many multiply-accumulates as it does itself is left alone.
    """
    graph = bench.graph()
    for path, why in graph.odd.items():
        bench.leave(path, why)
    for path, node in graph.layers.items():
        if operation(node) == "batch_norm" or not bench.wants(path):
            continue
        try:
            bench.attempt(_factorise(graph, path, node, job))
        except LeftAloneError as why:
            bench.leave(path, why)


def _factorise(graph: Graph, path: str, node: Node, job: Reshape) -> Change:
    """The change for one layer; raises LeftAloneError."""
    layer: Any = graph.module.get_submodule(path)
    kind = operation(node)
    if kind not in ("linear", "conv2d") or getattr(layer, "groups", 1) > 1:
        grouped = "in groups" if getattr(layer, "groups", 1) > 1 else "not in two dimensions"
        msg = f"it is a {type(layer).__name__} {grouped}"
        raise LeftAloneError(msg)
    if kind == "linear":
        parts, ranks = _linear(layer, job)
    elif max(layer.kernel_size) == 1:
        parts, ranks = _pointwise(layer, job)
    elif job.convolution == "tucker":
        parts, ranks = _tucker(layer, job)
    else:
        parts, ranks = _spatial(layer, job)
    cost, macs = _macs(parts, node), graph.macs(path)
    if cost >= macs:
        msg = f"rank {ranks} would cost {cost} multiply-accumulates, it costs {macs}"
        raise LeftAloneError(msg)
    weights = {f"{path}.{part.name}.weight": part.weight.float() for part in parts}
    if layer.bias is not None:
        weights[f"{path}.{parts[-1].name}.bias"] = layer.bias.detach()
    made = Replace(module=path, layer=in_a_row(**{part.name: part.layer for part in parts}))
    said = f"rank {ranks}, {macs} -> {cost} multiply-accumulates"
    return Change(path, said, (made,), weights)


def _rank(energies: Tensor, job: Reshape) -> int:
    """The rank to keep of singular values whose squares are given, falling."""
    full = len(energies)
    if job.rank is not None:
        wanted = max(1, round(job.rank * full))
    else:
        kept = energies.cumsum(0) / energies.sum().clamp_min(1e-300)
        # Rounding of the last digits must not ask for one more.
        wanted = int((kept < job.energy - 1e-12).sum()) + 1
    return min(full, math.ceil(wanted / job.round_to) * job.round_to)


def _svd(matrix: Tensor, job: Reshape) -> tuple[Tensor, Tensor, int]:
    """Two factors of a matrix (rows, columns): (rows, r) and (r, columns), and r."""
    import torch

    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = _rank(values.square(), job)
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank], rank


def _linear(layer: Any, job: Reshape) -> tuple[list[Part], str]:
    expand, reduce, rank = _svd(layer.weight.detach().double(), job)
    first = {"in_features": layer.in_features, "out_features": rank, "bias": False}
    last = {"in_features": rank, "out_features": layer.out_features}
    return [
        Part("reduce", Layer(type="Linear", arguments=first), reduce),
        Part("expand", Layer(type="Linear", arguments=last | _biased(layer)), expand),
    ], str(rank)


def _pointwise(layer: Any, job: Reshape) -> tuple[list[Part], str]:
    expand, reduce, rank = _svd(layer.weight.detach().double().flatten(1), job)
    moves = {k: getattr(layer, k) for k in ("stride", "padding", "padding_mode")}
    return [
        Part("reduce", _conv(layer.in_channels, rank, **moves), reduce[:, :, None, None]),
        Part("expand", _conv(rank, layer.out_channels, **_biased(layer)), expand[:, :, None, None]),
    ], str(rank)


def _tucker(layer: Any, job: Reshape) -> tuple[list[Part], str]:
    weight = layer.weight.detach().double()
    outputs, inputs = (_leading(weight, axis) for axis in (0, 1))
    before = _rank(inputs[1], job)
    after = _rank(outputs[1], job)
    out, into = outputs[0][:, :after], inputs[0][:, :before]
    for _ in range(_SWEEPS):
        out = _leading(_project(weight, into, 1), 0)[0][:, :after]
        into = _leading(_project(weight, out, 0), 1)[0][:, :before]
    # One axis of a small rank bounds that of the other: a basis may have fewer columns than asked.
    before, after = into.shape[1], out.shape[1]
    core = _project(_project(weight, out, 0), into, 1)
    moves = {k: getattr(layer, k) for k in ("kernel_size", "stride", "padding", "dilation")}
    moves["padding_mode"] = layer.padding_mode
    reduce = _conv(layer.in_channels, before)
    return [
        Part("reduce", reduce, into.T[:, :, None, None], ends=(False, False)),
        Part("core", _conv(before, after, **moves), core),
        Part("expand", _conv(after, layer.out_channels, **_biased(layer)), out[:, :, None, None]),
    ], f"{before} x {after}"


def _spatial(layer: Any, job: Reshape) -> tuple[list[Part], str]:
    weight = layer.weight.detach().double()
    made, taken, high, wide = weight.shape
    matrix = weight.permute(1, 2, 0, 3).reshape(taken * high, made * wide)
    vertical, horizontal, rank = _svd(matrix, job)
    mode = {"padding_mode": layer.padding_mode}
    tall = _conv(taken, rank, **_along(layer, 0), **mode)
    flat = _conv(rank, made, **_along(layer, 1), **mode, **_biased(layer))
    columns = vertical.T.reshape(rank, taken, high, 1)
    rows = horizontal.reshape(rank, made, wide).transpose(0, 1)[:, :, None]
    return [
        Part("vertical", tall, columns, ends=(True, False)),
        Part("horizontal", flat, rows),
    ], str(rank)


def _along(layer: Any, axis: int) -> dict[str, Any]:
    """The arguments of a convolution that are left along one axis only."""
    found: dict[str, Any] = {}
    for name, neutral in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        value = getattr(layer, name)
        if not isinstance(value, str):
            value = tuple(size if i == axis else neutral for i, size in enumerate(value))
        found[name] = value
    return found


def _leading(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Left singular vectors of a kernel unfolded along an axis, and its squared values."""
    import torch

    unfolded = weight.movedim(axis, 0).flatten(1)
    left, values, _ = torch.linalg.svd(unfolded, full_matrices=False)
    return left, values.square()


def _project(weight: Tensor, basis: Tensor, axis: int) -> Tensor:
    """A kernel in the coordinates of a basis (size, rank) of one axis."""
    moved = weight.movedim(axis, -1) @ basis
    return moved.movedim(-1, axis)


def _conv(before: int, after: int, **arguments: Any) -> Layer:
    own = {"kernel_size": 1, "bias": False, **arguments}
    return Layer(type="Conv2d", arguments={"in_channels": before, "out_channels": after, **own})


def _biased(layer: Any) -> dict[str, bool]:
    return {"bias": layer.bias is not None}


def _macs(parts: list[Part], node: Node) -> int:
    """Multiply-accumulates of the parts for one example."""
    if operation(node) == "linear":
        return sum(part.weight.numel() for part in parts) * math.prod(shape(node)[1:-1])
    sizes = list(zip(shape(node.args[0])[2:], shape(node)[2:], strict=True))
    return sum(
        part.weight.numel() * math.prod(s[end] for s, end in zip(sizes, part.ends, strict=True))
        for part in parts
    )
