"""Prune: cut, prove that the cut is real, heal, keep."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, get_logger
from slimline.data.dataset import load_examples
from slimline.models.build import load_torch_model, load_weights, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fit import accuracy, fit
from slimline.models.network import example_input, mac_count, parameter_count
from slimline.models.settings import FitSettings
from slimline.models.task import Guide, Task
from slimline.models.tensors import to_tensors
from slimline.prune.cut import cut_channels
from slimline.prune.sparse import apply_masks, magnitude_masks, sparsity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.contract import Numbers
    from slimline.models.fit import Fitted
    from slimline.models.info import ModelInfo
    from slimline.models.tensors import Batchable
    from slimline.prune.spec import Prune

log = get_logger(__name__)
_TOLERANCE = 0.001


@dataclass(frozen=True)
class _Pruned:
    module: nn.Module
    info: ModelInfo
    masks: dict[str, Tensor]
    widths: dict[str, str]
    left_alone: dict[str, str]


def run(job: Prune) -> Numbers:
    """Cut and heal the model."""
    started = time.monotonic()
    module, info = load_torch_model(job.model.path)
    train = to_tensors(load_examples(job.train.path, split="train"), info)
    selection = to_tensors(load_examples(job.selection.path, split="selection"), info)
    before = _measured(module, info, selection)
    pruned = _structured(job, module, info) if job.method == "structured" else None
    pruned = pruned or _magnitude(job, module, info)
    cut = _measured(pruned.module, pruned.info, selection)
    _check_effect(job, before, cut)
    log.info(
        "prune: %d -> %d parameters, sparsity %.1f %%, selection accuracy %.2f %% -> %.2f %%",
        before["parameters"],
        cut["parameters"],
        100 * cut["sparsity"],
        100 * before["accuracy"],
        100 * cut["accuracy"],
    )
    healed = _heal(job, pruned, train, selection) if job.epochs else None
    after = _measured(pruned.module, pruned.info, selection)
    _check_effect(job, before, after)
    save_torch_model(pruned.module, pruned.info, job.pruned.path)
    numbers: Numbers = {f"{k}_before": v for k, v in before.items()}
    numbers |= after
    numbers |= {
        "accuracy_cut": cut["accuracy"],
        "epochs": len(healed.history) if healed else 0,
        "resumed_from_epoch": healed.resumed_from if healed else 0,
        "widths": pruned.widths,
        "left_alone": pruned.left_alone,
        "seconds": round(time.monotonic() - started, 3),
    }
    title = f"{pruned.info.name}: {pruned.info.stage}"
    write_report(job.report.path, title, numbers, healed.history if healed else ())
    return numbers


def _structured(job: Prune, module: nn.Module, info: ModelInfo) -> _Pruned:
    cut = cut_channels(module, example_input(info, batch=2), job)
    for layer, why in cut.left_alone.items():
        log.info("prune: %s is left alone: %s", layer, why)
    said = f"channels cut by {job.ratio:g} ({job.importance}, {job.scope}, x{job.round_to})"
    update = {
        "stage": job.stage,
        "edits": (*info.edits, *cut.edits),
        "history": (*info.history, said),
    }
    return _Pruned(cut.module, info.model_copy(update=update), {}, cut.widths, cut.left_alone)


def _magnitude(job: Prune, module: nn.Module, info: ModelInfo) -> _Pruned:
    masks = magnitude_masks(module, job)
    apply_masks(module, masks)
    said = f"{job.ratio:g} of the weights set to zero ({job.scope})"
    update = {"stage": job.stage, "history": (*info.history, said)}
    return _Pruned(module, info.model_copy(update=update), masks, {}, {})


def _heal(job: Prune, pruned: _Pruned, train: Batchable, selection: Batchable) -> Fitted:
    """Fit the cut network to the uncut one's answers; fills its weights."""
    settings = FitSettings(
        epochs=job.epochs,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        augmentation=job.augmentation,
        precision=job.precision,
        seed=job.seed,
        devices=job.devices,
    )
    weights = {k: v.clone() for k, v in pruned.module.state_dict().items()}
    guide = Guide(job.model.path, job.temperature, job.alpha)
    task = Task("heal", pruned.info, weights, train, selection, settings, guide, masks=pruned.masks)
    healed = fit(task)
    load_weights(pruned.module, healed.weights, f"model {pruned.info.name}")
    return healed


def _measured(module: nn.Module, info: ModelInfo, selection: Batchable) -> Numbers:
    return {
        "parameters": parameter_count(module),
        "macs": mac_count(module, info),
        "sparsity": sparsity(module),
        "accuracy": accuracy(module, selection),
    }


def _check_effect(job: Prune, before: Numbers, after: Numbers) -> None:
    """Refuse a pruning that only says that it pruned."""
    if job.method == "structured" and after["parameters"] >= before["parameters"]:
        msg = (
            f"structured pruning at ratio {job.ratio} left {after['parameters']} parameters of "
            f"{before['parameters']}: use a larger ratio or a smaller round_to ({job.round_to})"
        )
        raise BadParameters(msg)
    if job.method == "magnitude" and after["sparsity"] < job.ratio - _TOLERANCE:
        msg = (
            f"magnitude pruning at ratio {job.ratio} reached a sparsity of {after['sparsity']:.4f} "
            "only: the layers are too small for this ratio; use scope global"
        )
        raise BadParameters(msg)
