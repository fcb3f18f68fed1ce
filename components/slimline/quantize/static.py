"""int8 with calibrated activations: ranges, learned scales, layers that stay float."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.quantize.budget import within_budget
from slimline.quantize.coded import Coded, code_uniform, with_values
from slimline.quantize.correction import corrected, undone
from slimline.quantize.integer import Overrides, quantize_static, weight_override
from slimline.quantize.learned import learned_overrides
from slimline.quantize.packing import pack_int4, with_narrow_types
from slimline.quantize.ranges import METHODS, choose_ranges
from slimline.quantize.work import Made, Table, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from slimline.quantize.integer import Form
    from slimline.quantize.ranges import Method, Ranges

_NARROW = 4


def int8_static(work: Work) -> Made:
    """The scheme as asked: form, method and exclusions given, scales learned if there are any."""
    form = work.form
    if work.learned is not None and not form.per_channel:
        msg = "per_channel: the model carries learned scales, a scale each channel; set it true"
        raise BadParameters(msg)
    narrow = _learned_narrow(work)
    if narrow:
        work = replace(work, prepared=with_narrow_types(work.prepared))
    method, tried = choose_method(work, form)
    ranges = choose_ranges(work.histograms, method, work.job.percentile)
    given, told = learned_overrides(work)

    def build(
        graph: onnx.ModelProto, coded: Mapping[str, Coded], exclude: Sequence[str]
    ) -> onnx.ModelProto:
        return build_static(graph, form, ranges, coded, exclude=exclude, given=given)

    coded = _rounded(work, given)
    based, coded, fixed = corrected(work, coded, lambda g, c: build(g, c, work.job.exclude))
    made = within_budget(
        work,
        lambda back: build(
            undone(based, work.prepared, coded, back), coded, (*work.job.exclude, *back)
        ),
    )
    model = pack_int4(made.model, narrow)[0] if narrow else made.model
    return Made(
        model=model,
        words=_words(work, form, method) + fixed.words + made.words + told.words,
        tables=(*tried, *fixed.tables, *made.tables, *told.tables),
        numbers={"calibration_method": method, **fixed.numbers, **made.numbers, **told.numbers},
        reasons=(*fixed.reasons, *made.reasons, *told.reasons),
    )


def choose_method(work: Work, form: Form, *, measured: bool = False) -> tuple[Method, list[Table]]:
    """The calibration method: the given one, or that of least loss on the judges' examples."""
    given = work.job.calibration_method
    if work.judge is None or (given != "measured" and not measured):
        return ("minmax" if given == "measured" else given), []
    rows: list[tuple[Method, float, float, float]] = []
    for method in METHODS:
        ranges = choose_ranges(work.histograms, method, work.job.percentile)
        model = quantize_static(work.prepared, form, ranges, exclude=work.job.exclude)
        loss = work.judge.loss(model)
        rows.append((method, loss.value, loss.agreement, loss.drop))
    best = min(rows, key=lambda row: row[1])[0]
    header = ("method", "loss", "same class", "accuracy lost")
    return best, [Table(f"Ranges: {best} loses least", header, tuple(rows))]


def build_static(
    graph: onnx.ModelProto,
    form: Form,
    ranges: Ranges,
    coded: Mapping[str, Coded],
    *,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    given: Overrides | None = None,
) -> onnx.ModelProto:
    """An int8 model whose coded layers keep their codes; those of 4 bits are stored in 4.

    Args:
        graph: the float graph.
        form: types and format.
        ranges: of its activations.
        coded: layers whose codes are chosen already, with one scale a channel.
        exclude: nodes that stay float, with the weights that `graph` has.
        only: when given, all other nodes stay float.
        given: further scales.
    """
    taken = {n: c for n, c in coded.items() if n not in exclude and (not only or n in only)}
    scales = {c.layer.weight: weight_override(c.layer, c.scale()) for c in taken.values()}
    model = quantize_static(
        with_values(graph, taken),
        form,
        ranges,
        exclude=exclude,
        only=only,
        overrides={**(given or {}), **scales},
    )
    narrow = [c.layer.weight for c in taken.values() if c.bits <= _NARROW]
    return pack_int4(model, narrow)[0] if narrow else model


def _rounded(work: Work, given: Overrides) -> dict[str, Coded]:
    """Codes of 8 bits, when rounding or correction ask for them; else the quantizer rounds."""
    asked = work.job.rounding == "compensated" or work.job.correction in {"bias", "variance"}
    if not asked:
        return {}
    free = [layer for layer in work.layers if layer.weight not in given]
    stream = work.drawn.fit if work.job.rounding == "compensated" else None
    return code_uniform(work.prepared, free, stream, 8)


def _learned_narrow(work: Work) -> list[str]:
    """Learned weights of at most 4 bits, which are stored in 4."""
    tensors = work.learned.tensors if work.learned else {}
    return [name for name, t in tensors.items() if t.symmetric and t.bits <= _NARROW]


def _words(work: Work, form: Form, method: str) -> str:
    weights = "per channel" if form.per_channel else "per tensor"
    return (
        f"quantized to {work.job.scheme}, weights {weights}, activations {form.activation_type}, "
        f"{form.format}, {method} over {len(work.drawn.fit)} train examples"
    )
