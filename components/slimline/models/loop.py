"""The loop over epochs and steps, as one process of a team sees it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, Meter, get_logger
from slimline.models.augment import derived_seed
from slimline.models.averaging import Average
from slimline.models.batch_norm import share_batch_norm
from slimline.models.batches import Batches
from slimline.models.losses import learning_rate_factor
from slimline.models.network_in_training import make_network, training_mode
from slimline.models.objective import Objective
from slimline.models.progress import (
    Epoch,
    Progress,
    read_best,
    read_part,
    read_progress,
    restore_state,
    write_state,
)
from slimline.models.team import Team

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from slimline.contract.job import Checkpoint
    from slimline.models.task import Task
    from slimline.models.tensors import Batchable
    from slimline.models.tracking import Tracker

log = get_logger(__name__)
_EVALUATION_BATCH = 512
_SECONDS_BETWEEN_SAVES = 1.0
_BATCH_NORM_STEPS = 50
"""Batches that batch norm is measured on for averaged weights."""


class Loop:
    """The state of one fit in one process."""

    def __init__(self, fabric: Fabric, task: Task, saved: Checkpoint, tracker: Tracker) -> None:
        self.fabric, self.task, self.saved, self.tracker = fabric, task, saved, tracker
        self.module, self.optimizer = make_network(task)
        self.team = Team(fabric)
        self.objective = Objective(task, self.module, saved.path, self.team)
        if self.objective.extra is not None and list(self.objective.extra.parameters()):
            self.optimizer.add_param_group({"params": list(self.objective.extra.parameters())})
        if self.team.size > 1:
            share_batch_norm(self.module, fabric.device)
        self.wrapped, self.stepper = fabric.setup(self.objective.module, self.optimizer)
        self.progress = read_progress(saved.path)
        self.best = read_best(saved.path)
        self._go_on()
        kept = {k: v.to(fabric.device) for k, v in read_part(saved.path, "average").items()}
        self.average = Average(task.settings, kept)
        self.train, self.selection = (s.to(fabric.device) for s in (task.train, task.selection))
        self.batches = Batches(self.train, task.settings, len(task.info.labels))
        self.masks = [
            (self.module.get_parameter(k), v.to(fabric.device)) for k, v in task.masks.items()
        ]
        self.batch = min(task.settings.batch_size, len(task.train))
        self.steps = len(task.train) // self.batch
        self.meter = Meter(task.settings.epochs * self.steps, task.what)
        self.kept_at = -math.inf

    def run(self, stop: Callable[[], bool]) -> None:
        """Do the epochs that are left."""
        while self.progress.epochs < self.task.settings.epochs and not self._is_enough():
            started = time.monotonic()
            if not self._epoch(stop):
                self._save()
                return
            self._close_epoch(time.monotonic() - started)
            if self.team.any(time.monotonic() - self.kept_at >= _SECONDS_BETWEEN_SAVES):
                self._save()
        self._write()
        answers = self.objective.answers
        if answers is not None and self.team.is_first:
            log.info(
                "%s: %d answers of the teacher computed, %d taken from those kept",
                self.task.what,
                answers.asked,
                answers.saved,
            )

    def step(self, epoch: int, step: int, rows: Tensor, learning_rate: float) -> Tensor:
        """Lower the loss of a batch; gives this process's part of it, whose mean is the loss.

        Args:
            epoch: from 0.
            step: of the epoch, from 0.
            rows: examples of the batch, over all processes.
            learning_rate: of this step.
        """
        import torch

        settings = self.task.settings
        torch.manual_seed(derived_seed(settings.seed, epoch, step, 0))
        batch = self.batches.make(epoch, rows, self.team.share)
        if not self.team.is_first:
            torch.manual_seed(derived_seed(settings.seed, epoch, step, self.team.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        done = epoch + (step + 1) / self.steps
        loss = self.objective.loss(self.wrapped, batch, done)
        loss = loss * self.team.weight(len(rows), len(batch.y))
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        if settings.clip_norm:
            self.fabric.clip_gradients(
                self.wrapped, self.stepper, max_norm=settings.clip_norm, error_if_nonfinite=False
            )
        self.stepper.step()
        self._keep_zeros()
        return loss.detach()

    def order(self, epoch: int) -> Tensor:
        """The training examples in the order of an epoch."""
        import torch

        torch.manual_seed(derived_seed(self.task.settings.seed, epoch))
        return torch.randperm(len(self.train))

    def _go_on(self) -> None:
        """Take up what an earlier try kept, on the device that the network is on by now."""
        if self.progress == Progress():
            return
        restore_state(self.saved.path, self.module, self.optimizer)
        if self.objective.extra is not None:
            self.objective.extra.load_state_dict(read_part(self.saved.path, "extra"))

    def _epoch(self, stop: Callable[[], bool]) -> bool:
        """Do the steps of an epoch that are left; False when SIGTERM came in between."""
        import torch

        epoch, settings = self.progress.epochs, self.task.settings
        order = self.order(epoch)
        training_mode(self.module)
        losses = torch.tensor(self.progress.loss_sum, device=self.fabric.device)
        for step in range(self.progress.step, self.steps):
            if self.team.any(stop()):
                self._reach(step, losses)
                return False
            at = epoch * self.steps + step
            rate = learning_rate_factor(settings.schedule, at, settings.epochs * self.steps)
            rows = order[step * self.batch : (step + 1) * self.batch]
            losses += self.step(epoch, step, rows, settings.learning_rate * rate)
            self.average.step(self.module)
            if self.team.is_first:
                self.meter.show(at + 1, self._note())
        self._reach(0, losses)
        return True

    def _reach(self, step: int, losses: Tensor) -> None:
        update = {"step": step, "loss_sum": float(self.team.mean(losses))}
        self.progress = self.progress.model_copy(update=update)

    def _keep_zeros(self) -> None:
        import torch

        with torch.no_grad():
            for parameter, mask in self.masks:
                parameter.mul_(mask)

    def _close_epoch(self, seconds: float) -> None:
        settings, number = self.task.settings, self.progress.epochs + 1
        loss = self.progress.loss_sum / self.steps
        self.average.epoch(self.module, number)
        with self.average.shown(self.module, self._plain_batches()):
            selection_loss, right = self._evaluate()
            state = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        if not (math.isfinite(loss) and math.isfinite(selection_loss)):
            msg = (
                f"{self.task.what}: the loss is not finite in epoch {number}: "
                f"lower learning_rate ({settings.learning_rate})"
            )
            raise BadParameters(msg)
        done = Epoch(
            epoch=number,
            loss=loss,
            selection_loss=selection_loss,
            accuracy=right,
            seconds=round(seconds, 3),
        )
        self.progress = Progress(history=(*self.progress.history, done))
        if self.progress.best is done:
            self.best = state
        self.tracker.log(done.model_dump(exclude={"epoch"}), number)
        if self.team.is_first:
            log.info(
                "%s: epoch %d/%d: loss %.4f, selection accuracy %.2f %%",
                self.task.what,
                number,
                settings.epochs,
                loss,
                100 * right,
            )

    def _evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy and share of right answers on the selection split."""
        import torch

        self.module.eval()
        with self.fabric.autocast():
            own = judged(self.module, self.selection, self.team.rank, self.team.size)
        told = torch.tensor(own, dtype=torch.float64, device=self.fabric.device)
        loss, right = (self.team.sum(told) / len(self.selection)).tolist()
        return loss, right

    def _plain_batches(self) -> Iterator[Tensor]:
        """Training batches in the order of the data, unchanged and the same in all processes."""
        pieces = self.train.pieces(self.batch)
        for _, piece in zip(range(_BATCH_NORM_STEPS), pieces, strict=False):
            yield piece.x

    def _is_enough(self) -> bool:
        patience = self.task.settings.patience
        if not patience or not self.progress.history:
            return False
        return self.progress.epochs - self.progress.best.epoch >= patience

    def _note(self) -> str:
        if not self.progress.history:
            return ""
        last = self.progress.history[-1]
        return f"epoch {last.epoch}: loss {last.loss:.4f}, accuracy {100 * last.accuracy:.2f} %"

    def _write(self) -> None:
        if self.team.is_first:
            extra = self.objective.extra
            parts = {
                "model": self.module.state_dict(),
                "best": self.best,
                "average": self.average.kept(),
                "extra": {} if extra is None else extra.state_dict(),
            }
            write_state(self.saved.path, self.progress, self.optimizer, parts)

    def _save(self) -> None:
        self._write()
        self.team.wait()  # none may add to the teachers' answers while they are kept
        if self.team.is_first:
            self.saved.save()
            log.info("%s: kept what epoch %d reached", self.task.what, self.progress.epochs)
        self.team.wait()
        self.kept_at = time.monotonic()


def judged(module: nn.Module, split: Batchable, start: int = 0, step: int = 1) -> list[float]:
    """Sum of the cross-entropy and number of right answers, over every `step`-th example."""
    loss, right = 0.0, 0
    for piece in split.pieces(_EVALUATION_BATCH, start, step):
        mean, hits = evaluate(module, piece.x, piece.y)
        loss, right = loss + mean * len(piece), right + hits
    return [loss, right]


def evaluate(module: nn.Module, x: Tensor, y: Tensor) -> tuple[float, int]:
    """Mean cross-entropy, and how many answers are right."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        parts = torch.split(x, _EVALUATION_BATCH)
        logits = torch.cat([module(part).float() for part in parts])
        loss = functional.cross_entropy(logits, y)
        return float(loss), int((logits.argmax(1) == y).sum())
