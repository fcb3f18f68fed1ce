"""The learning rate range test of Smith 2015 (arXiv:1506.01186).

A copy of the fit takes up to a hundred steps while the learning rate grows from far too small to
far too large. The highest useful rate lies where the smoothed loss falls steepest before it grows
again. The test takes the very steps that training would take: same optimizer, batches and teacher;
it depends on the seed alone, and leaves no trace in the weights.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, get_logger
from slimline.contract.job import Checkpoint
from slimline.models.loop import Loop
from slimline.models.network_in_training import training_mode
from slimline.models.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_fabric import Fabric

    from slimline.models.task import Task

log = get_logger(__name__)
_STEPS = 100
_LEAST_STEPS = 10
_RANGE = {"adamw": (1e-6, 1.0), "sgd": (1e-4, 10.0)}
_REACH = 5
"""Steps on either side between which the slope is taken."""
_MEMORY = 0.9
"""Of the smoothed loss."""
_GROWN = 2.0
"""Times the best smoothed loss at which the test ends."""


def find_learning_rate(fabric: Fabric, task: Task, saved: Checkpoint) -> float:
    """Find the highest useful learning rate of a task.

    Args:
        fabric: of one process.
        task: what is to be fitted.
        saved: the job's checkpoint; nothing of it is changed.

    Raises:
        BadParameters: when no rate of the range lowers the loss.
    """
    with tempfile.TemporaryDirectory(prefix="finder-", dir=saved.path.parent) as place:
        loop = Loop(
            fabric, _enough(task), Checkpoint(Path(place), saved.store, saved.job), Tracker()
        )
        training_mode(loop.module)
        tried = _tried(loop, task.settings.optimizer)
    found = steepest(*tried)
    if found is None:
        msg = (
            f"{task.what}: the range test found no learning rate that lowers the loss: leave "
            "find_learning_rate out and give learning_rate"
        )
        raise BadParameters(msg)
    log.info("%s: learning rate %.3g found in %d steps", task.what, found, len(tried[0]))
    return found


def _enough(task: Task) -> Task:
    """The task with so many epochs that the test has its steps."""
    steps = max(1, len(task.train) // min(task.settings.batch_size, len(task.train)))
    epochs = max(task.settings.epochs, math.ceil(_STEPS / steps))
    return replace(task, settings=task.settings.model_copy(update={"epochs": epochs}))


def _tried(loop: Loop, optimizer: str) -> tuple[list[float], list[float]]:
    """Rates and the losses before their steps."""
    low, high = _RANGE[optimizer]
    rates: list[float] = []
    losses: list[float] = []
    smooth, best = 0.0, math.inf
    for i in range(_STEPS):
        epoch, step = divmod(i, loop.steps)
        rows = loop.order(epoch)[step * loop.batch : (step + 1) * loop.batch]
        rate = low * (high / low) ** (i / (_STEPS - 1))
        loss = float(loop.step(epoch, step, rows, rate))
        smooth = _MEMORY * smooth + (1 - _MEMORY) * loss
        level = smooth / (1 - _MEMORY ** (i + 1))
        if not math.isfinite(level) or (i > _LEAST_STEPS and level > _GROWN * best):
            break
        best = min(best, level)
        rates.append(rate)
        losses.append(level)
    return rates, losses


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the loss falls fastest per factor of the rate, before its lowest point.

    Args:
        rates: growing by a constant factor.
        losses: smoothed, at each rate.

    Returns:
        The rate; None where the loss never falls.
    """
    first = _LEAST_STEPS  # before it, the smoothed loss is that of a few batches
    if len(losses) <= first:
        return None
    lowest = min(range(first, len(losses)), key=losses.__getitem__)
    middles = range(first, lowest - _REACH + 1)
    falls = ((losses[i + _REACH] - losses[i - _REACH], i) for i in middles)
    slope, at = min(falls, default=(0.0, 0))
    return rates[at] if slope < 0 else None
