"""Scales that training learned, taken over as they are.

Training with fake quantization leaves `quantization.json` beside the model: the step of every
weight's and activation's levels. ONNX Runtime's quantizer takes them as overrides, so that the
integers are those that the network was trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.quantize.integer import Overrides, activation_override, weight_override
from slimline.quantize.work import Made, Table

if TYPE_CHECKING:
    from slimline.quantize.work import Work

_BYTE = 8


def learned_overrides(work: Work) -> tuple[Overrides, Made]:
    """Overrides for the tensors of the record that the graph still has, and what to tell of them.

    Raises:
        BadData: when the record names none of the graph's weights: it is another model's.
    """
    import numpy as np

    empty = Made(work.prepared, "")
    if work.learned is None:
        return {}, empty
    layers = {layer.weight: layer for layer in work.layers}
    active = set(work.histograms)
    taken: Overrides = {}
    rows = []
    for name, tensor in sorted(work.learned.tensors.items()):
        told = "taken"
        if name in layers and tensor.symmetric:
            if len(tensor.scale) != layers[name].shape[layers[name].axis]:
                scale = np.full(layers[name].shape[layers[name].axis], tensor.scale[0], np.float32)
            else:
                scale = np.array(tensor.scale, np.float32)
            taken[name] = weight_override(layers[name], scale)
        elif name in active and tensor.bits == _BYTE and len(tensor.scale) == 1:
            kind = "int8" if tensor.symmetric else "uint8"
            taken[name] = activation_override(tensor.scale[0], tensor.zero_point[0], kind)
        else:
            told = "left out: the prepared graph has no such weight or activation"
        rows.append((name, tensor.bits, len(tensor.scale), told))
    if not set(taken) & set(layers):
        msg = (
            "quantization.json names no weight of this graph: it is another model's record; export "
            "the model again, or delete the file"
        )
        raise BadData(msg)
    table = Table("Learned scales", ("tensor", "bits", "scales", ""), tuple(rows))
    words = f"; scales of {len(taken)} tensors learned in training"
    return taken, Made(work.prepared, words, (table,), {"learned_scales": len(taken)})
