"""Distill: the teacher's preprocessing and labels, a student of its own, one loop for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from slimline.data.dataset import load_examples
from slimline.models.build import build, completed
from slimline.models.info import ModelInfo, load_model_info
from slimline.models.network import check_classes
from slimline.models.result import fit_and_keep
from slimline.models.task import Guide, Task
from slimline.models.teacher import open_teacher
from slimline.models.tensors import to_tensors

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.distill.spec import Distill


def run(job: Distill) -> Numbers:
    """Train the student."""
    info = _student_info(job)
    train = to_tensors(load_examples(job.train.path, split="train"), info)
    selection = to_tensors(load_examples(job.selection.path, split="selection"), info)
    torch.manual_seed(job.seed)
    assert info.factory is not None  # noqa: S101 - made above
    module = build(info.factory)
    check_classes(module, info)
    answers = open_teacher(job.teacher.path)(selection.x)
    right = float((answers.argmax(1) == selection.y).double().mean())
    guide = Guide(job.teacher.path, job.temperature, job.alpha)
    weights, settings = module.state_dict(), job.fit_settings()
    task = Task("distill", info, weights, train, selection, settings, guide)
    measured: Numbers = {"teacher_accuracy": right}
    return fit_and_keep(module, task, job.student.path, job.report.path, measured)


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
