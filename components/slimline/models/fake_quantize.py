"""Fake quantization: a network that computes in floats what its integer twin will compute.

Weights of convolutions and linear layers go through their levels by `torch.nn.utils.parametrize`,
the layers' inputs by hooks; everything is arithmetic with straight-through gradients. Layers that
read the same tensor share one quantizer, because a tensor of an ONNX graph has one scale.

Batch norm is left beside its convolution. At export its factor, one for each channel, is folded
into the weight: levels stay levels, and the channel's scale is multiplied by the factor. That is
why weights have a scale for each channel, and levels symmetric around 0: the factor may be
negative.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from slimline.models.quantization import Quantization
from slimline.models.quantizers import InputQuantizer, WeightQuantizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.models.fake_quantize_plan import FakeQuantization
    from slimline.models.quantization import ActivationQuantization, WeightQuantization

_INPUT = "input_quantizer"
_BATCH = 256


def attach(module: nn.Module, plan: FakeQuantization) -> None:
    """Let a network's layers compute in levels, in place; scales are those of its weights.

    Fill what inputs need with `calibrate`, or with `load_state_dict` of a network that has them.
    """
    from torch.nn.utils import parametrize

    learned = plan.method == "lsq"
    for name, layer in plan.layers.items():
        target = module.get_submodule(name)
        weight = target.get_parameter("weight")
        made = WeightQuantizer(layer, weight.detach(), learned)
        parametrize.register_parametrization(target, "weight", made)
        if layer.input == name:
            target.add_module(_INPUT, InputQuantizer(learned))
    for name, layer in plan.layers.items():
        if layer.input is not None:
            quantizer = module.get_submodule(_joined(layer.input, _INPUT))
            target = module.get_submodule(name)
            target.register_forward_pre_hook(partial(_quantize_input, quantizer))


def calibrate(module: nn.Module, x: Tensor) -> None:
    """Choose the ranges of the layers' inputs from what they are on examples, weights rounded.

    Args:
        module: attached.
        x: inputs of the network; enough of them that the extremes are there.
    """
    import torch

    quantizers = [m for m in module.modules() if isinstance(m, InputQuantizer)]
    module.eval()
    for quantizer in quantizers:
        quantizer.watch()
    with torch.no_grad():
        for part in torch.split(x, _BATCH):
            module(part)
        for quantizer in quantizers:
            quantizer.settle()


def plain_state(module: nn.Module, plan: FakeQuantization) -> dict[str, Tensor]:
    """The state of the network without fake quantization, its weights on their levels."""
    inner = {f"{_INPUT}.", "parametrizations."}
    state = {k: v for k, v in module.state_dict().items() if not any(i in k for i in inner)}
    for name in plan.layers:
        weight: Tensor = module.get_submodule(name).weight  # type: ignore[assignment]
        state[_joined(name, "weight")] = weight.detach().clone()
    return state


def record(module: nn.Module, plan: FakeQuantization) -> Quantization:
    """What was learned: the levels of each weight and each quantized input."""
    weights: dict[str, WeightQuantization] = {}
    inputs: dict[str, ActivationQuantization] = {}
    for name, layer in plan.layers.items():
        target: Any = module.get_submodule(name)
        quantizer = target.parametrizations.weight[0]
        weights[_joined(name, "weight")] = quantizer.told(target.parametrizations.weight.original)
        if layer.input is not None:
            inputs[name] = module.get_submodule(_joined(layer.input, _INPUT)).told()  # type: ignore[operator]
    return Quantization(weights=weights, activations=inputs)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The free parameters for an optimizer: no decay pulls at scales and centroids."""
    quantizers = [m for m in module.modules() if isinstance(m, InputQuantizer | WeightQuantizer)]
    inner = {id(p) for quantizer in quantizers for p in quantizer.parameters()}
    free = [p for p in module.parameters() if p.requires_grad]
    weights = {"params": [p for p in free if id(p) not in inner], "weight_decay": weight_decay}
    scales = {"params": [p for p in free if id(p) in inner], "weight_decay": 0.0}
    return [group for group in (weights, scales) if group["params"]]


def _quantize_input(quantizer: nn.Module, _: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (quantizer(given[0]), *given[1:])


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
