"""Where a model's bytes are and what works on them: layer by layer, read from its ONNX file.

A layer is an operator with weights. Its name is that of its weights as PyTorch had them, so that it
is found again after quantization; what computes its weights from stored ones (DequantizeLinear,
Gather of a codebook) belongs to it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SUFFIX = re.compile(
    r"([._](weight|bias|quantized|scale|zero_point|zp|zps|scales|merged|Q[248]|Q[248]G|bits|block"
    r"|DequantizeLinear|transposed|fp16|bf16|float16|\d+))+$"
)
_REST = "(activations and constants)"


@dataclass(frozen=True)
class LayerFacts:
    """One layer of one model."""

    operator: str
    """Its type, and how its largest tensor is stored: `Conv int8`."""
    bytes: int
    shape: tuple[int, ...]
    """Of its largest tensor."""


def read_layers(path: Path) -> dict[str, LayerFacts]:
    """The layers of an ONNX file, in their order; the last holds what belongs to none."""
    import onnx

    graph = onnx.load(path).graph
    stored = _stored_tensors(graph)
    sources = _constants(graph, stored)
    layers: dict[str, LayerFacts] = {}
    taken: set[str] = set()
    for node in graph.node:
        own = dict.fromkeys(tensor for name in node.input for tensor in sources.get(name, ()))
        mine = [name for name in own if name not in taken]
        largest = max(mine, key=lambda name: math.prod(stored[name][1]), default="")
        computes_weights = all(name in sources for name in node.output)
        if largest and len(stored[largest][1]) > 1 and not computes_weights:
            taken |= set(mine)
            name = _SUFFIX.sub("", largest) or largest
            layers[_free(name, layers)] = _facts(node.op_type, mine, largest, stored)
    rest = [name for name in stored if name not in taken]
    if rest:
        largest = max(rest, key=lambda name: stored[name][0])
        layers[_REST] = _facts("", rest, largest, stored)
    return layers


def count_operators(path: Path) -> dict[str, int]:
    """How often each operator occurs, the most frequent first."""
    import onnx

    counted = Counter(node.op_type for node in onnx.load(path).graph.node)
    return dict(counted.most_common())


def side_by_side(models: Sequence[Mapping[str, LayerFacts]]) -> list[tuple[str, list[Any]]]:
    """Each layer with its facts in every model, None where it has it no longer."""
    names = dict.fromkeys(name for model in models for name in model if name != _REST)
    if any(_REST in model for model in models):
        names[_REST] = None
    return [(name, [model.get(name) for model in models]) for name in names]


Stored = dict[str, tuple[int, tuple[int, ...], str]]
"""By tensor: bytes, shape, type."""


def _stored_tensors(graph: Any) -> Stored:
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensor = attribute.t
                    tensor.name = node.output[0]
                    tensors.append(tensor)
    return {tensor.name: _stored(tensor) for tensor in tensors}


def _constants(graph: Any, stored: Stored) -> dict[str, tuple[str, ...]]:
    """What does not depend on a model's input, and the stored tensors that it is computed from.

    Quantizers write nodes in any order, so the graph is gone through until nothing is added.
    """
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in stored}
    left, before = list(graph.node), -1
    while before != len(found):
        before, waiting = len(found), []
        for node in left:
            given = [name for name in node.input if name]
            if given and all(name in found for name in given):
                own = tuple(dict.fromkeys(tensor for name in given for tensor in found[name]))
                found |= dict.fromkeys(node.output, own)
            else:
                waiting.append(node)
        left = waiting
    return found


def _stored(tensor: Any) -> tuple[int, tuple[int, ...], str]:
    from onnx import TensorProto

    name = TensorProto.DataType.Name(tensor.data_type).lower()
    bits = re.search(r"\d+", name)
    width = int(bits[0]) if bits else {"float": 32, "double": 64, "bool": 8}.get(name, 8)
    return (math.prod(tensor.dims) * width + 7) // 8, tuple(tensor.dims), name


def _facts(kind: str, own: list[str], largest: str, stored: Stored) -> LayerFacts:
    size, shape = sum(stored[name][0] for name in own), stored[largest][1]
    return LayerFacts(f"{kind} {stored[largest][2]}".strip(), size, shape)


def _free(name: str, layers: Mapping[str, Any]) -> str:
    """A name that no layer before has: two operators may share a name's stem."""
    return name if name not in layers else f"{name} ({len(layers)})"
