"""Describe a plain torch layer so that an edit can make one like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.models.info import Layer

if TYPE_CHECKING:
    from torch import nn

_CONVOLUTION = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    "padding_mode",
)
_BATCH_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")


def layer_like(module: nn.Module, **changes: Any) -> Layer:
    """The description of a convolution, linear layer or batch norm, with some arguments changed."""
    from torch import nn
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    if isinstance(module, _ConvNd):
        names: tuple[str, ...] = _CONVOLUTION
        if isinstance(module, _ConvTransposeNd):
            names = (*names, "output_padding")
    elif isinstance(module, nn.Linear):
        names = ("in_features", "out_features")
    else:
        names = _BATCH_NORM
    arguments = {name: getattr(module, name) for name in names}
    if names is not _BATCH_NORM:
        arguments["bias"] = module.bias is not None
    return Layer(type=type(module).__name__, arguments={**arguments, **changes})


def identity() -> Layer:
    """A layer that does nothing."""
    return Layer(type="Identity")


def in_a_row(**children: Layer) -> Layer:
    """Layers one after the other."""
    return Layer(type="Sequential", children=children)
