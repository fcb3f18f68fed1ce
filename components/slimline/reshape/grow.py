"""Grow a network without changing its function, so that training can go on from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.models.info import Layer, Replace
from slimline.models.traced import operation, owner, shape
from slimline.reshape.bench import Bench, Change
from slimline.reshape.describe import in_a_row
from slimline.reshape.graph import LeftAloneError
from slimline.reshape.observe import watch
from slimline.reshape.units import copies

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.reshape.graph import Graph
    from slimline.reshape.spec import Reshape

_IDEMPOTENT = {"ReLU": "relu", "ReLU6": "hardtanh"}
_ROWS, _IMAGES = 2, 4


@dataclass
class _Moments:
    """Sums of each channel's values and squares, where an activation gives them."""

    count: int = 0
    total: Tensor | float = 0.0
    square: Tensor | float = 0.0

    def see(self, _: Tensor, y: Tensor | None) -> None:
        assert y is not None  # noqa: S101 - an activation answers with a tensor
        values = y.double().movedim(1, 0).flatten(1)
        self.count += values.shape[1]
        self.total = self.total + values.sum(1)
        self.square = self.square + values.square().sum(1)


def grow(bench: Bench, job: Reshape, x: Tensor) -> None:
    """Widen layers, or put further ones in: Net2Net (Chen et al. 2015, arXiv:1511.05641).

    `widen` copies units drawn at random, and shares what the next layer makes of a unit between it
    and its copies. The shares are uneven by `noise`, so that training tells them apart while the
    answers stay as they are. `deepen` puts a layer that starts as the identity, with batch norm and
    the activation again, behind each ReLU. Batch norm starts with the mean and deviation of the
    values it sees and undoes them, so that training changes nothing at once either.
    """
    if job.growth == "widen":
        _widen(bench, job)
    else:
        _deepen(bench, x)


def _widen(bench: Bench, job: Reshape) -> None:
    import torch

    graph, draw = bench.graph(), torch.Generator().manual_seed(job.seed)
    for path, why in graph.odd.items():
        bench.leave(path, why)
    for path, node in graph.layers.items():
        if operation(node) == "batch_norm" or not bench.wants(path):
            continue
        try:
            chain = graph.chain(path)
        except LeftAloneError as why:
            bench.leave(path, why)
            continue
        wanted = round(chain.units * job.factor / job.round_to) * job.round_to
        if wanted <= chain.units:
            bench.leave(path, f"{chain.units} units times {job.factor:g} round to {wanted}")
            continue
        more = torch.randint(chain.units, (wanted - chain.units,), generator=draw)
        origin = torch.cat([torch.arange(chain.units), more])
        said = f"{chain.units} -> {wanted} units"
        shares = _shares(origin, chain.units, job.noise, draw)
        bench.attempt(Change(path, said, *copies(bench.module, chain, origin.tolist(), shares)))


def _shares(origin: Tensor, units: int, noise: float, draw: Any) -> Tensor:
    """For each unit its share of the one it copies: they sum to 1, and differ by `noise`."""
    import torch

    shares = 1 + noise * (2 * torch.rand(len(origin), generator=draw) - 1)
    whole = torch.zeros(units).index_add(0, origin, shares)
    return shares / whole[origin]


def _deepen(bench: Bench, x: Tensor) -> None:
    graph, found = bench.graph(), dict[str, tuple[int, ...]]()
    for path, layer in bench.module.named_modules():
        if type(layer).__name__ in _IDEMPOTENT and bench.wants(path):
            try:
                found[path] = _sizes(graph, path)
            except LeftAloneError as why:
                bench.leave(path, why)
    moments = {path: _Moments() for path in found}
    watch(bench.module, x, {path: seen.see for path, seen in moments.items()})
    for path, sizes in found.items():
        bench.attempt(_deeper(bench.module, path, sizes, moments[path]))
    for node in graph.nodes:
        within = owner(node)
        if operation(node) == "relu" and within not in found:
            bench.leave(within or "the network", "its relu is no layer, or is called several times")


def _sizes(graph: Graph, path: str) -> tuple[int, ...]:
    """What an activation gives, (examples, channels, ...); raises LeftAloneError."""
    calls = [n for n in graph.nodes if n.op == "call_function" and owner(n) == path]
    if len(calls) != 1:
        msg = f"forward calls it {len(calls)} times"
        raise LeftAloneError(msg)
    sizes = shape(calls[0])
    if len(sizes) not in (_ROWS, _IMAGES):
        msg = f"which of its {len(sizes)} axes are channels is not known"
        raise LeftAloneError(msg)
    return sizes


def _deeper(module: nn.Module, path: str, sizes: tuple[int, ...], seen: _Moments) -> Change:
    """An identity with batch norm and the activation again behind an activation."""
    import torch

    width, image = sizes[1], len(sizes) == _IMAGES
    again = Layer(type=type(module.get_submodule(path)).__name__)
    mean = torch.as_tensor(seen.total) / seen.count
    variance = (torch.as_tensor(seen.square) / seen.count - mean.square()).clamp_min(0)
    norm = Layer(type=f"BatchNorm{'2' if image else '1'}d", arguments={"num_features": width})
    if image:
        same = {"in_channels": width, "out_channels": width, "kernel_size": 3, "padding": 1}
        layer = Layer(type="Conv2d", arguments={**same, "bias": False})
        weight = torch.zeros(width, width, 3, 3)
        weight[range(width), range(width), 1, 1] = 1
    else:
        same = {"in_features": width, "out_features": width}
        layer, weight = Layer(type="Linear", arguments={**same, "bias": False}), torch.eye(width)
    made = in_a_row(first=again, layer=layer, norm=norm, second=again)
    weights = {
        f"{path}.layer.weight": weight,
        f"{path}.norm.weight": (variance.float() + 1e-5).sqrt(),
        f"{path}.norm.bias": mean.float(),
        f"{path}.norm.running_mean": mean.float(),
        f"{path}.norm.running_var": variance.float(),
    }
    said = f"{layer.type} and batch norm of {width} units put in behind it"
    return Change(path, said, (Replace(module=path, layer=made),), weights)
