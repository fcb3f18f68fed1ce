"""Which layers bear fewer bits: each alone measured, and as few as needed put back.

Sensitivity is the loss of the network with one layer quantized and all others float, as in HAWQ's
and others' layer-wise analyses (Dong et al. 2019, arXiv:1905.03696), but measured, not estimated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData, progress
from slimline.quantize.integer import quantize_static
from slimline.quantize.ranges import choose_ranges
from slimline.quantize.work import Made, Table, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from slimline.quantize.integer import Form
    from slimline.quantize.layers import Layer
    from slimline.quantize.loss import Loss
    from slimline.quantize.ranges import Method


def within_budget(work: Work, build: Callable[[Sequence[str]], onnx.ModelProto]) -> Made:
    """Build with as few layers put back to float as `max_drop` needs; with none when it is unset.

    Args:
        work: the job.
        build: makes the model with these layers put back as well.

    Raises:
        BadData: when the budget does not hold although no layer is left to put back.
    """
    limit = work.job.max_drop
    model = build(())
    if limit is None or work.judge is None:
        return Made(model, "")
    loss, back = work.judge.loss(model), []
    ranked: list[tuple[Layer, Loss]] = []
    steps = [("none", loss.value, loss.drop, loss.upper_bound)]
    if loss.drop > limit:
        ranked = sensitivity(work, work.form)
    for layer, _ in ranked[:-1]:
        back.append(layer.name)
        model = build(tuple(back))
        loss = work.judge.loss(model)
        steps.append((layer.name, loss.value, loss.drop, loss.upper_bound))
        if loss.drop <= limit:
            break
    if loss.drop > limit:
        msg = (
            f"max_drop: {loss.drop:.4f} of accuracy is lost on {len(work.judge)} examples with all "
            f"but one layer in float, {limit} is allowed: allow more or leave the pass out"
        )
        raise BadData(msg)
    return _told(work, model, loss, back, ranked, steps)


def sensitivity(work: Work, form: Form, method: Method | None = None) -> list[tuple[Layer, Loss]]:
    """Each layer with the loss when it alone is int8, weights and activations; the worst first."""
    assert work.judge is not None  # noqa: S101 - the caller has examples
    given = work.job.calibration_method
    chosen: Method = method or ("mse" if given == "measured" else given)
    ranges = choose_ranges(work.histograms, chosen, work.job.percentile)
    found = []
    for layer in progress(work.layers, len(work.layers), "quantize: sensitivity"):
        model = quantize_static(work.prepared, form, ranges, only=(layer.name,))
        found.append((layer, work.judge.loss(model)))
    return sorted(found, key=lambda pair: -pair[1].value)


def sensitivity_table(ranked: Sequence[tuple[Layer, Loss]], bits: int = 8) -> Table:
    """For the report, the most sensitive layer first."""
    rows = tuple((layer.name, layer.kind, loss.value, loss.drop) for layer, loss in ranked)
    title = f"Sensitivity: one layer alone in {bits} bits"
    return Table(title, ("layer", "kind", "loss", "accuracy lost"), rows)


def _told(  # noqa: PLR0917 - one caller
    work: Work,
    model: onnx.ModelProto,
    loss: Loss,
    back: list[str],
    ranked: list[tuple[Layer, Loss]],
    steps: list[tuple[str, float, float, float]],
) -> Made:
    assert work.judge is not None  # noqa: S101 - the caller has examples
    header = ("put back to float", "loss", "accuracy lost", "95 % bound")
    tables = [Table("Layers put back until the budget held", header, tuple(steps))]
    if ranked:
        tables.append(sensitivity_table(ranked))
    reason = (
        f"{len(back)} layers stay float so that at most {work.job.max_drop} of accuracy is lost on "
        f"{len(work.judge)} examples that judged; it is {loss.drop:.4f}."
    )
    words = f"; {len(back)} layers float under a budget" if back else ""
    sensitive = {layer.name: round(loss.value, 6) for layer, loss in ranked}
    numbers = {"put_back": back, "drop_on_train": loss.drop, "sensitivity": sensitive}
    return Made(model, words, tuple(tables), numbers, (reason,))
