"""Reshape: change what the method finds, prove or heal what the network answers, keep it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from slimline.contract import BadData, get_logger
from slimline.data.dataset import load_examples
from slimline.models.build import load_torch_model, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fit import accuracy
from slimline.models.heal import heal
from slimline.models.network import mac_count, parameter_count
from slimline.models.quantization import FILE as QUANTIZATION
from slimline.models.tensors import to_tensors
from slimline.reshape.bench import answers, difference
from slimline.reshape.latency import latency_numbers
from slimline.reshape.methods import reshape
from slimline.reshape.spec import PRESERVING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.contract import Numbers
    from slimline.data.dataset import Examples
    from slimline.models.fit import Fitted
    from slimline.models.info import ModelInfo
    from slimline.models.tensors import Batchable
    from slimline.reshape.bench import Bench
    from slimline.reshape.spec import Reshape

log = get_logger(__name__)
_BATCH = 256


@dataclass(frozen=True)
class _Given:
    """The model and the data of a job."""

    module: nn.Module
    info: ModelInfo
    train: Examples
    selection: Examples
    split: Batchable
    """The selection split with its labels."""


def run(job: Reshape) -> Numbers:
    """Reshape the model."""
    started = time.monotonic()
    given = _load(job)
    before = _measured(given.module, given.info, given.split)
    bench = reshape(given.module, job, _sample(job, given))
    apart = _apart(given, bench.module)
    _check_proof(job, apart)
    info = _described(job, given.info, bench)
    reshaped = _measured(bench.module, info, given.split)
    _check_effect(job, before, reshaped)
    healed = _heal(job, given, bench.module, info)
    after = _measured(bench.module, info, given.split)
    log.info(
        "reshape: %s, %d -> %d parameters, answers differ by %.1e, selection accuracy %.2f %% -> "
        "%.2f %%",
        job.method,
        before["parameters"],
        after["parameters"],
        apart,
        100 * before["accuracy"],
        100 * after["accuracy"],
    )
    save_torch_model(bench.module, info, job.reshaped.path)
    numbers: Numbers = {f"{name}_before": value for name, value in before.items()} | after
    if job.latency_rounds:
        numbers |= latency_numbers(given.module, bench.module, info, job.latency_rounds, job.seed)
        if job.method != "grow" and numbers["speedup_high"] < 1:
            log.warning("reshape: %s is slower here: %.2fx", job.method, numbers["speedup"])
    numbers |= {
        "accuracy_reshaped": reshaped["accuracy"],
        "method": job.method,
        "max_difference": apart,
        "proven": job.method in PRESERVING,
        "changed": bench.changed,
        "left_alone": bench.left_alone,
        "epochs": len(healed.history) if healed else 0,
        "resumed_from_epoch": healed.resumed_from if healed else 0,
        "seconds": round(time.monotonic() - started, 3),
    }
    title = f"{info.name}: {info.stage}"
    write_report(job.report.path, title, numbers, healed.history if healed else ())
    return numbers


def _load(job: Reshape) -> _Given:
    """Read model and data; raises BadData on a model whose weights lie on levels."""
    module, info = load_torch_model(job.model.path)
    if (job.model.path / QUANTIZATION).exists():
        msg = (
            f"model {info.name} ({info.stage}) was trained in levels, which {job.method} would "
            "leave: put reshape before qat"
        )
        raise BadData(msg)
    train = load_examples(job.train.path, split="train")
    selection = load_examples(job.selection.path, split="selection")
    return _Given(module, info, train, selection, to_tensors(selection, info))


def _sample(job: Reshape, given: _Given) -> Tensor:
    """Inputs from all over the training split: it may be sorted."""
    to_tensors(given.train, given.info)  # tells what does not fit
    order = np.random.default_rng(job.seed).permutation(len(given.train.x))
    rows = np.sort(order[: job.samples])
    return torch.from_numpy(given.info.preprocessing.apply(given.train.x[rows]))


def _apart(given: _Given, made: nn.Module) -> float:
    """Largest difference of an answer on the selection split, over the largest answer."""
    raw, old, new = given.selection.x, list[torch.Tensor](), list[torch.Tensor]()
    for start in range(0, len(raw), _BATCH):
        x = torch.from_numpy(given.info.preprocessing.apply(raw[start : start + _BATCH]))
        old.append(answers(given.module, x))
        new.append(answers(made, x))
    return difference(torch.cat(new), torch.cat(old))


def _described(job: Reshape, info: ModelInfo, bench: Bench) -> ModelInfo:
    update = {
        "stage": job.stage,
        "edits": (*info.edits, *bench.edits),
        "history": (*info.history, f"{job.method}: {len(bench.changed)} changes"),
    }
    return info.model_copy(update=update)


def _heal(job: Reshape, given: _Given, made: nn.Module, info: ModelInfo) -> Fitted | None:
    """Fit the network to the old one's answers, if healing is asked for; fills its weights."""
    if not job.healing_epochs:
        return None
    data = (to_tensors(given.train, given.info), given.split)
    healed = heal(made, info, job.model.path, data, job, epochs=job.healing_epochs)
    made.eval()
    return healed


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


def _check_effect(job: Reshape, before: Numbers, after: Numbers) -> None:
    """Refuse a method that only says that it did something."""
    smaller = any(after[name] < before[name] for name in ("parameters", "macs"))
    larger = after["parameters"] > before["parameters"]
    expected = {"grow": larger, "swap_activations": True}
    if not expected.get(job.method, smaller):
        msg = (
            f"{job.method} left {after['parameters']} parameters of {before['parameters']} and no "
            "fewer operations: use another method"
        )
        raise BadData(msg)
