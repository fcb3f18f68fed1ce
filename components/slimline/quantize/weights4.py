"""Weights of 4 bits.

MatMul and Gemm become MatMulNBits, which computes with the 4-bit blocks themselves (accuracy level
4: int8 activations made on the fly); a Gemm becomes a product and an addition, since the operator
takes no bias there. Convolutions have no such operator: their codes are restored to float when the
model is loaded, or, with `activations: int8`, to int8 levels, which run as fast as int8 does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.quantize.budget import within_budget
from slimline.quantize.coded import code_uniform
from slimline.quantize.correction import bias_name, corrected, undone
from slimline.quantize.integer import without_notes
from slimline.quantize.packing import replace_nodes, with_narrow_types
from slimline.quantize.ranges import choose_ranges
from slimline.quantize.restoring import with_restored
from slimline.quantize.rounding import Uniform
from slimline.quantize.static import build_static, choose_method
from slimline.quantize.work import Made, Work, examples_to_round

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.coded import Coded
    from slimline.quantize.layers import Layer

_BITS = 4
_MICROSOFT = "com.microsoft"
_ACCURACY_LEVEL = 4
"""int8 products; level 0, the operator's default, widens to float in every call and is slow."""
_SMALLEST_BLOCK = 16


def int4_weights(work: Work) -> Made:
    """The scheme `int4-weights`."""
    narrow = replace(work, prepared=with_narrow_types(work.prepared))
    if not narrow.layers:
        msg = (
            "int4-weights changed nothing: there is no Conv, Gemm or MatMul with a constant weight "
            "to store; check exclude, or leave the pass out"
        )
        raise BadData(msg)
    return _integer(narrow) if work.job.activations == "int8" else _float(narrow)


def _integer(work: Work) -> Made:
    """4-bit weights, int8 arithmetic."""
    method, tried = choose_method(work, work.form)
    ranges = choose_ranges(work.histograms, method, work.job.percentile)
    coded = code_uniform(work.prepared, work.layers, examples_to_round(work, _BITS), _BITS)

    def build(graph: onnx.ModelProto, codes: Mapping[str, Coded]) -> onnx.ModelProto:
        return build_static(graph, work.form, ranges, codes, exclude=work.job.exclude)

    based, coded, fixed = corrected(work, coded, build)
    made = within_budget(
        work,
        lambda back: build_static(
            undone(based, work.prepared, coded, back),
            work.form,
            ranges,
            coded,
            exclude=(*work.job.exclude, *back),
        ),
    )
    words = f"quantized to int4 weights, activations {work.form.activation_type}, {method}"
    return Made(
        made.model,
        words + fixed.words + made.words,
        (*tried, *fixed.tables, *made.tables),
        {**fixed.numbers, **made.numbers},
        (*fixed.reasons, *made.reasons),
    )


def _float(work: Work) -> Made:
    """4-bit weights, float activations."""
    blocks = {layer.name: block_of(layer, work.job.block_size) for layer in work.layers}
    coded = code_uniform(
        work.prepared,
        work.layers,
        examples_to_round(work, _BITS),
        _BITS,
        blocks={name: size for name, size in blocks.items() if size},
        symmetric=work.job.symmetric,
    )
    based, coded, fixed = corrected(work, coded, store)
    made = within_budget(
        work,
        lambda back: store(
            undone(based, work.prepared, coded, back),
            {n: c for n, c in coded.items() if n not in back},
        ),
    )
    kept = sum(layer.kind == "Conv" for layer in work.layers)
    reasons = [*fixed.reasons, *made.reasons]
    if kept:
        reasons.append(
            f"{kept} convolutions are stored in 4 bits and compute in float: smaller, not faster; "
            "activations int8 makes them integer ones."
        )
    words = f"quantized to int4 weights in blocks of {work.job.block_size}"
    return Made(
        made.model,
        words + fixed.words + made.words,
        (*fixed.tables, *made.tables),
        {**fixed.numbers, **made.numbers},
        tuple(reasons),
    )


def block_of(layer: Layer, wanted: int) -> int:
    """Inputs that share a scale; 0 for all of a channel, when they do not come out even."""
    inputs = math.prod(layer.shape) // layer.shape[layer.axis]
    if layer.kind == "Conv":
        return wanted if inputs % wanted == 0 else 0
    # A product pads its last block, so a block longer than the row would only cost.
    fitting = _SMALLEST_BLOCK
    while fitting < min(wanted, inputs):
        fitting *= 2
    return fitting


def store(model: onnx.ModelProto, coded: Mapping[str, Coded]) -> onnx.ModelProto:
    """The graph with products as MatMulNBits, and convolutions restored at load."""
    convolutions = {n: c for n, c in coded.items() if c.layer.kind == "Conv"}
    products = {n: c for n, c in coded.items() if c.layer.kind != "Conv"}
    made = with_restored(model, convolutions)
    constants = {i.name: i for i in made.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        if node.name not in products:
            nodes.append(node)
            continue
        one = products[node.name]
        constants.pop(one.layer.weight)
        added, steps = _product(node, one)
        constants |= {c.name: c for c in added}
        nodes += steps
    replace_nodes(made, list(constants.values()), nodes)
    if products:
        made.opset_import.add(domain=_MICROSOFT, version=1)
    return without_notes(made)


def _product(
    node: onnx.NodeProto, one: Coded
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    from onnx import helper, numpy_helper

    grid, name = one.grid, one.layer.weight
    assert isinstance(grid, Uniform)  # noqa: S101 - this scheme's grid
    block = one.block or one.codes.shape[1]
    rows, columns = one.codes.shape
    constants = [
        numpy_helper.from_array(_packed_blocks(one, block), f"{name}_codes"),
        numpy_helper.from_array(grid.scale[:, ::block].reshape(-1).copy(), f"{name}_step"),
    ]
    inputs = [node.input[0], f"{name}_codes", f"{name}_step"]
    zero = grid.zero[:, ::block] - grid.low
    if (zero != -grid.low).any():
        constants.append(numpy_helper.from_array(_packed_rows(zero), f"{name}_zero"))
        inputs.append(f"{name}_zero")
    bias = bias_name(one.layer) if len(node.input) > 2 and node.input[2] else ""  # noqa: PLR2004
    target = f"{name}_product" if bias else node.output[0]
    product = helper.make_node(
        "MatMulNBits", inputs, [target], name=f"{node.name}_int4", domain=_MICROSOFT,
        K=columns, N=rows, bits=_BITS, block_size=block, accuracy_level=_ACCURACY_LEVEL,
    )  # fmt: skip
    if not bias:
        return constants, [product]
    return constants, [product, helper.make_node("Add", [target, node.input[2]], node.output)]


def _packed_blocks(one: Coded, block: int) -> NDArray[np.uint8]:
    """Codes as (rows, blocks, bytes); the last block is filled up with zero's code."""
    import numpy as np

    grid = one.grid
    assert isinstance(grid, Uniform)  # noqa: S101 - this scheme's grid
    rows, columns = one.codes.shape
    blocks = -(-columns // block)
    full = np.full((rows, blocks * block), -grid.low, np.int64)
    full[:, :columns] = one.codes - grid.low
    return _packed_rows(full).reshape(rows, blocks, block // 2)


def _packed_rows(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Two codes in a byte, the first one low; each row begins a byte."""
    import numpy as np

    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8)
