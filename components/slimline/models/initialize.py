"""Fresh weights by name: what makes training from scratch converge.

kaiming_normal: He et al. 2015 (arXiv:1502.01852), fan-out, for ReLU.
xavier_uniform: Glorot and Bengio 2010.
orthogonal: Saxe et al. 2013 (arXiv:1312.6120).
zero_residual: the last batch norm of each residual branch starts with factor 0, so that a block
    starts as its shortcut; Goyal et al. 2017 (arXiv:1706.02677, section 5.1).
data_dependent: orthogonal, then each layer is scaled until its answers to training examples have
    variance 1, in the order in which they run; LSUV, Mishkin and Matas 2015 (arXiv:1511.06422).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

_ROUNDS = 10
_NEAR = 0.01
_SMALL = 1e-8
_BATCH_NORM = "aten.batch_norm.default"
_ADD = frozenset({"aten.add.Tensor", "aten.add_.Tensor"})


def initialize(module: nn.Module, how: str, x: Tensor) -> nn.Module:
    """Give a network fresh weights, in place; the caller seeds torch.

    Args:
        module: the network.
        how: see `FreshWeights.initialization`.
        x: inputs of training examples (batch, ...).

    Raises:
        BadParameters: when the network has nothing that this could change.
    """
    if how == "default":
        return module
    if how == "zero_residual":
        return _zero_residual(module, x)
    layers = _weighted(module)
    if not layers:
        msg = f"initialization {how}: the network has no convolution or linear layer: use default"
        raise BadParameters(msg)
    _draw(layers, how)
    return _scaled_by_data(module, layers, x) if how == "data_dependent" else module


def _weighted(module: nn.Module) -> dict[str, Any]:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    return {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear | _ConvNd)}


def _draw(layers: dict[str, Any], how: str) -> None:
    from torch import nn

    for layer in layers.values():
        if how == "kaiming_normal":
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif how == "xavier_uniform":
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _scaled_by_data(module: nn.Module, layers: dict[str, Any], x: Tensor) -> nn.Module:
    """Scale the layers one after another: what a layer answers depends on those before."""
    import torch

    seen: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        return lambda _module, _given, output: seen.__setitem__(name, output)

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    module.train()  # batch norm by the batch, as in the first step
    state = {k: v.clone() for k, v in module.named_buffers()}
    with torch.no_grad():
        module(x)
        for name in list(seen):
            for _ in range(_ROUNDS):
                spread = float(seen[name].var())
                if abs(spread - 1) < _NEAR or spread < _SMALL:
                    break
                layers[name].weight /= spread**0.5
                module(x)
        for name, buffer in module.named_buffers():
            buffer.copy_(state[name])
    for handle in handles:
        handle.remove()
    return module


def _zero_residual(module: nn.Module, x: Tensor) -> nn.Module:
    from torch import nn

    names = last_norms(module, x)
    if not names:
        msg = (
            "initialization zero_residual: no residual branch of the network ends in a batch norm "
            "with a factor: use another initialization"
        )
        raise BadParameters(msg)
    for name in names:
        nn.init.zeros_(module.get_parameter(name))
    return module


def last_norms(module: nn.Module, x: Tensor) -> list[str]:
    """Names of the factors of batch norms that end a residual branch.

    Where both sides of an addition end in batch norm, as with a projected shortcut, the branch is
    the side with more layers.

    Args:
        module: the network.
        x: inputs of at least two examples.
    """
    import torch

    was = module.training
    program = torch.export.export(module.eval(), (x[:2],), strict=False)
    module.train(was)
    parameters = program.graph_signature.inputs_to_parameters
    found = []
    for node in program.graph.nodes:
        if str(node.target) not in _ADD:
            continue
        sides = [a for a in node.args[:2] if isinstance(a, torch.fx.Node)]
        if len(sides) == 2:  # noqa: PLR2004 - a sum of two
            branch = max(sides, key=partial(_own_length, sides))
            factor = branch.args[1] if str(branch.target) == _BATCH_NORM else None
            if isinstance(factor, torch.fx.Node) and factor.name in parameters:
                found.append(parameters[factor.name])
    return found


def _own_length(pair: list[fx.Node], side: fx.Node) -> int:
    """Nodes that lead to this side of an addition and not to the other."""
    other = pair[1] if side is pair[0] else pair[0]
    return len(_before(side) - _before(other))


def _before(node: fx.Node) -> set[fx.Node]:
    reached, open_ = {node}, [node]
    while open_:
        for earlier in open_.pop().all_input_nodes:
            if earlier not in reached:
                reached.add(earlier)
                open_.append(earlier)
    return reached
