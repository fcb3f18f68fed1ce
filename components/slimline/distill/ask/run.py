"""Ask: one view of each training example goes by the teachers, in batches of their own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch

from slimline.contract import Meter, checkpoint, get_logger
from slimline.data.dataset import load_examples
from slimline.models.answers import ANSWERS_FILE, Answers
from slimline.models.batches import Batches
from slimline.models.device import own_device
from slimline.models.info import load_model_info
from slimline.models.settings import FitSettings
from slimline.models.stop import deferred_sigterm
from slimline.models.task import Guide
from slimline.models.teacher import open_teachers
from slimline.models.tensors import to_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.contract import Numbers
    from slimline.distill.ask.spec import Ask

log = get_logger(__name__)
_BATCH = 512


def run(job: Ask) -> Numbers:
    """Ask what no earlier try has asked.

    Raises:
        Killed: on SIGTERM, when the answers so far have been kept.
    """
    info, saved = load_model_info(job.teachers[0].path), checkpoint()
    saved.restore()
    examples = load_examples(job.train.path, split="train", mapped=True)
    train, classes = to_tensors(examples, info), len(info.labels)
    batches = Batches(train.to(own_device()), _settings(job), classes)
    answers = Answers(saved.path, 1, len(train), classes)
    with deferred_sigterm() as stop:
        _ask(job, batches, answers, stop)
        if stop():
            saved.save()
    shutil.copyfile(saved.path / ANSWERS_FILE, job.answers.path / ANSWERS_FILE)
    log.info("ask: %d answers computed, %d taken from those kept", answers.asked, answers.saved)
    return {"examples": len(train), "asked": answers.asked}


def _ask(job: Ask, batches: Batches, answers: Answers, stop: Callable[[], bool]) -> None:
    """One turn over all examples, as in an epoch."""
    ask = open_teachers(_guide(job), precision=job.precision)
    parts = torch.split(torch.arange(len(batches.split)), _BATCH)
    meter = Meter(len(parts), f"teacher, turn {job.turn + 1}")
    for done, rows in enumerate(parts, 1):
        if stop():
            return
        x = batches.make(job.turn, rows, slice(None)).x
        answers.of(rows, torch.zeros_like(rows), lambda at, x=x: ask(x[at]).cpu())  # type: ignore[misc]
        meter.show(done)


def _settings(job: Ask) -> FitSettings:
    names = ("augmentation", "augmentation_views", "seed", "precision")
    return FitSettings.model_validate({name: getattr(job, name) for name in names})


def _guide(job: Ask) -> Guide:
    first, *further = (teacher.path for teacher in job.teachers)
    return Guide(
        path=first,
        temperature=1.0,
        alpha=1.0,
        further=tuple(further),
        ensemble=job.ensemble,
        shares=job.teacher_weights,
    )
