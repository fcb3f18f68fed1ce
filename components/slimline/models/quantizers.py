"""What rounds the weights of a layer, and what rounds its input, while a network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch  # noqa: TID253 - imported when a network is to compute in levels
from torch import nn  # noqa: TID253 - the same

from slimline.models import levels as grid
from slimline.models.quantization import ActivationQuantization, WeightQuantization

if TYPE_CHECKING:
    from torch import Tensor

    from slimline.models.fake_quantize_plan import LayerPlan

_HIGHEST = 255


class WeightQuantizer(nn.Module):
    """A parametrization: float weights in, weights on their levels out, of the same shape."""

    def __init__(self, layer: LayerPlan, weight: Tensor, learned: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.layer, self.high = layer, grid.largest(layer.bits)
        rows = weight.flatten(1)
        self.log_scale: Tensor | None = None
        self.levels: Tensor | None = None
        if layer.kind == "integer" and learned:
            self.log_scale = nn.Parameter(grid.best_scale(rows, self.high).log())
        elif layer.kind == "codebook":
            self.levels = nn.Parameter(grid.clustered(rows, layer.bits))
        elif layer.kind == "power_of_two":
            self.levels = nn.Parameter(grid.powers_of_two(layer.bits), requires_grad=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its levels."""
        rows = weight.flatten(1)
        if self.layer.kind == "integer":
            scale = self._integer_scale(rows).view(-1, *[1] * (weight.ndim - 1))
            zero = torch.zeros((), device=rows.device)
            return grid.rounded(weight, scale, zero, -self.high, self.high)
        levels, scale = self._levels(rows)
        passed = rows.clamp(-1, 1) if self.layer.kind == "binary" else rows
        return (levels * scale + (passed - passed.detach())).view_as(weight)

    def told(self, weight: Tensor) -> WeightQuantization:
        """The record of the levels that `weight` is on now."""
        rows, kind = weight.detach().flatten(1), self.layer.kind
        scale = self._integer_scale(rows) if kind == "integer" else self._levels(rows)[1]
        listed = () if self.levels is None else tuple(self.levels.detach().sort()[0].tolist())
        return WeightQuantization(
            kind=kind,
            bits=self.layer.bits,
            scale=tuple(scale.detach().flatten().tolist()),
            codebook=listed,
        )

    def _integer_scale(self, rows: Tensor) -> Tensor:
        if self.log_scale is None:
            return grid.peak(rows.detach()) / self.high
        return grid.learned_scale(self.log_scale, rows.shape[1], self.high)

    def _levels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Levels with gradients to centroids alone, and the scale of each channel."""
        fixed = rows.detach()
        if self.layer.kind == "binary":
            return grid.binary(fixed, balance=self.layer.balance)
        if self.layer.kind == "ternary":
            return grid.ternary(fixed)
        assert self.levels is not None  # noqa: S101 - the kinds that list them
        scale, levels = grid.peak(fixed), self.levels.sort().values
        return levels[grid.nearest(fixed / scale, levels.detach())], scale


class InputQuantizer(nn.Module):
    """Rounds to 256 levels that hold 0 exactly; the zero point stays as calibration chose."""

    def __init__(self, learned: bool) -> None:  # noqa: FBT001 - of this file alone
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()), requires_grad=learned)
        self.zero_point = nn.Buffer(torch.zeros(()))
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The input on its levels; as it is while it is watched."""
        if self.seen is not None:
            least, most = self.seen
            self.seen = torch.minimum(least, x.min()), torch.maximum(most, x.max())
            return x
        scale = grid.learned_scale(self.log_scale, x[0].numel(), _HIGHEST)
        return grid.rounded(x.float(), scale, self.zero_point, 0, _HIGHEST).to(x.dtype)

    def watch(self) -> None:
        """Let everything through, and note the extremes."""
        zero = torch.zeros((), device=self.log_scale.device)
        self.seen = zero, zero

    def settle(self) -> None:
        """Take the range that was seen, and 0."""
        assert self.seen is not None  # noqa: S101 - `watch` came before
        least, most = self.seen
        scale = ((most - least) / _HIGHEST).clamp_min(grid.LEAST_SCALE)
        self.log_scale.copy_(scale.log())
        self.zero_point.copy_((-least / scale).round())
        self.seen = None

    def told(self) -> ActivationQuantization:
        """The record of its levels."""
        scale = float(self.log_scale.detach().exp())
        return ActivationQuantization(scale=scale, zero_point=int(self.zero_point))
