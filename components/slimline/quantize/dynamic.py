"""int8 with activations scaled while the model runs."""

from __future__ import annotations

from slimline.quantize.budget import within_budget
from slimline.quantize.integer import quantize_dynamic
from slimline.quantize.work import Made, Work


def int8_dynamic(work: Work) -> Made:
    """MatMul and Gemm as integer products; convolutions stay float."""
    form = work.form
    made = within_budget(
        work,
        lambda extra: quantize_dynamic(work.prepared, form, (*work.job.exclude, *extra)),
    )
    weights = "per channel" if form.per_channel else "per tensor"
    words = f"quantized to {work.job.scheme}, weights {weights}" + made.words
    return Made(made.model, words, made.tables, made.numbers, made.reasons)
