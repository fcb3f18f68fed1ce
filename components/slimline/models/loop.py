"""The loop over epochs and steps, as one process of a team sees it."""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, Meter, get_logger
from slimline.models.augment import augment
from slimline.models.batch_norm import share_batch_norm
from slimline.models.losses import distillation_loss, learning_rate_factor
from slimline.models.network_in_training import make_network, training_mode
from slimline.models.progress import (
    Epoch,
    Progress,
    read_best,
    read_progress,
    restore_state,
    write_state,
)
from slimline.models.teacher import open_teacher
from slimline.models.team import Team

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from slimline.contract.job import Checkpoint
    from slimline.models.task import Task
    from slimline.models.tracking import Tracker

log = get_logger(__name__)
_EVALUATION_BATCH = 1024
_SECONDS_BETWEEN_SAVES = 1.0


class Loop:
    """The state of one fit in one process."""

    def __init__(self, fabric: Fabric, task: Task, saved: Checkpoint, tracker: Tracker) -> None:
        self.fabric, self.task, self.saved, self.tracker = fabric, task, saved, tracker
        self.module, self.optimizer = make_network(task)
        self.progress = read_progress(saved.path)
        self.best = read_best(saved.path)
        if self.progress != Progress():
            restore_state(saved.path, self.module, self.optimizer)
        self.team = Team(fabric)
        if self.team.size > 1:
            self.module = share_batch_norm(self.module, fabric.device)
        self.wrapped, self.stepper = fabric.setup(self.module, self.optimizer)
        self.train, self.selection = (
            (_placed(split.x, fabric), split.y.to(fabric.device))
            for split in (task.train, task.selection)
        )
        self.masks = {k: v.to(fabric.device) for k, v in task.masks.items()}
        self.teach = _teaching(task, self.train[0], self.team)
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
            if time.monotonic() - self.kept_at >= _SECONDS_BETWEEN_SAVES:
                self._save()
        self._write()

    def _epoch(self, stop: Callable[[], bool]) -> bool:
        """Do the steps of an epoch that are left; False when SIGTERM came in between."""
        import torch

        epoch, settings = self.progress.epochs, self.task.settings
        torch.manual_seed(_seed(settings.seed, epoch))
        order = torch.randperm(len(self.task.train))
        training_mode(self.module)
        losses = torch.tensor(self.progress.loss_sum, device=self.fabric.device)
        for step in range(self.progress.step, self.steps):
            if self.team.any(stop()):
                self._reach(step, losses)
                return False
            losses += self._step(epoch, step, order[step * self.batch : (step + 1) * self.batch])
            if self.team.is_first:
                self.meter.show(epoch * self.steps + step + 1, self._note())
        self._reach(0, losses)
        return True

    def _reach(self, step: int, losses: Tensor) -> None:
        update = {"step": step, "loss_sum": float(self.team.mean(losses))}
        self.progress = self.progress.model_copy(update=update)

    def _step(self, epoch: int, step: int, batch: Tensor) -> Tensor:
        """Lower the loss of a batch; gives this process's part of it, whose mean is the loss."""
        import torch

        settings, chosen = self.task.settings, batch[self.team.share].to(self.fabric.device)
        torch.manual_seed(_seed(settings.seed, epoch, step, 0))
        x = augment(self.train[0][chosen], settings.augmentation, len(batch), self.team.share)
        if not self.team.is_first:
            torch.manual_seed(_seed(settings.seed, epoch, step, self.team.rank))
        rate = learning_rate_factor(
            settings.schedule, epoch * self.steps + step, settings.epochs * self.steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate
        loss = self._loss(x, chosen) * self.team.weight(len(batch), len(chosen))
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        self.stepper.step()
        self._keep_zeros()
        return loss.detach()

    def _loss(self, x: Tensor, chosen: Tensor) -> Tensor:
        from torch.nn import functional

        guide, smoothing = self.task.guide, self.task.settings.label_smoothing
        y, logits = self.train[1][chosen], self.wrapped(x)
        if guide is None:
            return functional.cross_entropy(logits.float(), y, label_smoothing=smoothing)
        return distillation_loss(
            logits,
            self.teach(x, chosen),
            y,
            temperature=guide.temperature,
            alpha=guide.alpha,
            label_smoothing=smoothing,
        )

    def _keep_zeros(self) -> None:
        import torch

        with torch.no_grad():
            for name, mask in self.masks.items():
                self.module.get_parameter(name).mul_(mask)

    def _close_epoch(self, seconds: float) -> None:
        settings, number = self.task.settings, self.progress.epochs + 1
        loss = self.progress.loss_sum / self.steps
        selection_loss, right = self._evaluate()
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
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
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
        x, y = (part[self.team.share] for part in self.selection)
        loss, right = 0.0, 0
        if len(y):  # a split may be smaller than the team
            with self.fabric.autocast():
                loss, right = evaluate(self.module, x, y)
        own = torch.tensor([loss * len(y), right], dtype=torch.float64, device=self.fabric.device)
        loss_sum, all_right = (self.team.sum(own) / len(self.selection[1])).tolist()
        return loss_sum, all_right

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
            write_state(self.saved.path, self.progress, self.module, self.optimizer, self.best)

    def _save(self) -> None:
        self._write()
        if self.team.is_first:
            self.saved.save()
            log.info("%s: kept what epoch %d reached", self.task.what, self.progress.epochs)
        self.kept_at = time.monotonic()


def _teaching(task: Task, x: Tensor, team: Team) -> Callable[[Tensor, Tensor], Tensor]:
    """The teacher's logits for a batch, given its input and its places in the training split.

    Without augmentation every input is the same in each epoch, so they are computed once.
    """
    if task.guide is None:
        return lambda batch, _: batch
    teacher = open_teacher(task.guide.path, team.size)
    if task.settings.augmentation != "none":
        return lambda batch, _: teacher(batch)
    answers = team.gather(teacher, x)
    return lambda _, chosen: answers[chosen]


def _placed(x: Tensor, fabric: Fabric) -> Tensor:
    import torch

    x = x.to(fabric.device)
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x  # noqa: PLR2004 - images


def evaluate(module: nn.Module, x: Tensor, y: Tensor) -> tuple[float, int]:
    """Mean cross-entropy, and how many answers are right."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        logits = torch.cat([module(part).float() for part in torch.split(x, _EVALUATION_BATCH)])
        loss = functional.cross_entropy(logits, y)
        return float(loss), int((logits.argmax(1) == y).sum())


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) % 2**63
