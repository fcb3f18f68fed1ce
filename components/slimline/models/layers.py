"""Build the layers that an edit may put into a network: torch's own, from a closed list."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING

from slimline.contract import BadData

if TYPE_CHECKING:
    from torch import nn

    from slimline.models.info import Layer

KNOWN = frozenset(
    {
        *("Identity", "Sequential", "Flatten", "Unflatten", "Dropout", "Embedding"),
        *("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"),
        *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "LayerNorm"),
        *("ReLU", "ReLU6", "LeakyReLU", "Hardswish", "Hardsigmoid", "Hardtanh", "SiLU", "GELU"),
        *("ELU", "Mish", "Sigmoid", "Tanh", "Softplus"),
        *("AvgPool1d", "AvgPool2d", "MaxPool1d", "MaxPool2d"),
        *("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool2d"),
    }
)


def make_layer(layer: Layer) -> nn.Module:
    """Build a layer with fresh weights.

    Raises:
        BadData: on a type that is not in `KNOWN`, or arguments that it does not take.
    """
    from torch import nn

    if layer.type not in KNOWN:
        msg = f"layer {layer.type!r} is not one that an edit may make: {', '.join(sorted(KNOWN))}"
        raise BadData(msg)
    if layer.children and layer.type != "Sequential":
        msg = f"layer {layer.type} has children: only a Sequential has"
        raise BadData(msg)
    if layer.type == "Sequential":
        return nn.Sequential(OrderedDict((k, make_layer(v)) for k, v in layer.children.items()))
    made = getattr(nn, layer.type)
    try:
        inspect.signature(made).bind(**layer.arguments)
        built: nn.Module = made(**layer.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        msg = f"layer {layer.type} cannot be made with {layer.arguments}: {error}"
        raise BadData(msg) from error
    return built
