"""QAT: calibrate, train in levels after the float model, keep the weights on their levels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from slimline.contract import BadParameters, get_logger
from slimline.data.dataset import load_examples
from slimline.models.build import load_torch_model, load_weights, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fake_quantize import attach, calibrate, plain_state, record
from slimline.models.fit import accuracy, fit
from slimline.models.network import example_input
from slimline.models.quantization import save_quantization
from slimline.models.task import Guide, Task
from slimline.models.tensors import to_tensors
from slimline.qat.plan import make_plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.contract import Numbers
    from slimline.models.fake_quantize_plan import FakeQuantization, LayerPlan
    from slimline.models.fit import Fitted
    from slimline.models.info import ModelInfo
    from slimline.models.tensors import Batchable
    from slimline.qat.spec import Qat

log = get_logger(__name__)
_FLOAT_BITS = 32


def run(job: Qat) -> Numbers:
    """Train the model in levels."""
    started = time.monotonic()
    module, info = load_torch_model(job.model.path)
    train = to_tensors(load_examples(job.train.path, split="train"), info)
    selection = to_tensors(load_examples(job.selection.path, split="selection"), info)
    measured: Numbers = {"accuracy_before": accuracy(module, selection)}
    plan, left_alone = make_plan(module, example_input(info, batch=2), job)
    for layer, why in left_alone.items():
        log.info("qat: %s stays float: %s", layer, why)
    masks = _zeros(module, plan) if job.keep_zeros else {}
    attach(module, plan)
    calibrate(module, _drawn(train, job))
    measured["accuracy_rounded"] = accuracy(module, selection)
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    guide = Guide((job.teacher or job.model).path, job.temperature, job.alpha)
    settings = job.fit_settings()
    task = Task("qat", info, weights, train, selection, settings, guide, "", masks, plan)
    fitted = fit(task)
    load_weights(module, fitted.weights, f"model {info.name}")
    _keep(job, module, info, plan)
    numbers = measured | _bits(module, plan) | _told(fitted) | {"left_alone": left_alone}
    numbers["seconds"] = round(time.monotonic() - started, 3)
    log.info(
        "qat: selection accuracy %.2f %%, rounded %.2f %%, trained %.2f %%",
        *(100 * numbers[f"accuracy{k}"] for k in ("_before", "_rounded", "")),
    )
    write_report(job.report.path, f"{info.name}: {job.stage}", numbers, fitted.history)
    return numbers


def _drawn(train: Batchable, job: Qat) -> Tensor:
    """Inputs of the training examples that choose the first ranges."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(job.seed))
    return train.inputs(order[: job.calibration_samples])


def _keep(job: Qat, module: nn.Module, info: ModelInfo, plan: FakeQuantization) -> None:
    """Write the plain network, its weights on their levels, and the record of them."""
    plain, _ = load_torch_model(job.model.path)
    load_weights(plain, plain_state(module, plan), f"model {info.name}")
    kinds = sorted({_words(layer) for layer in plan.layers.values()})
    said = f"trained in levels for {job.epochs} epochs ({job.method}): {', '.join(kinds)} weights"
    said += f", {job.activation_bits}-bit activations"
    update = {"stage": job.stage, "history": (*info.history, said)}
    save_torch_model(plain, info.model_copy(update=update), job.trained.path)
    save_quantization(record(module.eval(), plan), job.trained.path)


def _zeros(module: nn.Module, plan: FakeQuantization) -> dict[str, Tensor]:
    """Masks of the weights that are 0, by the names that parametrized weights have."""
    weights = {name: module.get_submodule(name).get_parameter("weight") for name in plan.layers}
    masks = {name: (w.detach() != 0).to(w.dtype) for name, w in weights.items()}
    if all(bool(mask.all()) for mask in masks.values()):
        msg = "keep_zeros is set, but no weight of the model is 0: prune it first, or leave it out"
        raise BadParameters(msg)
    return {f"{k}.parametrizations.weight.original": v for k, v in masks.items() if not v.all()}


def _bits(module: nn.Module, plan: FakeQuantization) -> Numbers:
    """Bytes of the trained weights, before in float and now as levels with their scales."""
    before, after = 0, 0.0
    for name, layer in plan.layers.items():
        weight: Tensor = module.get_submodule(name).weight  # type: ignore[assignment]
        before += weight.numel() * _FLOAT_BITS // 8
        after += (weight.numel() * layer.bits + len(weight) * _FLOAT_BITS) / 8
    return {
        "weight_bytes_before": before,
        "weight_bytes": round(after),
        "layers": {name: _words(layer) for name, layer in plan.layers.items()},
    }


def _told(fitted: Fitted) -> Numbers:
    return {
        "accuracy": fitted.best.accuracy,
        "selection_loss": fitted.best.selection_loss,
        "best_epoch": fitted.best.epoch,
        "epochs": len(fitted.history),
        "resumed_from_epoch": fitted.resumed_from,
    }


def _words(layer: LayerPlan) -> str:
    return layer.kind if layer.kind in {"binary", "ternary"} else f"{layer.bits}-bit {layer.kind}"
