"""Swap activation functions for ones that the target runs fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.models.info import Layer, Replace
from slimline.models.traced import operation, owner
from slimline.reshape.bench import Bench, Change

if TYPE_CHECKING:
    from torch import nn

    from slimline.reshape.spec import Reshape

_LAYERS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "hardtanh": "Hardtanh",
    "silu": "SiLU",
    "gelu": "GELU",
    "mish": "Mish",
    "elu": "ELU",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}


def swap_activations(bench: Bench, job: Reshape) -> None:
    """Put one activation function in the place of another.

    SiLU (Elfwing et al. 2017, arXiv:1702.03118), GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415)
    and Mish (Misra 2019, arXiv:1908.08681) cost exponentials; hard-swish (Howard et al. 2019,
    arXiv:1905.02244) is nearly SiLU from a clamp and two products, and ReLU is free where a runtime
    fuses it. The answers change, so the network is healed. Only layers are swapped: a function that
    stands in the code of a forward is named and left alone.

    Raises:
        BadParameters: when both are the same.
    """
    if job.swap_from == job.swap_to:
        msg = f"swap_from and swap_to are both {job.swap_to}: give two activations"
        raise BadParameters(msg)
    gone, made = _LAYERS[job.swap_from], Layer(type=_LAYERS[job.swap_to])
    _leave_functions(bench, job.swap_from, gone)
    # A layer that stands under several names is replaced under each of them.
    for path, layer in list(bench.module.named_modules(remove_duplicate=False)):
        if path and type(layer).__name__ == gone and bench.wants(path):
            edits = (Replace(module=path, layer=made),)
            bench.attempt(Change(path, f"{job.swap_from} -> {job.swap_to}", edits))


def _leave_functions(bench: Bench, name: str, kind: str) -> None:
    """Name the calls of a function that no layer of that kind makes."""
    layers: dict[str, nn.Module] = dict(bench.module.named_modules(remove_duplicate=False))
    for node in bench.graph().nodes:
        path = owner(node)
        within = layers.get(path)
        if node.op != "call_function" or operation(node) != name:
            continue
        if within is not None and type(within).__name__ != kind:
            why = f"{name} stands in the code of its forward: make it a layer, nn.{kind}"
            bench.leave(path or "the network", why)
