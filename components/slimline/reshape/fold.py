"""Fold batch norm into the layer before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.models.info import Replace
from slimline.models.traced import operation, shape
from slimline.reshape.bench import Bench, Change
from slimline.reshape.describe import identity, layer_like
from slimline.reshape.graph import LeftAloneError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.models.info import Edit
    from slimline.reshape.graph import Graph

_ROWS = 2
_TRAINING = 5


def fold_batch_norm(bench: Bench) -> None:
    """Fold each batch norm into the convolution or linear layer that alone feeds it.

    In evaluation batch norm (Ioffe and Szegedy 2015, arXiv:1502.03167) is y = a x + b for each
    channel, which the layer before it can do: its weights are multiplied by a, its bias becomes
    a bias + b (Jacob et al. 2017, arXiv:1712.05877, section 3.2). The layer gets a bias, the batch
    norm becomes an identity. Pairs are read from the graph: another user of the layer's output
    would see the folded values, so such a layer is left alone.
    """
    graph = bench.graph()
    for path, why in graph.odd.items():
        if _is_batch_norm(bench.module.get_submodule(path)):
            bench.leave(path, why)
    for path, node in graph.layers.items():
        if operation(node) == "batch_norm" and bench.wants(path):
            try:
                maker = _maker(graph, path)
            except LeftAloneError as why:
                bench.leave(path, why)
            else:
                bench.attempt(_fold(bench.module, maker, path))


def _maker(graph: Graph, path: str) -> str:
    """The layer that feeds a batch norm and nothing else; raises LeftAloneError."""
    node = graph.layers[path]
    source: Any = node.args[0]
    maker = graph.path(source)
    if node.args[_TRAINING]:
        msg = "it normalises by its own batch"
        raise LeftAloneError(msg)
    if maker is None or operation(source) == "batch_norm":
        msg = f"what comes before it is {operation(source)}, no layer with weights"
        raise LeftAloneError(msg)
    if len(source.users) != 1:
        msg = f"the output of {maker} is used {len(source.users)} times"
        raise LeftAloneError(msg)
    if operation(source) == "linear" and len(shape(source)) != _ROWS:
        msg = f"it normalises another axis than the features of {maker}"
        raise LeftAloneError(msg)
    layer: Any = graph.module.get_submodule(maker)
    if operation(source).startswith("conv_transpose") and layer.groups > 1:
        msg = f"{maker} is transposed and grouped"
        raise LeftAloneError(msg)
    return maker


def _fold(module: nn.Module, maker: str, path: str) -> Change:
    layer: Any = module.get_submodule(maker)
    norm: Any = module.get_submodule(path)
    scale, shift = _affine(norm)
    axis = 1 if type(layer).__name__.startswith("ConvTranspose") else 0
    sizes = [1] * layer.weight.ndim
    sizes[axis] = -1
    bias = shift if layer.bias is None else shift + scale * layer.bias.double()
    edits: tuple[Edit, ...] = (Replace(module=path, layer=identity()),)
    if layer.bias is None:
        edits = (Replace(module=maker, layer=layer_like(layer, bias=True)), *edits)
    weights = {
        f"{maker}.weight": (layer.weight.double() * scale.view(sizes)).float(),
        f"{maker}.bias": bias.float(),
    }
    return Change(path, f"folded into {maker}", edits, _detached(weights))


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Batch norm in evaluation as scale and shift, float64, one for each channel."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _detached(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in weights.items()}


def _is_batch_norm(module: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return isinstance(module, _BatchNorm)
