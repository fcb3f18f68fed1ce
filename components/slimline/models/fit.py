"""Fit weights: what train, distill and the healing after pruning share.

Lightning Fabric brings devices, data parallelism and mixed precision; the loop itself is plain (see
`slimline.models.loop`). Order, augmentation and dropout of a step depend on (seed, epoch, step)
alone, so a try that goes on from a checkpoint does what the killed one would have done.
"""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters, Killed, checkpoint, get_logger, open_store
from slimline.contract.job import Checkpoint
from slimline.contract.log import setup_logging
from slimline.models.loop import Loop, evaluate
from slimline.models.progress import Epoch, read_best, read_progress
from slimline.models.stop import deferred_sigterm
from slimline.models.threads import use_cpu_quota
from slimline.models.tracking import tracked

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.fabric import Fabric
    from torch import Tensor, nn

    from slimline.models.settings import FitSettings
    from slimline.models.task import Task
    from slimline.models.tensors import Batchable

log = get_logger(__name__)


@dataclass(frozen=True)
class Fitted:
    """The weights of the best epoch on the selection split, and the curve."""

    weights: dict[str, Tensor]
    history: tuple[Epoch, ...]
    best: Epoch
    resumed_from: int
    """Epochs that an earlier, killed try had done."""


def fit(task: Task) -> Fitted:
    """Fit weights, going on from the job's checkpoint if there is one.

    The state is kept after each epoch, but no oftener than once a second, and after the step in
    hand when SIGTERM arrives. With several devices SIGTERM goes back to the last kept epoch.

    Raises:
        BadParameters: when the loss is no longer finite, or a setting fits nothing here.
        Killed: on SIGTERM, when the state has been kept.
    """
    saved = checkpoint()
    if saved.restore():
        reached = read_progress(saved.path)
        log.info(
            "%s: resumes at epoch %d, step %d", task.what, reached.epochs + 1, reached.step + 1
        )
    resumed_from = read_progress(saved.path).epochs
    _check(task)
    processes = _processes(task.settings.devices)
    use_cpu_quota(processes)
    fabric = _fabric(task.settings, processes)
    if processes == 1:
        fabric.launch()
        _run(fabric, task, saved)
    else:
        _launch(fabric, task, saved)
    progress = read_progress(saved.path)
    return Fitted(read_best(saved.path), progress.history, progress.best, resumed_from)


def accuracy(module: nn.Module, split: Batchable) -> float:
    """Share of right answers, 0 to 1; the module is put in evaluation mode."""
    module.eval()
    return evaluate(module, split.x, split.y)[1]


def _run(fabric: Fabric, task: Task, saved: Checkpoint) -> None:
    params = task.settings.model_dump() | {"what": task.what, "name": task.info.name}
    params["factory"] = task.info.factory.call if task.info.factory else ""
    title = f"{task.what} {task.info.stage}"
    with tracked(task.info.name, saved.job, title, params) as tracker, deferred_sigterm() as stop:
        Loop(fabric, task, saved, tracker).run(stop)


def _launch(fabric: Fabric, task: Task, saved: Checkpoint) -> None:
    """Run in processes of their own; the first one writes and keeps the state."""
    from torch.multiprocessing.spawn import ProcessRaisedException

    try:
        fabric.launch(
            partial(_run_in_child, task=task, path=saved.path, store=saved.store.uri, job=saved.job)
        )
    except Killed:
        for child in multiprocessing.active_children():
            child.terminate()
            child.join()
        raise
    except ProcessRaisedException as error:
        msg = f"{task.what}: a training process failed: {error}"
        raise BadParameters(msg) from error


def _run_in_child(fabric: Fabric, task: Task, path: Path, store: str, job: str) -> None:
    if fabric.is_global_zero:
        setup_logging()
    _quiet()
    _run(fabric, task, Checkpoint(path, open_store(store), job))


def _fabric(settings: FitSettings, processes: int) -> Fabric:
    from lightning.fabric import Fabric

    _quiet()
    return Fabric(
        accelerator="auto",
        devices=processes,
        strategy="ddp_spawn" if processes > 1 else "auto",
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
    )


def _quiet() -> None:
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")


def _processes(devices: str) -> int:
    import torch

    gpus = torch.cuda.device_count()
    if devices == "auto":
        return max(1, gpus)
    if 0 < gpus < int(devices):
        msg = f"devices is {devices}, this machine has {gpus} GPUs: give at most that, or auto"
        raise BadParameters(msg)
    return int(devices)


def _check(task: Task) -> None:
    if len(task.train) < 2:  # noqa: PLR2004 - batch norm needs two
        msg = f"{task.what}: the training split has {len(task.train)} examples: give at least 2"
        raise BadData(msg)
    if len(task.selection) == 0:
        msg = f"{task.what}: the selection split is empty: give it a larger share"
        raise BadData(msg)
