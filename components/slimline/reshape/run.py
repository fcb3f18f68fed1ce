"""Reshape: change what the method finds, prove or heal what the network answers, keep it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from slimline.contract import BadData, get_logger
from slimline.data.dataset import load_examples
from slimline.models.build import load_torch_model, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fit import accuracy
from slimline.models.heal import heal
from slimline.models.network import mac_count, parameter_count
from slimline.models.tensors import to_tensors
from slimline.reshape.bench import answers, difference
from slimline.reshape.latency import latency_numbers
from slimline.reshape.methods import reshape
from slimline.reshape.spec import PRESERVING

if TYPE_CHECKING:
    from torch import nn

    from slimline.contract import Numbers
    from slimline.models.info import ModelInfo
    from slimline.models.tensors import Batchable
    from slimline.reshape.spec import Reshape

log = get_logger(__name__)


def run(job: Reshape) -> Numbers:
    """Reshape the model."""
    started = time.monotonic()
    module, info = load_torch_model(job.model.path)
    train = to_tensors(load_examples(job.train.path, split="train"), info)
    selection = to_tensors(load_examples(job.selection.path, split="selection"), info)
    bench = reshape(module, job, train.x)
    apart = difference(answers(bench.module, selection.x), answers(module, selection.x))
    _check_proof(job, apart)
    made = bench.module
    update = {
        "stage": job.stage,
        "edits": (*info.edits, *bench.edits),
        "history": (*info.history, f"{job.method}: {len(bench.changed)} changes"),
    }
    after = info.model_copy(update=update)
    numbers: Numbers = {f"{k}_before": v for k, v in _measured(module, info, selection).items()}
    numbers["accuracy_reshaped"] = accuracy(made, selection)
    healed = None
    if job.healing_epochs:
        data = (train, selection)
        healed = heal(made, after, job.model.path, data, job, epochs=job.healing_epochs)
    numbers |= _measured(made, after, selection)
    _check_effect(job, numbers)
    save_torch_model(made, after, job.reshaped.path)
    if job.latency_rounds:
        numbers |= latency_numbers(module, made, after, job.latency_rounds, job.seed)
    numbers |= {
        "method": job.method,
        "max_difference": apart,
        "proven": job.method in PRESERVING,
        "changed": bench.changed,
        "left_alone": bench.left_alone,
        "epochs": len(healed.history) if healed else 0,
        "resumed_from_epoch": healed.resumed_from if healed else 0,
        "seconds": round(time.monotonic() - started, 3),
    }
    write_report(
        job.report.path, f"{info.name}: {job.stage}", numbers, healed.history if healed else ()
    )
    return numbers


def _measured(module: nn.Module, info: ModelInfo, selection: Batchable) -> Numbers:
    return {
        "parameters": parameter_count(module),
        "macs": mac_count(module, info),
        "accuracy": accuracy(module, selection),
    }


def _check_proof(job: Reshape, apart: float) -> None:
    """Refuse a network that should answer as before and does not."""
    if job.method in PRESERVING and not apart <= job.tolerance:
        msg = (
            f"{job.method}: on the selection split answers differ by {apart:.1e} of the largest "
            f"logit, tolerance is {job.tolerance:.1e}: name fewer layers, see more samples, or "
            "raise tolerance if it is rounding"
        )
        raise BadData(msg)


def _check_effect(job: Reshape, numbers: Numbers) -> None:
    """Refuse a method that only says that it did something."""
    smaller = any(numbers[k] < numbers[f"{k}_before"] for k in ("parameters", "macs"))
    larger = numbers["parameters"] > numbers["parameters_before"]
    expected = {"grow": larger, "swap_activations": True}
    if not expected.get(job.method, smaller):
        msg = (
            f"{job.method} left {numbers['parameters']} parameters of "
            f"{numbers['parameters_before']} and no fewer operations: use another method"
        )
        raise BadData(msg)
