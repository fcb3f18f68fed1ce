"""The loop over epochs and steps, in one process."""

from __future__ import annotations

import hashlib
import math
import re
import time
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters, Meter, get_logger
from slimline.models.augment import augment
from slimline.models.build import build, load_weights
from slimline.models.losses import distillation_loss, learning_rate_factor
from slimline.models.progress import (
    Epoch,
    Progress,
    read_best,
    read_progress,
    restore_state,
    write_state,
)
from slimline.models.teacher import open_teacher

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.fabric import Fabric
    from torch import Tensor, nn
    from torch.optim import Optimizer

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
        self.module, self.optimizer = _network(task)
        self.progress = read_progress(saved.path)
        self.best = read_best(saved.path)
        if self.progress != Progress():
            restore_state(saved.path, self.module, self.optimizer)
        self.wrapped, self.stepper = fabric.setup(self.module, self.optimizer)
        self.train, self.selection = (
            (_placed(split.x, fabric), split.y.to(fabric.device))
            for split in (task.train, task.selection)
        )
        self.masks = {k: v.to(fabric.device) for k, v in task.masks.items()}
        self.teach = _teaching(task, self.train[0])
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
        _training_mode(self.module)
        losses = torch.tensor(self.progress.loss_sum, device=self.fabric.device)
        for step in range(self.progress.step, self.steps):
            if stop():
                update = {"step": step, "loss_sum": float(losses)}
                self.progress = self.progress.model_copy(update=update)
                return False
            chosen = order[step * self.batch : (step + 1) * self.batch]
            losses += self._step(epoch, step, chosen[self.fabric.global_rank :: self._processes])
            if self.fabric.is_global_zero:
                self.meter.show(epoch * self.steps + step + 1, self._note())
        self.progress = self.progress.model_copy(update={"step": 0, "loss_sum": float(losses)})
        return True

    def _step(self, epoch: int, step: int, chosen: Tensor) -> Tensor:
        import torch
        from torch.nn import functional

        settings, guide = self.task.settings, self.task.guide
        torch.manual_seed(_seed(settings.seed, epoch, step, self.fabric.global_rank))
        rate = learning_rate_factor(
            settings.schedule, epoch * self.steps + step, settings.epochs * self.steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate
        chosen = chosen.to(self.fabric.device)
        x = augment(self.train[0][chosen], settings.augmentation)
        y = self.train[1][chosen]
        logits = self.wrapped(x)
        if guide is None:
            loss = functional.cross_entropy(
                logits.float(), y, label_smoothing=settings.label_smoothing
            )
        else:
            loss = distillation_loss(
                logits,
                self.teach(x, chosen),
                y,
                temperature=guide.temperature,
                alpha=guide.alpha,
                label_smoothing=settings.label_smoothing,
            )
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        self.stepper.step()
        self._keep_zeros()
        return loss.detach()

    def _keep_zeros(self) -> None:
        import torch

        with torch.no_grad():
            for name, mask in self.masks.items():
                self.module.get_parameter(name).mul_(mask)

    def _close_epoch(self, seconds: float) -> None:
        settings, number = self.task.settings, self.progress.epochs + 1
        loss = self.progress.loss_sum / self.steps
        self.module.eval()
        selection_loss, right = self.fabric.broadcast(evaluate(self.wrapped, *self.selection))
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
        if self.fabric.is_global_zero:
            log.info(
                "%s: epoch %d/%d: loss %.4f, selection accuracy %.2f %%",
                self.task.what,
                number,
                settings.epochs,
                loss,
                100 * right,
            )

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
        if self.fabric.is_global_zero:
            write_state(self.saved.path, self.progress, self.module, self.optimizer, self.best)

    def _save(self) -> None:
        self._write()
        if self.fabric.is_global_zero:
            self.saved.save()
            log.info("%s: kept what epoch %d reached", self.task.what, self.progress.epochs)
        self.kept_at = time.monotonic()

    @property
    def _processes(self) -> int:
        return self.fabric.world_size


def _network(task: Task) -> tuple[nn.Module, Optimizer]:
    import torch

    if task.info.factory is None:
        msg = f"model {task.info.name} has no factory: only a torch model can be trained"
        raise BadData(msg)
    module = build(task.info.factory, task.info.edits)
    load_weights(module, task.weights, f"model {task.info.name}")
    if task.train.x.ndim == 4:  # noqa: PLR2004 - images
        for weight in module.parameters():
            if weight.ndim == 4:  # noqa: PLR2004 - of convolutions
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    _freeze(module, task.frozen)
    free = [p for p in module.parameters() if p.requires_grad]
    settings = task.settings
    made: Optimizer
    if settings.optimizer == "sgd":
        made = torch.optim.SGD(
            free, settings.learning_rate, 0.9, weight_decay=settings.weight_decay, nesterov=True
        )
    else:
        made = torch.optim.AdamW(free, settings.learning_rate, weight_decay=settings.weight_decay)
    return module, made


def _freeze(module: nn.Module, pattern: str) -> None:
    if not pattern:
        return
    try:
        found = [p for n, p in module.named_parameters() if re.search(pattern, n)]
    except re.error as error:
        msg = f"freeze {pattern!r} is no regular expression: {error}"
        raise BadParameters(msg) from error
    if not 0 < len(found) < len(list(module.parameters())):
        names = ", ".join(n for n, _ in list(module.named_parameters())[:4])
        msg = f"freeze {pattern!r} finds {len(found)} parameters of {names} ...: find some, not all"
        raise BadParameters(msg)
    for parameter in found:
        parameter.requires_grad = False


def _training_mode(module: nn.Module) -> None:
    """Training mode, but not for batch norm that is frozen: its statistics stay too."""
    module.train()
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            layer.eval()


def _teaching(task: Task, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The teacher's logits for a batch, given its input and its places in the training split.

    Without augmentation every input is the same in each epoch, so they are computed once.
    """
    if task.guide is None:
        return lambda batch, _: batch
    teacher = open_teacher(task.guide.path)
    if task.settings.augmentation != "none":
        return lambda batch, _: teacher(batch)
    answers = teacher(x)
    return lambda _, chosen: answers[chosen]


def _placed(x: Tensor, fabric: Fabric) -> Tensor:
    import torch

    x = x.to(fabric.device)
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x  # noqa: PLR2004 - images


def evaluate(module: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and share of right answers."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        logits = torch.cat([module(part).float() for part in torch.split(x, _EVALUATION_BATCH)])
        loss = functional.cross_entropy(logits, y)
        return float(loss), float((logits.argmax(1) == y).double().mean())


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) % 2**63
