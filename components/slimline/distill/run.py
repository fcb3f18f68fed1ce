"""Distill: the teacher's preprocessing and labels, a student of its own, one loop for both."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from slimline.contract import BadParameters, run_inside
from slimline.contract.store import fetch_artifact
from slimline.data.dataset import load_examples
from slimline.distill.ask.spec import Ask
from slimline.models.answers import ANSWERS_FILE, Answers
from slimline.models.build import build, completed, load_torch_model
from slimline.models.device import own_device
from slimline.models.fit import check_task
from slimline.models.info import ModelInfo, load_model_info
from slimline.models.inherit import inherit
from slimline.models.initialize import initialize
from slimline.models.network import check_classes
from slimline.models.result import fit_and_keep
from slimline.models.task import Guide, Task
from slimline.models.teacher import check_teachers, open_teachers
from slimline.models.tensors import to_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from slimline.contract import Numbers
    from slimline.distill.spec import Distill
    from slimline.models.tensors import Batchable

_EXAMPLES = 256
"""That data-dependent weights are scaled on."""


def run(job: Distill) -> Numbers:
    """Train the student."""
    info = _student_info(job)
    train = to_tensors(load_examples(job.train.path, split="train", mapped=True), info)
    chosen = load_examples(job.selection.path, split="selection", mapped=True)
    selection = to_tensors(chosen, info)
    torch.manual_seed(job.seed)
    assert info.factory is not None  # noqa: S101 - made above
    module = build(info.factory)
    check_classes(module, info)
    initialize(module, job.initialization, train.inputs(slice(0, _EXAMPLES)))
    if job.inherit:
        _inherit(job, module)
    guide = _guide(job)
    check_teachers(guide, info)
    weights, settings = module.state_dict(), job.fit_settings()
    task = Task("distill", info, weights, train, selection, settings, guide)
    check_task(task)
    right = _right(open_teachers(guide, precision=job.precision), selection)
    measured: Numbers = {"teacher_accuracy": right}
    with _asked(job, task) as guided:
        return fit_and_keep(module, guided, job.student.path, job.report.path, measured)


def _inherit(job: Distill, module: nn.Module) -> None:
    teacher = load_model_info(job.teacher.path)
    if teacher.format != "torch":
        msg = (
            f"inherit is true, the teacher {teacher.name} ({teacher.stage}) is an ONNX file: give "
            "its torch model, or inherit false"
        )
        raise BadParameters(msg)
    inherit(module, load_torch_model(job.teacher.path)[0])


@contextmanager
def _asked(job: Distill, task: Task) -> Iterator[Task]:
    """The task with all answers that its epochs need, where they can be kept."""
    assert task.guide is not None  # noqa: S101 - the caller gave one
    if task.guide.needs_features or not job.repeats:
        yield task
        return
    names = (
        *("train", "augmentation", "augmentation_views", "seed", "precision"),
        *("ensemble", "teacher_weights"),
    )
    given = {name: getattr(job, name) for name in names}
    views = job.augmentation_views or 1
    with tempfile.TemporaryDirectory(prefix="answers-") as place:
        answers = Answers(Path(place), views, len(task.train), len(task.info.labels))
        for turn in range(min(job.epochs, views)):
            ask = Ask.parse({**given, "teachers": (job.teacher, *job.teachers), "turn": turn})
            told = fetch_artifact(run_inside(ask)["answers"], Path(place) / str(turn))
            answers.fill(turn, told.path / ANSWERS_FILE)
        yield replace(task, guide=replace(task.guide, answers=Path(place)))


def _guide(job: Distill) -> Guide:
    return Guide(
        path=job.teacher.path,
        temperature=job.temperature,
        alpha=job.alpha,
        method=job.method,
        beta=job.beta,
        warmup_epochs=job.warmup_epochs,
        feature_weight=job.feature_weight,
        layers=job.layers,
        further=tuple(teacher.path for teacher in job.teachers),
        ensemble=job.ensemble,
        shares=job.teacher_weights,
    )


def _right(ask: Callable[[Tensor], Tensor], split: Batchable) -> float:
    """Share of a split that the teachers answer right."""
    pieces = split.to(own_device()).pieces()
    return sum(int((ask(piece.x).argmax(1) == piece.y).sum()) for piece in pieces) / len(split)


def _student_info(job: Distill) -> ModelInfo:
    """The student takes what the teacher takes, so that both see the same tensors."""
    teacher = load_model_info(job.teacher.path)
    shape = teacher.preprocessing.shape
    said = f"distilled from {teacher.stage} for {job.epochs} epochs at T={job.temperature:g}"
    return ModelInfo(
        name=teacher.name,
        stage=job.stage,
        format="torch",
        labels=teacher.labels,
        preprocessing=teacher.preprocessing,
        factory=completed(job.factory, classes=len(teacher.labels), channels=shape[-1]),
        history=(*teacher.history, said),
    )
