"""Carry the levels that a model was trained in from its torch names to those of its ONNX graph.

Folding a batch norm multiplied each channel of a weight by a number. That number is read off the
two weights themselves, so it does not matter what was folded, or how: where each channel of the
ONNX weight is a multiple of torch's, its levels are that multiple of torch's levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np  # noqa: TID253 - imported by run.py alone
import onnx  # noqa: TID253 - the same
from onnx import numpy_helper  # noqa: TID253 - the same

from slimline.contract import BadData, get_logger
from slimline.models.quantization import (
    OnnxQuantization,
    Quantization,
    TensorQuantization,
    WeightQuantization,
    load_quantization,
    save_quantization,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from slimline.contract import Numbers

log = get_logger(__name__)
_SAME_VALUES = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
)
"""Rounding before them is rounding after them; the quantizer gives both sides one scale."""
_PROPORTION, _OFF_LEVEL = 1e-4, 0.02
_LEAST = 1e-12
_LARGEST = 127
"""Of the integers of 8 bits that lie around 0."""


class _Use(NamedTuple):
    """A node that multiplies with a constant weight, whose rows are the outputs' weights."""

    activation: str
    weight: str
    axis: int
    rows: NDArray[np.float32]


def carry_levels(module: torch.nn.Module, source: Path, target: Path) -> Numbers:
    """Write `quantization.json` beside `model.onnx`, if the torch model has one.

    Args:
        module: the torch model, loaded.
        source: its artifact.
        target: directory that holds the exported `model.onnx`.

    Returns:
        For the report: how many tensors have levels, and what could not be carried and why.

    Raises:
        BadData: when the record is not of these weights.
    """
    learned = load_quantization(Quantization, source)
    if learned is None:
        return {}
    graph = onnx.load(target / "model.onnx").graph
    found, lost = map_levels(learned, dict(module.state_dict()), graph)
    for name, why in lost.items():
        log.info("export: the levels of %s are not carried: %s", name, why)
    save_quantization(found, target)
    return {"quantized_tensors": len(found.tensors), "levels_lost": lost}


def map_levels(
    learned: Quantization, state: Mapping[str, torch.Tensor], graph: onnx.GraphProto
) -> tuple[OnnxQuantization, dict[str, str]]:
    """Map a record; gives it with the graph's names, and for what is not in it the reason."""
    uses, tensors, lost = _uses(graph), dict[str, TensorQuantization](), dict[str, str]()
    makers = {name: node for node in graph.node for name in node.output}
    used: dict[str, list[_Use]] = {}
    for name, levels in learned.weights.items():
        rows = _own_rows(name, levels, state)
        used[name] = [u for u in uses if u.weight == name] or [u for u in uses if _same(rows, u)]
        if not used[name]:
            lost[name] = "no operator of the graph has this weight"
        for use in used[name]:
            mapped = _weight(levels, rows, use)
            if isinstance(mapped, str):
                lost[name] = mapped
            else:
                tensors[use.weight] = mapped
    for layer, given in learned.activations.items():
        wanted = TensorQuantization(
            scale=(given.scale,), zero_point=(given.zero_point,), bits=given.bits, symmetric=False
        )
        for use in used.get(f"{layer}.weight" if layer else "weight", []):
            for name in _upstream(use.activation, makers):
                if tensors.setdefault(name, wanted) != wanted:
                    lost[f"{layer}.input"] = f"the tensor {name} has other levels already"
    return OnnxQuantization(tensors=tensors), lost


def _uses(graph: onnx.GraphProto) -> list[_Use]:
    constants = {i.name: i for i in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else weight.ndim - 1
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        found.append(_Use(node.input[0], node.input[1], axis, rows))
    return found


def _own_rows(
    name: str, levels: WeightQuantization, state: Mapping[str, torch.Tensor]
) -> NDArray[np.float32]:
    """Torch's weight, a row for each output.

    Raises:
        BadData: when there is no such weight, or it does not lie on the levels.
    """
    weight = state.get(name)
    if weight is None or weight.ndim == 0 or len(weight) != len(levels.scale):
        msg = f"quantization.json: {name} with {len(levels.scale)} channels is not in the network"
        raise BadData(f"{msg}: train the model again")
    rows: NDArray[np.float32] = weight.detach().cpu().numpy().reshape(len(weight), -1)
    on_levels, most = rows / np.array(levels.scale, np.float32)[:, None], 2.0 ** (levels.bits - 1)
    known = levels.codebook or {"binary": (-1.0, 1.0), "ternary": (-1.0, 0.0, 1.0)}.get(levels.kind)
    if known is None:
        nearest = np.clip(np.round(on_levels), 1 - most, most - 1)
    else:
        choices = np.sort(np.array(known, np.float32))
        nearest = choices[np.searchsorted((choices[1:] + choices[:-1]) / 2, on_levels)]
    if np.abs(on_levels - nearest).max() > _OFF_LEVEL:
        msg = f"quantization.json: {name} does not lie on its levels: it is another model's record"
        raise BadData(f"{msg}; train the model again, or delete the file")
    return rows


def _same(rows: NDArray[np.float32], use: _Use) -> bool:
    return rows.shape == use.rows.shape and _factors(rows, use) is not None


def _factors(rows: NDArray[np.float32], use: _Use) -> NDArray[np.float64] | None:
    """What each channel was multiplied by; None when it was changed in another way."""
    own, folded = rows.astype(np.float64), use.rows.astype(np.float64)
    factors = (own * folded).sum(1) / np.maximum((own * own).sum(1), _LEAST)
    off = np.abs(folded - factors[:, None] * own).max(1)
    return factors if (off <= _PROPORTION * np.abs(folded).max(1) + _LEAST).all() else None


def _weight(
    levels: WeightQuantization, rows: NDArray[np.float32], use: _Use
) -> TensorQuantization | str:
    """The levels of a weight as integers; else why that cannot be told."""
    factors = _factors(rows, use) if rows.shape == use.rows.shape else None
    if factors is None:
        return "the exporter changed the weight by more than a factor for each channel"
    step, bits = integer_form(levels)
    factors = np.where(np.abs(factors) < _LEAST, 1.0, np.abs(factors))
    scale = np.array(levels.scale) * step * factors
    return TensorQuantization(
        scale=tuple(scale.tolist()),
        zero_point=(0,) * len(scale),
        bits=bits,
        axis=use.axis,
        symmetric=True,
    )


def integer_form(levels: WeightQuantization) -> tuple[float, int]:
    """The integers that hold the levels of a channel of scale 1: their step, and their bits.

    Levels that are not evenly spaced, or too far apart for 8 bits, lie within half a step of one.
    """
    if levels.kind == "integer":
        return 1.0, levels.bits
    if levels.kind in {"binary", "ternary"}:
        return 1.0, 2
    if levels.kind == "power_of_two":
        step = min(level for level in levels.codebook if level > 0)
        if round(1 / step) <= _LARGEST:
            return step, round(1 / step).bit_length() + 1
    return max(map(abs, levels.codebook)) / _LARGEST, 8


def _upstream(name: str, makers: Mapping[str, onnx.NodeProto]) -> list[str]:
    """A tensor, and those before it that hold the same values in another order or more of them."""
    found = [name]
    while name in makers and makers[name].op_type in _SAME_VALUES:
        name = makers[name].input[0]
        found.append(name)
    return found
