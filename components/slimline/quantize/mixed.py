"""Scheme `mixed`: each layer gets 4, 8 or 32 bits, as few as the accuracy budget lets it.

All layers begin with 4-bit weights and 8-bit activations. While too much accuracy is lost, the
layer that costs most loss for the bytes it saves gets 8 bits, as HAWQ ranks layers by sensitivity
(Dong et al. 2019, arXiv:1905.03696), here measured. When all have 8 and it is still too much,
layers go back to float in the order of their sensitivity to int8.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, progress
from slimline.quantize.budget import sensitivity_table, within_budget
from slimline.quantize.coded import Coded, code_uniform, with_values
from slimline.quantize.correction import corrected, undone
from slimline.quantize.packing import with_narrow_types
from slimline.quantize.ranges import choose_ranges
from slimline.quantize.static import build_static, choose_method
from slimline.quantize.work import Made, Table, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from slimline.quantize.layers import Layer
    from slimline.quantize.loss import Loss
    from slimline.quantize.ranges import Ranges

_LOW = 4


def mixed(work: Work) -> Made:
    """Choose bits layer by layer."""
    limit, job = work.job.max_drop, work.job
    if limit is None:
        msg = "max_drop: mixed chooses bits under a budget; give the accuracy that may be lost"
        raise BadParameters(msg)
    assert work.judge is not None  # noqa: S101 - a budget needs examples, which was checked
    narrow = replace(work, prepared=with_narrow_types(work.prepared))
    method, tried = choose_method(narrow, work.form)
    ranges = choose_ranges(narrow.histograms, method, job.percentile)
    stream = None if job.rounding == "nearest" else work.drawn.fit
    low = code_uniform(narrow.prepared, narrow.layers, stream, 4)
    high = code_uniform(narrow.prepared, narrow.layers, None, 8)
    based, low, fixed = corrected(narrow, low, lambda g, c: _build(narrow, g, ranges, c))
    ranked = _ranked(narrow, based, low)
    bits, steps = _raised(narrow, based, ranges, low, high, ranked)
    chosen = {n: (low if bits[n] == _LOW else high)[n] for n in bits}
    raised = undone(based, narrow.prepared, low, [n for n in bits if bits[n] != _LOW])
    made = within_budget(
        narrow,
        lambda back: build_static(
            undone(raised, narrow.prepared, low, back),
            work.form,
            ranges,
            chosen,
            exclude=(*job.exclude, *back),
        ),
    )
    for name in made.numbers["put_back"]:
        bits[name] = 32
    counts = {b: sum(v == b for v in bits.values()) for b in (4, 8, 32)}
    words = f"mixed precision: {counts[4]} layers of 4 bits, {counts[8]} of 8, {counts[32]} float"
    table = Table("Bits of each layer", ("layer", "bits"), tuple(bits.items()))
    return Made(
        made.model,
        words + fixed.words,
        (table, sensitivity_table(ranked, 4), steps, *tried, *fixed.tables, *made.tables),
        {"bits": bits, **fixed.numbers, **made.numbers},
        (*fixed.reasons, *made.reasons),
    )


def _build(
    work: Work, graph: onnx.ModelProto, ranges: Ranges, coded: Mapping[str, Coded]
) -> onnx.ModelProto:
    return build_static(graph, work.form, ranges, coded, exclude=work.job.exclude)


def _ranked(
    work: Work, based: onnx.ModelProto, low: Mapping[str, Coded]
) -> list[tuple[Layer, Loss]]:
    """Layers by loss for each byte saved, when one alone has 4 bits; the dearest first."""
    assert work.judge is not None  # noqa: S101 - the caller has examples
    found = []
    for layer in progress(work.layers, len(work.layers), "quantize: sensitivity"):
        alone = with_values(based, {layer.name: low[layer.name]})
        found.append((layer, work.judge.loss(alone)))
    return sorted(found, key=lambda pair: -pair[1].value / math.prod(pair[0].shape))


def _raised(  # noqa: PLR0917 - one caller
    work: Work,
    based: onnx.ModelProto,
    ranges: Ranges,
    low: Mapping[str, Coded],
    high: Mapping[str, Coded],
    ranked: list[tuple[Layer, Loss]],
) -> tuple[dict[str, int], Table]:
    """Give 8 bits to one layer after the other until the budget holds or none is left."""
    assert work.judge is not None  # noqa: S101 - the caller has examples
    assert work.job.max_drop is not None  # noqa: S101 - the caller has a budget
    chosen, rows = dict(low), []
    bits = dict.fromkeys(low, _LOW)
    for layer in [None, *(layer for layer, _ in ranked)]:
        if layer is not None:
            chosen[layer.name], bits[layer.name] = high[layer.name], 8
        graph = undone(based, work.prepared, low, [n for n in bits if bits[n] != _LOW])
        loss = work.judge.loss(_build(work, graph, ranges, chosen))
        rows.append((layer.name if layer else "none", loss.value, loss.drop, loss.upper_bound))
        if loss.drop <= work.job.max_drop:
            break
    header = ("raised to 8 bits", "loss", "accuracy lost", "95 % bound")
    return bits, Table("From 4 bits to 8 until the budget held", header, tuple(rows))
