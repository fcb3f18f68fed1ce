"""Distill: the teacher's preprocessing and labels, a student of its own, one loop for both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from slimline.data.dataset import load_examples
from slimline.models.build import build, completed, load_weights, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fit import fit
from slimline.models.info import ModelInfo, load_model_info
from slimline.models.network import check_classes, parameter_count
from slimline.models.settings import FitSettings
from slimline.models.task import Guide, Task
from slimline.models.teacher import open_teacher
from slimline.models.tensors import to_tensors

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.distill.spec import Distill


def run(job: Distill) -> Numbers:
    """Train the student."""
    started = time.monotonic()
    info = _student_info(job)
    train = to_tensors(load_examples(job.train.path, split="train"), info)
    selection = to_tensors(load_examples(job.selection.path, split="selection"), info)
    torch.manual_seed(job.seed)
    assert info.factory is not None  # noqa: S101 - made above
    module = build(info.factory)
    check_classes(module, info)
    answers = open_teacher(job.teacher.path)(selection.x)
    settings = FitSettings.model_validate(job.model_dump(include=set(FitSettings.model_fields)))
    guide = Guide(job.teacher.path, job.temperature, job.alpha)
    weights = module.state_dict()
    fitted = fit(Task("distill", info, weights, train, selection, settings, guide))
    load_weights(module, fitted.weights, f"model {info.name}")
    save_torch_model(module, info, job.student.path)
    numbers: Numbers = {
        "accuracy": fitted.best.accuracy,
        "teacher_accuracy": float((answers.argmax(1) == selection.y).double().mean()),
        "selection_loss": fitted.best.selection_loss,
        "best_epoch": fitted.best.epoch,
        "epochs": len(fitted.history),
        "resumed_from_epoch": fitted.resumed_from,
        "parameters": parameter_count(module),
        "examples": len(train),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_report(job.report.path, f"{info.name}: {info.stage}", numbers, fitted.history)
    return numbers


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
