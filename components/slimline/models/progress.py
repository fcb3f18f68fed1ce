"""What training has reached, written so that the next try goes on from exactly there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

_TENSORS = "state.safetensors"
_PROGRESS = "progress.json"


class Epoch(BaseModel):
    """One line of the training curve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float
    """Mean of what training lowers, over the epoch's batches."""
    selection_loss: float
    """Cross-entropy on the selection split."""
    accuracy: float
    """On the selection split, 0 to 1."""
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: accuracy, then the smaller cross-entropy."""
        return self.accuracy, -self.selection_loss


class Progress(BaseModel):
    """Epochs that are done, and steps of the next one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    loss_sum: float = 0.0
    """Of the steps that are done in the epoch that is not."""
    history: tuple[Epoch, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    @property
    def best(self) -> Epoch:
        """The best epoch on the selection split; the earlier one of equals."""
        return max(self.history, key=lambda e: (*e.rank, -e.epoch))


def write_state(
    place: Path, progress: Progress, optimizer: Optimizer, parts: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write everything that the next step depends on.

    Args:
        place: a directory.
        progress: counts and curve.
        optimizer: its state is kept.
        parts: tensors by kind and name: the `model`'s, the `best` ones, and what else is trained.
    """
    from safetensors.torch import save_file

    tensors = {f"{kind}.{k}": v for kind, part in parts.items() for k, v in part.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items() if v is not None}
    save_file(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, place / _TENSORS
    )
    (place / _PROGRESS).write_text(progress.model_dump_json())


def read_progress(place: Path) -> Progress:
    """How far the state in a directory is; the start when there is none."""
    file = place / _PROGRESS
    return Progress.model_validate_json(file.read_text()) if file.is_file() else Progress()


def read_best(place: Path) -> dict[str, Tensor]:
    """The weights of the best epoch so far; none before the first."""
    return read_part(place, "best")


def restore_state(place: Path, module: nn.Module, optimizer: Optimizer) -> None:
    """Put the weights and the optimizer back as they were written."""
    module.load_state_dict(read_part(place, "model"))
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in read_part(place, "optimizer").items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def read_part(place: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of one kind in a state; none where there is no state."""
    from safetensors import safe_open

    if not (place / _TENSORS).is_file():
        return {}
    prefix = f"{kind}."
    with safe_open(place / _TENSORS, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - no dict
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
