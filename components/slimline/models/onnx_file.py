"""Take in an ONNX file that somebody else made: check it, bring it to our form, keep it.

The file is hostile until proven otherwise. What is kept has one input `input`, one output `logits`,
a dynamic batch, all weights inside, no initialiser among its inputs, and an operator set that the
quantizer knows. What had to be changed is checked against the original in ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.measure.runtime import logits, session
from slimline.models.info import ModelInfo, save_model_info
from slimline.models.onnx_graph import (
    make_batch_dynamic,
    name_ports,
    outside_files,
    real_inputs,
    without_notes,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.data.preprocess import Preprocessing

_MOST_BYTES = 1_900_000_000
"""protobuf reads no message of 2 GiB, and a model in one file is one message."""
_OLDEST_OPSET, _OUR_OPSET = 13, 20
"""Per-channel QuantizeLinear came with 13; what is older is converted to ours."""
_TOLERANCE = 1e-4


def adopt_onnx(
    source: Path,
    target: Path,
    *,
    name: str,
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    stage: str = "teacher",
) -> ModelInfo:
    """Write a `Model` artifact from an ONNX file.

    Args:
        source: the .onnx file; nothing beside it is read.
        target: the empty directory of the output artifact.
        name: of the model.
        labels: one for each of its logits, in order.
        preprocessing: what its input went through in training.
        stage: name in reports.

    Raises:
        BadData: on a file that is too large, damaged, needs other files, has not one input and one
            output, does not take this input, or answers otherwise after it was brought to our form.
    """
    model = read_checked(source)
    original = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    adopted = to_our_form(model, source)
    path = target / "model.onnx"
    path.write_bytes(adopted.SerializeToString(deterministic=True))
    check_answers(source, path, example_inputs(preprocessing), labels)
    opset = next(o.version for o in adopted.opset_import if o.domain in {"", "ai.onnx"})
    info = ModelInfo(
        name=name,
        stage=stage,
        format="onnx",
        labels=labels,
        preprocessing=preprocessing,
        opset=opset,
        history=(f"adopted from an ONNX file of opset {original}",),
    )
    save_model_info(info, target)
    return info


def read_checked(source: Path) -> onnx.ModelProto:
    """Read a file as ONNX without following any reference out of it; raises BadData."""
    import onnx

    undecodable: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    if not source.is_file():
        msg = f"{source} is not there: give the path of an .onnx file"
        raise BadData(msg)
    if source.stat().st_size > _MOST_BYTES:
        msg = f"{source} has {source.stat().st_size} bytes, at most {_MOST_BYTES} can be read"
        raise BadData(msg)
    try:
        model = onnx.load(source, load_external_data=False)
        outside = outside_files(model)
        if not outside:
            onnx.checker.check_model(model)
    except (undecodable, onnx.checker.ValidationError, ValueError) as error:
        msg = f"{source} is no valid ONNX file; export it again: {error}"
        raise BadData(msg) from error
    if outside:
        msg = (
            f"{source} keeps weights in other files ({', '.join(outside[:3])}): save it in one "
            "file (onnx.save with save_as_external_data=False)"
        )
        raise BadData(msg)
    return model


def to_our_form(model: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """A copy with our names, a dynamic batch and an opset that is not too old; raises BadData."""
    inputs, outputs = real_inputs(model.graph), list(model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        msg = (
            f"{source} has inputs {[i.name for i in inputs]} and outputs "
            f"{[o.name for o in outputs]}: one of each is needed; cut it to the classifier"
        )
        raise BadData(msg)
    bare = without_notes(model)
    return make_batch_dynamic(name_ports(convert_opset(bare, source)))


def convert_opset(model: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """Convert a model of an old operator set; a newer one stays as it is."""
    from onnx import version_converter

    version = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if version >= _OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, _OUR_OPSET)
    except (RuntimeError, ValueError, IndexError) as error:
        msg = (
            f"{source} is of opset {version} and cannot be converted to {_OUR_OPSET}: {error}; "
            f"export it again with opset {_OLDEST_OPSET} or later"
        )
        raise BadData(msg) from error


def check_answers(
    source: Path, adopted: Path, x: NDArray[np.float32], labels: tuple[str, ...]
) -> None:
    """Run original and adopted model on the same inputs, one at a time and all at once.

    Raises:
        BadData: when the adopted one needs a fixed batch, or any answer differs.
    """
    import numpy as np

    ours = session(adopted)
    single = logits(ours, x, batch=1, what=str(source))
    if single.shape[1] != len(labels):
        msg = f"{source} gives {single.shape[1]} logits for {len(labels)} labels: name them all"
        raise BadData(msg)
    expected, scale = original_answers(source, x), max(1.0, float(np.abs(single).max()))
    fixed = f"{source} has its batch in a constant: export it with a dynamic batch"
    try:
        together = logits(ours, x)
    except BadData as error:
        msg = f"{fixed}; with five examples: {error}"
        raise BadData(msg) from error
    worst = max(float(np.abs(got - expected).max()) / scale for got in (single, together))
    if worst > _TOLERANCE:
        msg = f"{fixed}; with a dynamic one it answers otherwise, by {worst:.1e}"
        raise BadData(msg)


def original_answers(source: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the untouched file answers, in batches of the size it was made for."""
    import numpy as np

    loaded = session(source)
    size = loaded.get_inputs()[0].shape[0]
    if not isinstance(size, int):
        return logits(loaded, x)
    repeats = -(-len(x) // size) * size
    padded = np.resize(x, (repeats, *x.shape[1:]))
    return logits(loaded, padded, batch=size)[: len(x)]


def example_inputs(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Five inputs of the real shape from random raw examples, the same in every run."""
    import numpy as np

    draw, shape = np.random.default_rng(0), (5, *preprocessing.shape)
    if preprocessing.dtype == "uint8":
        return preprocessing.apply(draw.integers(0, 256, shape, np.uint8))
    return preprocessing.apply(draw.standard_normal(shape, np.float32))
