"""What a step lowers: the distance to labels, and to the teachers of a guide."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from slimline.models.answers import Answers
from slimline.models.augment import derived_seed
from slimline.models.build import load_torch_model
from slimline.models.features import make_adapters, make_follower, matched_layers, watch
from slimline.models.losses import attention_loss, decoupled_loss, distillation_loss, hint_loss
from slimline.models.teacher import bfloat16, open_teachers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from slimline.models.batches import Batch
    from slimline.models.task import Guide, Task
    from slimline.models.team import Team


class Objective:
    """The loss of a batch, and the module that is called for it.

    Attributes:
        answers: those of teachers that are kept, where the same questions come again.
        pairs: layers that are compared, student to teacher.
        module: the student; or, where features are followed, the student with its regressors.
        extra: those regressors, which are trained along and not kept; empty where there are none.
    """

    def __init__(self, task: Task, student: nn.Module, place: Path, team: Team) -> None:
        """State what is lowered.

        Args:
            task: what is fitted.
            student: the network.
            place: where teachers' answers are kept.
            team: the processes that share the work.
        """
        self.task, self.module = task, student
        self.extra: nn.Module | None = None
        self.answers: Answers | None = None
        self.pairs: dict[str, str] = {}
        self._ask: Callable[[Tensor], Tensor] = _nobody
        self._see: Callable[[Tensor], tuple[Tensor, list[Tensor]]] = _nobody
        if task.guide is not None and task.guide.needs_features:
            self._follow(task.guide, student)
        elif task.guide is not None:
            self._ask = open_teachers(task.guide, team.size, task.settings.precision)
            self.answers = self._kept(place, team)

    def loss(self, wrapped: Callable[[Tensor], Any], batch: Batch, done: float) -> Tensor:
        """The loss of a batch.

        Args:
            wrapped: `module`, as the training library has wrapped it.
            batch: its examples.
            done: epochs that are done, with their fraction.
        """
        from torch.nn import functional

        guide, smoothing = self.task.guide, self.task.settings.label_smoothing
        if guide is None:
            logits = wrapped(batch.x).float()
            return functional.cross_entropy(logits, batch.y, label_smoothing=smoothing)
        weight = min(1.0, done / guide.warmup_epochs) if guide.warmup_epochs else 1.0
        if not guide.needs_features:
            return self._by_logits(guide, wrapped(batch.x), self._taught(batch), batch.y, weight)
        logits, features = wrapped(batch.x)
        taught, seen = self._see(batch.x)
        distance = (hint_loss if guide.method == "hints" else attention_loss)(features, seen)
        by_logits = self._by_logits(guide, logits, taught, batch.y, weight)
        return by_logits + weight * guide.feature_weight * distance

    def _by_logits(
        self, guide: Guide, student: Tensor, teacher: Tensor, y: Tensor, weight: float
    ) -> Tensor:
        lowered = (
            partial(decoupled_loss, beta=guide.beta)
            if guide.method == "decoupled"
            else distillation_loss
        )
        return lowered(
            student,
            teacher,
            y,
            temperature=guide.temperature,
            alpha=guide.alpha * weight,
            label_smoothing=self.task.settings.label_smoothing,
        )

    def _taught(self, batch: Batch) -> Tensor:
        """The teachers' logits for a batch, asked once for each view that comes again."""
        if self.answers is None:
            return self._ask(batch.x)
        return self.answers.of(batch.rows, batch.views, lambda at: self._ask(batch.x[at]))

    def _kept(self, place: Path, team: Team) -> Answers | None:
        settings, task = self.task.settings, self.task
        if not settings.repeats:
            return None
        views = settings.augmentation_views or 1
        size = (views, len(task.train), len(task.info.labels))
        place = (task.guide and task.guide.answers) or place
        if team.is_first:
            Answers(place, *size)
        team.wait()
        return Answers(place, *size)

    def _follow(self, guide: Guide, student: nn.Module) -> None:
        import torch

        teacher, _ = load_torch_model(guide.path)
        example = self.task.train.inputs(slice(0, 2))
        pairs = matched_layers(guide, student, teacher, example)
        torch.manual_seed(derived_seed(self.task.settings.seed, "regressors"))
        adapters = make_adapters(guide.method, pairs, student, teacher, example)
        follower = make_follower(student, adapters, list(pairs))
        self.module, self.extra = follower, follower.adapters
        self.pairs = pairs
        seen = watch(teacher, list(pairs.values()))
        precision = self.task.settings.precision

        @torch.no_grad()
        def see(x: Tensor) -> tuple[Tensor, list[Tensor]]:
            teacher.to(x.device)
            with bfloat16(x, precision):
                logits = teacher(x).float()
            return logits, [seen[name] for name in pairs.values()]

        self._see = see


def _nobody(_: Tensor) -> Any:
    msg = "there is no teacher to ask"
    raise RuntimeError(msg)
