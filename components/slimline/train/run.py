"""Train: data to tensors, factory to network, fit, keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from slimline.contract import BadParameters, get_logger
from slimline.data.dataset import load_examples
from slimline.models.build import build, completed, load_torch_model
from slimline.models.info import ModelInfo
from slimline.models.inherit import take
from slimline.models.initialize import initialize
from slimline.models.network import check_classes
from slimline.models.result import fit_and_keep
from slimline.models.task import Task
from slimline.models.tensors import make_preprocessing, to_tensors

if TYPE_CHECKING:
    from torch import nn

    from slimline.contract import Numbers
    from slimline.data.dataset import Examples
    from slimline.train.spec import Train

log = get_logger(__name__)
_EXAMPLES = 256
"""That data-dependent weights are scaled on."""


def run(job: Train) -> Numbers:
    """Train the network."""
    _check_start(job)
    examples = load_examples(job.train.path, split="train", mapped=True)
    module, info = _start(job, examples)
    train = to_tensors(examples, info)
    chosen = load_examples(job.selection.path, split="selection", mapped=True)
    selection = to_tensors(chosen, info)
    check_classes(module, info)
    if job.initial is None:
        torch.manual_seed(job.seed)
        initialize(module, job.initialization, train.inputs(slice(0, _EXAMPLES)))
    weights, settings = module.state_dict(), job.fit_settings()
    task = Task("train", info, weights, train, selection, settings, frozen=job.freeze)
    return fit_and_keep(module, task, job.model.path, job.report.path)


def _check_start(job: Train) -> None:
    if job.initial is not None and job.initialization != "default":
        msg = (
            f"initialization {job.initialization} is for fresh weights, and initial gives trained "
            "ones: leave out one of them"
        )
        raise BadParameters(msg)


def _start(job: Train, examples: Examples) -> tuple[nn.Module, ModelInfo]:
    """The network as it is before the first step."""
    labels, shape = examples.info.labels, examples.info.shape
    factory = completed(job.factory, classes=len(labels), channels=shape[-1])
    info = ModelInfo(
        name=job.name,
        stage=job.stage,
        format="torch",
        labels=labels,
        preprocessing=make_preprocessing(examples, normalize=job.normalize),
        factory=factory,
        history=(f"trained for {job.epochs} epochs on {examples.info.name}",),
    )
    torch.manual_seed(job.seed)
    module = build(factory)
    return (module, info) if job.initial is None else _continued(job, module, info)


def _continued(job: Train, module: nn.Module, info: ModelInfo) -> tuple[nn.Module, ModelInfo]:
    """Take what fits from the initial model, and its preprocessing: its weights are made for it."""
    assert job.initial is not None  # noqa: S101 - the caller looked
    initial, before = load_torch_model(job.initial.path)
    if before.edits and before.factory != info.factory:
        msg = (
            f"initial model {before.name} ({before.stage}) is cut to shape, so factory must be "
            f"its own: give {before.factory}"
        )
        raise BadParameters(msg)
    if before.edits:
        module = build(before.factory or job.factory, before.edits)
    if not take(module, initial.state_dict()):
        msg = (
            f"initial model {before.name}: no weight fits factory {job.factory.call}; give its own"
        )
        raise BadParameters(msg)
    preprocessing = before.preprocessing
    if preprocessing.shape != info.preprocessing.shape:
        preprocessing = info.preprocessing
    update = {
        "edits": before.edits,
        "preprocessing": preprocessing,
        "history": (*before.history, *info.history),
    }
    return module, info.model_copy(update=update)
