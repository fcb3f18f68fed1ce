"""Read a network as the graph of operations that `torch.export` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadData

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.fx import Node

ACTIVATIONS = frozenset(
    {
        *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid"),
        *("tanh", "leaky_relu", "elu", "softplus", "mish", "clamp", "abs", "neg"),
    }
)
POOLS = frozenset(
    {
        *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
        *("adaptive_max_pool1d", "adaptive_max_pool2d"),
        *("upsample_nearest2d", "upsample_bilinear2d"),
    }
)
COPIES = frozenset({"clone", "contiguous", "to", "detach", "alias", "dropout", "feature_dropout"})


def trace(module: nn.Module, example: Tensor) -> ExportedProgram:
    """Export a network in evaluation mode.

    Args:
        module: in evaluation mode.
        example: an input of at least two examples.

    Raises:
        BadData: when `torch.export` cannot read the network.
    """
    import torch

    try:
        return torch.export.export(module, (example,))
    except Exception as error:  # torch.export's errors share no base class but Exception
        msg = (
            "torch.export cannot read the network, so its layers cannot be told apart: take "
            f"control flow that depends on data out of it: {str(error).splitlines()[0]:.200}"
        )
        raise BadData(msg) from error


def operation(node: Node) -> str:
    """`conv2d` of `aten.conv2d.default`, `relu` of its in-place form `relu_`."""
    return str(node.target).removeprefix("aten.").split(".", 1)[0].removesuffix("_")


def shape(node: Any) -> tuple[int, ...]:
    """Sizes of what a node gives; empty when that is no tensor."""
    value: Any = node.meta.get("val")
    return tuple(value.shape) if hasattr(value, "shape") else ()


def owner(node: Node) -> str:
    """Path of the innermost module that the operation stands in; empty for the network itself."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""
