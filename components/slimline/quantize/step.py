"""Scheme `step`: weights on evenly spaced grids, as coarse as the bytes on the way should be few.

A weight then costs its entropy when the model is coded for transport (`slimline.coding`), and one
byte in the file. Rounding is compensated, so steps may be coarse. With one step for all layers, the
rate of all is cut alike; layers whose rounding costs less loss then take a coarser step, those
where it costs more a finer one: at high rate the best division has loss in proportion to weights
(reverse water-filling; Cover and Thomas 2006, "Elements of Information Theory", section 10.3.3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slimline.coding import encode_model
from slimline.contract import BadData, progress
from slimline.quantize.budget import within_budget
from slimline.quantize.coded import Coded, moments_of, with_values
from slimline.quantize.correction import corrected, undone
from slimline.quantize.layers import weights_of
from slimline.quantize.listed import store
from slimline.quantize.rounding import Uniform, codes_of, compensate, descend
from slimline.quantize.work import Made, Table, Work, examples_to_round

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray


_LARGEST_CODE = 127
_SWEEPS = 2
_COARSEST = 4.0
"""How far a layer's step may be from the common one, both ways."""


def step_weights(work: Work) -> Made:
    """Choose each layer's step, round, correct what that moved, and store codes of 8 bits."""
    if not work.layers:
        msg = (
            "step changed nothing: there is no Conv, Gemm or MatMul with a constant weight to "
            "store; check exclude, or leave the pass out"
        )
        raise BadData(msg)
    weights = weights_of(work.prepared, work.layers)
    common = work.job.step * _spread(weights.values())
    steps = dict.fromkeys((layer.name for layer in work.layers), common)
    coded = code_steps(work, steps)
    if work.judge is not None and len(steps) > 1:
        steps = _divided(work, coded, common)
        coded = code_steps(work, steps)
    based, coded, fixed = corrected(work, coded, store)
    made = within_budget(
        work,
        lambda back: store(
            undone(based, work.prepared, coded, back),
            {n: c for n, c in coded.items() if n not in back},
        ),
    )
    way = len(encode_model(made.model.SerializeToString(deterministic=True)))
    rows = tuple((n, s, int(abs(coded[n].codes).max())) for n, s in steps.items())
    table = Table("Step of each layer", ("layer", "step", "largest code"), rows)
    return Made(
        made.model,
        f"weights on grids of step {work.job.step:g}" + fixed.words + made.words,
        (table, *fixed.tables, *made.tables),
        {"bytes_on_the_way": way, **fixed.numbers, **made.numbers},
        (f"Coded for transport the model takes {way} bytes.", *fixed.reasons, *made.reasons),
    )


def code_steps(work: Work, steps: Mapping[str, float]) -> dict[str, Coded]:
    """Round each layer to multiples of its step; compensated where there are examples."""
    weights, made = weights_of(work.prepared, work.layers), {}
    stream = examples_to_round(work, 1)
    for layer, moments in moments_of(work.prepared, work.layers, stream):
        matrix = layer.matrix(weights[layer.weight])
        grid = _grid(matrix, steps[layer.name])
        codes = codes_of(grid, matrix)
        if moments is not None:
            codes = compensate(grid, matrix, moments)
            for _ in range(_SWEEPS):
                codes = descend(grid, codes, matrix, moments)
        made[layer.name] = Coded(layer, grid, codes, 8)
    return {layer.name: made[layer.name] for layer in work.layers}


def _grid(matrix: NDArray[np.float32], step: float) -> Uniform:
    """Multiples of one step; a step so fine that codes would not fit in a byte is widened."""
    import numpy as np

    widest = max(step, float(np.abs(matrix).max()) / _LARGEST_CODE)
    scale = np.full(matrix.shape, widest, np.float32)
    zero = np.zeros(matrix.shape, np.int64)
    return Uniform(scale, zero, -_LARGEST_CODE - 1, _LARGEST_CODE)


def _divided(work: Work, coded: Mapping[str, Coded], common: float) -> dict[str, float]:
    """Steps at which each layer's loss is in proportion to the number of its weights."""
    shares = {}
    for layer in progress(work.layers, len(work.layers), "quantize: sensitivity"):
        shares[layer.name] = _loss_alone(work, coded[layer.name]) / math.prod(layer.shape)
    mean = math.exp(sum(map(math.log, shares.values())) / len(shares))
    factors = {n: (mean / s) ** 0.25 for n, s in shares.items()}
    return {n: common * min(max(f, 1 / _COARSEST), _COARSEST) for n, f in factors.items()}


def _loss_alone(work: Work, coded: Coded) -> float:
    assert work.judge is not None  # noqa: S101 - the caller has examples
    alone = with_values(work.prepared, {coded.layer.name: coded})
    return max(work.judge.loss(alone).value, 1e-9)


def _spread(weights: Iterable[NDArray[np.float32]]) -> float:
    """Root mean square of all weights."""
    arrays = list(weights)
    return math.sqrt(sum(float((w**2).sum()) for w in arrays) / sum(w.size for w in arrays))
