"""Fit weights: what train, distill and the healing after pruning share.

Lightning Fabric brings devices, data parallelism and mixed precision; the loop itself is plain (see
`slimline.models.loop`). Order, augmentation and dropout of a step depend on (seed, epoch, step)
alone, so a try that goes on from a checkpoint does what the killed one would have done.

Several processes take the same steps as one: a batch is shared out, gradients, loss, batch norm and
augmentation are those of the whole batch. What differs is the order in which floats are added, and
dropout, which each process draws for itself. A checkpoint fits any number of processes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters, checkpoint, get_logger
from slimline.models.finder import find_learning_rate
from slimline.models.launch import launch
from slimline.models.loop import judged
from slimline.models.progress import Epoch, read_best, read_progress
from slimline.models.rank import make_fabric, run_rank
from slimline.models.threads import cpu_quota

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.contract.job import Checkpoint
    from slimline.models.task import Task
    from slimline.models.tensors import Batchable

log = get_logger(__name__)
_FOUND = "learning_rate.json"


@dataclass(frozen=True)
class Fitted:
    """The weights of the best epoch on the selection split, and the curve."""

    weights: dict[str, Tensor]
    history: tuple[Epoch, ...]
    best: Epoch
    resumed_from: int
    """Epochs that an earlier, killed try had done."""
    seconds: float
    """Of this try."""
    learning_rate: float
    """The highest one."""


def fit(task: Task) -> Fitted:
    """Fit weights, going on from the job's checkpoint if there is one.

    The state is kept after each epoch, but no oftener than once a second, and after the step in
    hand when SIGTERM arrives.

    Raises:
        BadParameters: when the loss is no longer finite, or a setting fits nothing here.
        Killed: on SIGTERM, when the state has been kept.
    """
    started, saved = time.monotonic(), checkpoint()
    if saved.restore():
        reached = read_progress(saved.path)
        log.info(
            "%s: resumes at epoch %d, step %d", task.what, reached.epochs + 1, reached.step + 1
        )
    resumed_from = read_progress(saved.path).epochs
    check_task(task)
    task, processes = _with_learning_rate(task, saved), _processes(task)
    if processes == 1:
        run_rank(task, saved, processes)
    else:
        launch(task, saved, processes)
    progress, seconds = read_progress(saved.path), round(time.monotonic() - started, 3)
    rate = task.settings.learning_rate
    best = read_best(saved.path)
    return Fitted(best, progress.history, progress.best, resumed_from, seconds, rate)


def accuracy(module: nn.Module, split: Batchable) -> float:
    """Share of right answers, 0 to 1; the module is put in evaluation mode."""
    module.eval()
    return judged(module, split)[1] / len(split)


def _with_learning_rate(task: Task, saved: Checkpoint) -> Task:
    """The task with the learning rate that the range test finds, if it asks for that."""
    if not task.settings.find_learning_rate:
        return task
    file = saved.path / _FOUND
    if not file.is_file():
        found = find_learning_rate(make_fabric(task, 1), task, saved)
        file.write_text(json.dumps(found))
    update = {"learning_rate": float(json.loads(file.read_text())), "find_learning_rate": False}
    return replace(task, settings=task.settings.model_copy(update=update))


def _processes(task: Task) -> int:
    """How many processes the setting `devices` means here, for this batch."""
    import torch

    devices, gpus = task.settings.devices, torch.cuda.device_count()
    batch = min(task.settings.batch_size, len(task.train))
    if devices == "auto":
        return max(1, min(gpus, batch))
    there, kind = (gpus, "GPUs") if gpus else (cpu_quota(), "CPU cores")
    if int(devices) > there:
        msg = f"devices is {devices}, here are {there} {kind}: give at most that, or auto"
        raise BadParameters(msg)
    if int(devices) > batch:
        msg = (
            f"devices is {devices}, a step has {batch} examples (batch_size "
            f"{task.settings.batch_size}, {len(task.train)} in the training split): give at most "
            "that, or a larger batch_size"
        )
        raise BadParameters(msg)
    return int(devices)


def check_task(task: Task) -> None:
    """Refuse a task that cannot be fitted, before anything is computed.

    Raises:
        BadData: when a split is too small.
        BadParameters: when settings would change nothing, or contradict each other.
    """
    if len(task.train) < 2:  # noqa: PLR2004 - batch norm needs two
        msg = f"{task.what}: the training split has {len(task.train)} examples: give at least 2"
        raise BadData(msg)
    _check_settings(task)
    if len(task.selection) == 0:
        msg = f"{task.what}: the selection split is empty: give it a larger share"
        raise BadData(msg)


def _check_settings(task: Task) -> None:
    """Refuse settings that would change nothing, or contradict each other."""
    settings, guide = task.settings, task.guide
    if settings.augmentation_views and settings.augmentation == "none":
        msg = (
            f"augmentation_views is {settings.augmentation_views}, but augmentation is none: "
            "choose an augmentation, or no views"
        )
        raise BadParameters(msg)
    if settings.mixup and guide is not None and guide.method == "decoupled":
        msg = (
            f"mixup is {settings.mixup}: method decoupled needs the one right class of each "
            "example; use method logits, or no mixup"
        )
        raise BadParameters(msg)
    if settings.mixup and guide is not None and settings.augmentation_views:
        msg = (
            f"mixup is {settings.mixup}: it blends examples anew each time, so no teacher's answer "
            "can be kept for augmentation_views; leave out one of them"
        )
        raise BadParameters(msg)
