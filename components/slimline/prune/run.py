"""Prune: cut, prove that the cut is real, heal, cut again, keep."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from slimline.contract import BadData, BadParameters, checkpoint, get_logger
from slimline.data.dataset import load_examples
from slimline.models.build import build, load_torch_model, load_weights, save_torch_model
from slimline.models.curve import write_report
from slimline.models.fit import accuracy
from slimline.models.heal import heal
from slimline.models.network import example_input, mac_count, parameter_count
from slimline.models.quantization import FILE as QUANTIZATION
from slimline.models.tensors import to_tensors
from slimline.prune.blocks import remove_blocks
from slimline.prune.cut import CutNetwork, full_widths, rank_channels
from slimline.prune.nm import n_m_masks
from slimline.prune.sparse import apply_masks, magnitude_masks, sparsity, stored_bytes
from slimline.prune.statistics import better_of, reestimated
from slimline.prune.steps import Step, keep_step, kept_step, share_done, together
from slimline.prune.target import Target, narrow_to

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
class _Given:
    """What does not change while the job runs."""

    uncut: nn.Module
    info: ModelInfo
    train: Batchable
    selection: Batchable
    samples: Batchable
    """Of the training split: what is measured to choose."""

    @property
    def example(self) -> Tensor:
        return example_input(self.info, batch=2)


def run(job: Prune) -> Numbers:
    """Cut and heal the model, step by step, going on from the step that a killed try reached."""
    started = time.monotonic()
    given = _load(job)
    before = _measured(given.uncut, given.info, given.selection)
    step, module, masks = _start(given)
    resumed_from, healed = step.number, None
    for number in range(max(1, step.number), job.steps + 1):
        if number > step.number:
            step = step.model_copy(update={"number": number})
            cut = _cut(job, given, step, module)
            if not cut.edits and not cut.masks:
                step = step.model_copy(update={"left_alone": cut.left_alone})
                continue
            module, masks = _settled(job, given, cut), cut.masks
            step = _told(job, given, step, cut, module)
            keep_step(checkpoint(), step, module.state_dict(), masks)
        healed = _heal(job, given, step, module, masks)
        step = _closed(step, healed)
    after = _measured(module, step.info, given.selection)
    _check_effect(job, before, after, step)
    save_torch_model(module, step.info, job.pruned.path)
    numbers = _numbers(step, before, after, healed)
    numbers |= {"resumed_from_step": resumed_from, "seconds": round(time.monotonic() - started, 3)}
    title = f"{step.info.name}: {step.info.stage}"
    write_report(job.report.path, title, numbers, healed.history if healed else ())
    return numbers


def _load(job: Prune) -> _Given:
    """Read model and data; raises BadData on a model whose weights lie on levels."""
    module, info = load_torch_model(job.model.path)
    if (job.model.path / QUANTIZATION).exists():
        msg = (
            f"model {info.name} ({info.stage}) was trained in levels, which healing would leave: "
            "put prune before qat"
        )
        raise BadData(msg)
    train = to_tensors(load_examples(job.train.path, split="train"), info)
    selection = to_tensors(load_examples(job.selection.path, split="selection"), info)
    draw = torch.Generator().manual_seed(job.seed)
    rows = torch.randperm(len(train), generator=draw)[: job.samples]
    return _Given(module, info, train, selection, train.some(rows))


def _start(given: _Given) -> tuple[Step, nn.Module, dict[str, Tensor]]:
    """The uncut network; or the cut one that a killed try was about to heal."""
    saved = checkpoint()
    kept = kept_step(saved.path) if saved.restore() else None
    if kept is None or kept[0].info.factory is None:
        return Step(info=given.info), copy.deepcopy(given.uncut), {}
    step, weights, masks = kept
    assert step.info.factory is not None  # noqa: S101 - looked at above
    module = build(step.info.factory, step.info.edits)
    load_weights(module, weights, f"model {step.info.name}")
    log.info("prune: goes on with step %d, whose cut is kept", step.number)
    return step, module.eval(), masks


def _cut(job: Prune, given: _Given, step: Step, module: nn.Module) -> CutNetwork:
    """Cut a network until this step's share of the way, counted from the uncut one, is done."""
    share = share_done(step.number, job.steps, job.schedule)
    target = Target(job, given.uncut, given.info, share)
    if job.method == "structured":
        uncut = step.info.edits == given.info.edits
        full = None if uncut else full_widths(given.uncut, given.example)
        channels = rank_channels(module, given.example, job, given.samples, full)
        ratio = job.target == "ratio"
        keep = channels.keep(job.ratio * share) if ratio else narrow_to(channels, target)
        return channels.cut(keep, tuple(target.probes))
    if job.method == "blocks":
        return remove_blocks(module, given.uncut, given.example, given.samples, target)
    if job.method == "n_m":
        masks, left_alone = n_m_masks(module, job, given.samples)
    else:
        masks, left_alone = magnitude_masks(module, job, given.samples, share), {}
    cut = copy.deepcopy(module)
    apply_masks(cut, masks)
    return CutNetwork(cut, masks=masks, left_alone=left_alone)


def _settled(job: Prune, given: _Given, cut: CutNetwork) -> nn.Module:
    """The cut network, with batch norm statistics that suit it."""
    made = reestimated(cut.module, given.samples, job.batch_size) if job.reestimate else None
    return better_of(cut.module, made, given.selection) if made else cut.module


def _told(job: Prune, given: _Given, step: Step, cut: CutNetwork, settled: nn.Module) -> Step:
    """The step after a cut: its edits, and what the report is to say."""
    for layer, why in cut.left_alone.items():
        log.info("prune: %s is left alone: %s", layer, why)
    update = {
        "stage": job.stage,
        "edits": (*step.info.edits, *cut.edits),
        "history": (*given.info.history, _said(job)),
    }
    info = step.info.model_copy(update=update)
    raw = _measured(cut.module, info, given.selection)
    row = {**raw, "accuracy_cut": raw["accuracy"]}
    row["accuracy"] = row["accuracy_reestimated"] = accuracy(settled, given.selection)
    log.info(
        "prune: step %d/%d: %d parameters, %d MACs, sparsity %.1f %%, selection accuracy %.2f %%",
        step.number,
        job.steps,
        row["parameters"],
        row["macs"],
        100 * row["sparsity"],
        100 * row["accuracy"],
    )
    return Step(
        number=step.number,
        info=info,
        rows={**step.rows, str(step.number): row},
        widths=together(step.widths, cut.widths),
        left_alone=cut.left_alone,
        notes={**step.notes, **cut.notes},
        probes=(*step.probes, *cut.probes),
    )


def _said(job: Prune) -> str:
    """The sentence that the model's history gets."""
    rank = f"{job.importance}, {job.scope}"
    amount = f"by {job.ratio:g}" + ("" if job.target == "ratio" else f" of its {job.target}")
    if job.target == "latency":
        amount = f"to {job.max_latency_ms:g} ms" if job.max_latency_ms else f"x{job.speedup:g}"
    said = {
        "structured": f"channels cut {amount} ({rank}, x{job.round_to})",
        "blocks": f"blocks removed {amount} by measured loss",
        "magnitude": f"{job.ratio:g} of the weights set to zero ({rank})",
        "n_m": f"{job.n} of every {job.m} weights kept ({job.importance})",
    }[job.method]
    if job.threshold:
        said = f"weights below {job.threshold:g} set to zero"
    return said + (f", in {job.steps} steps, {job.schedule}" if job.steps > 1 else "")


def _heal(
    job: Prune, given: _Given, step: Step, module: nn.Module, masks: dict[str, Tensor]
) -> Fitted | None:
    """Fit the cut network to the uncut one's answers; fills its weights."""
    if not job.epochs:
        return None
    data = (given.train, given.selection)
    healed = heal(module, step.info, job.model.path, data, job, epochs=job.epochs, masks=masks)
    module.eval()
    return healed


def _closed(step: Step, healed: Fitted | None) -> Step:
    """The step after its healing."""
    if healed is None:
        return step
    row = {**step.rows[str(step.number)], "accuracy": healed.best.accuracy}
    row |= {"epochs": len(healed.history), "learning_rate": healed.learning_rate}
    return step.model_copy(update={"rows": {**step.rows, str(step.number): row}})


def _measured(module: nn.Module, info: ModelInfo, selection: Batchable) -> Numbers:
    stored, coded = stored_bytes(module)
    return {
        "parameters": parameter_count(module),
        "macs": mac_count(module, info),
        "sparsity": sparsity(module),
        "bytes": stored,
        "bytes_coded_sparse": coded,
        "accuracy": accuracy(module, selection),
    }


def _numbers(step: Step, before: Numbers, after: Numbers, healed: Fitted | None) -> Numbers:
    last = list(step.rows.values())[-1]
    return {
        **{f"{k}_before": v for k, v in before.items()},
        **after,
        "accuracy_cut": last["accuracy_cut"],
        "accuracy_reestimated": last["accuracy_reestimated"],
        "epochs": len(healed.history) if healed else 0,
        "resumed_from_epoch": healed.resumed_from if healed else 0,
        "widths": step.widths,
        "left_alone": step.left_alone,
        "notes": step.notes,
        "per_step": step.rows,
        "probes": {str(i): probe for i, probe in enumerate(step.probes, 1)},
    }


def _check_effect(job: Prune, before: Numbers, after: Numbers, step: Step) -> None:
    """Refuse a pruning that only says that it pruned."""
    reasons = "; ".join(f"{k}: {v}" for k, v in list(step.left_alone.items())[:5])
    if job.method in {"structured", "blocks"} and after["parameters"] >= before["parameters"]:
        msg = (
            f"nothing could be cut at ratio {job.ratio:g}, round_to {job.round_to}: {reasons}; "
            "use another ratio, a smaller round_to, or method magnitude"
        )
        raise BadParameters(msg)
    least = job.ratio if job.method == "magnitude" and not job.threshold else 0
    if job.method in {"magnitude", "n_m"} and (
        after["sparsity"] < least - _TOLERANCE or after["sparsity"] <= before["sparsity"]
    ):
        msg = (
            f"{_said(job)}: a sparsity of {after['sparsity']:.4f} was reached, it was "
            f"{before['sparsity']:.4f}: the layers are too small for this ratio, or nothing lies "
            f"below the threshold; use scope global, or a larger ratio or threshold. {reasons}"
        )
        raise BadParameters(msg)
