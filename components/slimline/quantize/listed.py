"""The schemes `kmeans` and `power-of-two`: weights as indices of a list."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.quantize.budget import within_budget
from slimline.quantize.codebook import kmeans_book, power_book
from slimline.quantize.coded import Coded, moments_of
from slimline.quantize.correction import corrected, undone
from slimline.quantize.integer import without_notes
from slimline.quantize.layers import weights_of
from slimline.quantize.packing import with_narrow_types
from slimline.quantize.restoring import with_restored
from slimline.quantize.rounding import codes_of, compensate, descend
from slimline.quantize.work import Made, Work, examples_to_round

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

_SWEEPS = 2
_ALWAYS = 4


def listed_weights(work: Work) -> Made:
    """Code every layer, correct what that moved, and store indices and lists."""
    narrow = replace(work, prepared=with_narrow_types(work.prepared))
    if not narrow.layers:
        msg = (
            f"{work.job.scheme} changed nothing: there is no Conv, Gemm or MatMul with a constant "
            "weight to store; check exclude, or leave the pass out"
        )
        raise BadData(msg)
    coded = code_listed(narrow)
    based, coded, fixed = corrected(narrow, coded, store)
    made = within_budget(
        narrow,
        lambda back: store(
            undone(based, narrow.prepared, coded, back),
            {n: c for n, c in coded.items() if n not in back},
        ),
    )
    bits, per = work.job.codebook_bits, work.job.codebook_per
    words = f"weights by {work.job.scheme}, {bits} bits, a list for each {per}"
    how = (
        "Indices are looked up when the model is loaded: the file is smaller, the arithmetic "
        "float, as fast as before."
    )
    return Made(
        made.model,
        words + fixed.words + made.words,
        (*fixed.tables, *made.tables),
        {**fixed.numbers, **made.numbers},
        (how, *fixed.reasons, *made.reasons),
    )


def code_listed(work: Work) -> dict[str, Coded]:
    """Fit a list for each layer, weights that matter more for its output counting more."""
    job = work.job
    fit = kmeans_book if job.scheme == "kmeans" else power_book
    weights, made = weights_of(work.prepared, work.layers), {}
    # Powers of two lie far apart near the largest weight whatever the bits: nearest is not enough.
    stream = examples_to_round(work, min(job.codebook_bits, _ALWAYS))
    for layer, moments in moments_of(work.prepared, work.layers, stream):
        matrix = layer.matrix(weights[layer.weight])
        grid = fit(
            matrix,
            job.codebook_bits,
            per_channel=job.codebook_per == "channel",
            importance=_importance(matrix, moments),
        )
        codes = codes_of(grid, matrix)
        if moments is not None:
            codes = compensate(grid, matrix, moments)
            for _ in range(_SWEEPS):
                codes = descend(grid, codes, matrix, moments)
        made[layer.name] = Coded(layer, grid, codes, job.codebook_bits)
    return {layer.name: made[layer.name] for layer in work.layers}


def store(model: onnx.ModelProto, coded: Mapping[str, Coded]) -> onnx.ModelProto:
    """The graph with indices and lists in the place of weights."""
    return without_notes(with_restored(model, coded))


def _importance(
    matrix: NDArray[np.float32], moments: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """How much the square of each weight's error counts: the mean square of its input."""
    import numpy as np

    if moments is None:
        return np.ones(matrix.shape)
    squares = np.diagonal(moments, axis1=1, axis2=2) + 1e-9
    return np.repeat(squares, len(matrix) // len(moments), 0).astype(np.float64)
