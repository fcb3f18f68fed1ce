"""The nodes that make a coded weight float again when ONNX Runtime loads the model.

It folds them, since all of their inputs are constants: Cast, Mul, Gather and the like, but not
DequantizeLinear (see `packing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.quantize.packing import nibbles, replace_nodes
from slimline.quantize.rounding import Uniform

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.codebook import Codebook
    from slimline.quantize.coded import Coded

_NIBBLE, _PAIR = 4, 2


def with_restored(model: onnx.ModelProto, coded: Mapping[str, Coded]) -> onnx.ModelProto:
    """Put codes in the place of weights, in a graph that knows 4-bit types."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    gone = {c.layer.weight for c in coded.values()}
    constants = [i for i in made.graph.initializer if i.name not in gone]
    nodes: list[onnx.NodeProto] = []
    for one in coded.values():
        added, steps = _uniform(one) if isinstance(one.grid, Uniform) else _listed(one, one.grid)
        constants += added
        nodes += steps
    replace_nodes(made, constants, [*nodes, *made.graph.node])
    return made


def narrow_tensor(name: str, codes: NDArray[np.int64], bits: int) -> onnx.TensorProto:
    """Codes from 0 on: two in a byte, or one."""
    import numpy as np
    from onnx import numpy_helper

    if bits <= _NIBBLE:
        return nibbles(name, codes, signed=False)
    return numpy_helper.from_array(codes.astype(np.uint8), name)


def _uniform(one: Coded) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Cast, minus zero, times scale; one scale a channel, or one for each block of a row."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    grid, name, layer = one.grid, one.layer.weight, one.layer
    assert isinstance(grid, Uniform)  # noqa: S101 - the caller looked
    rows, columns = one.codes.shape
    block = one.block or columns
    parts = (rows, columns // block, block)
    codes = one.codes.reshape(parts) - grid.low
    # The codes count from 0 on, so that the zero point takes up where they begin.
    zero = (grid.zero[:, ::block] - grid.low).astype(np.float32)[:, :, None]
    constants = [
        narrow_tensor(f"{name}_codes", codes, one.bits),
        numpy_helper.from_array(zero, f"{name}_zero"),
        numpy_helper.from_array(np.ascontiguousarray(grid.scale[:, ::block, None]), f"{name}_step"),
    ]
    if (zero == zero.flat[0]).all():
        constants[1] = numpy_helper.from_array(zero.reshape(-1)[0], f"{name}_zero")
    nodes = [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_wide"], to=TensorProto.FLOAT),
        helper.make_node("Sub", [f"{name}_wide", f"{name}_zero"], [f"{name}_moved"]),
        helper.make_node("Mul", [f"{name}_moved", f"{name}_step"], [f"{name}_blocks"]),
    ]
    shape, last = _shaped(f"{name}_blocks", name, layer.shape, transposed=layer.transposed)
    return [*constants, *shape], [*nodes, *last]


def _listed(one: Coded, grid: Codebook) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Look indices up; those of 2 bits go by pairs, four bits for both."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    name, layer, book, codes, bits = one.layer.weight, one.layer, grid.book, one.codes, one.bits
    look_up = "GatherElements" if book.ndim > 1 else "Gather"
    if bits == _PAIR and book.ndim == 1 and codes.size % 2 == 0:
        flat = codes.reshape(-1)
        codes, bits = flat[0::2] * len(book) + flat[1::2], 2 * _PAIR
        left, right = np.repeat(book, len(book)), np.tile(book, len(book))
        book = np.stack([left, right], 1)
    constants = [
        narrow_tensor(f"{name}_codes", codes, bits),
        numpy_helper.from_array(np.ascontiguousarray(book), f"{name}_book"),
    ]
    axis = 1 if look_up == "GatherElements" else 0
    nodes = [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_index"], to=TensorProto.INT32),
        helper.make_node(look_up, [f"{name}_book", f"{name}_index"], [f"{name}_found"], axis=axis),
    ]
    shape, last = _shaped(f"{name}_found", name, layer.shape, transposed=layer.transposed)
    return [*constants, *shape], [*nodes, *last]


def _shaped(
    source: str, target: str, shape: tuple[int, ...], *, transposed: bool
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """From rows of outputs to the shape of the weight."""
    import numpy as np
    from onnx import helper, numpy_helper

    sizes = np.array(shape if transposed else (shape[1], shape[0]), np.int64)
    constants = [numpy_helper.from_array(sizes, f"{target}_shape")]
    if transposed:
        return constants, [helper.make_node("Reshape", [source, f"{target}_shape"], [target])]
    return constants, [
        helper.make_node("Reshape", [source, f"{target}_shape"], [f"{target}_rows"]),
        helper.make_node("Transpose", [f"{target}_rows"], [target], perm=[1, 0]),
    ]
