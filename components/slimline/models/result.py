"""Fit a network and keep it: what train and distill leave behind, and the numbers they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.models.build import load_weights, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fit import fit
from slimline.models.network import parameter_count

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from slimline.contract import Numbers
    from slimline.models.task import Task


def fit_and_keep(
    module: nn.Module, task: Task, model: Path, report: Path, measured: Numbers | None = None
) -> Numbers:
    """Fit a network, write its best weights and the page that shows how training went.

    Args:
        module: the task's network; it is filled with the best weights.
        task: what is fitted.
        model: directory of the model artifact.
        report: directory of the report artifact.
        measured: further numbers of the room.
    """
    fitted, info = fit(task), task.info
    load_weights(module, fitted.weights, f"model {info.name}")
    save_torch_model(module, info, model)
    numbers: Numbers = {
        "accuracy": fitted.best.accuracy,
        **(measured or {}),
        "selection_loss": fitted.best.selection_loss,
        "best_epoch": fitted.best.epoch,
        "epochs": len(fitted.history),
        "resumed_from_epoch": fitted.resumed_from,
        "learning_rate": fitted.learning_rate,
        "parameters": parameter_count(module),
        "examples": len(task.train),
        "seconds": fitted.seconds,
    }
    write_report(report, f"{info.name}: {info.stage}", numbers, fitted.history)
    return numbers
