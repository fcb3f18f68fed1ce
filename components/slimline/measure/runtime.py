"""ONNX Runtime as every part of Slimline uses it: no telemetry, CPU, a stated number of threads.

Needs onnxruntime and numpy only, so that a device and a server can use it.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

_ONLY_FATAL = 4
"""What goes wrong is raised, so ONNX Runtime need not write it to stderr as well."""


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off; import it by no other way."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def session(source: Path | bytes, threads: int = 1) -> Any:
    """Load an ONNX model on the CPU.

    ONNX Runtime itself refuses external data outside the model's directory; a model that is given
    as bytes has no directory.

    Args:
        source: the .onnx file, or its bytes where they were hashed and must be those that run.
        threads: threads inside one operator; they wait without spinning.

    Returns:
        An `onnxruntime.InferenceSession` of a model with one float32 input and one output.

    Raises:
        BadData: when the file is missing, damaged, or no such model.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    path = "model.onnx" if isinstance(source, bytes) else source
    if isinstance(path, Path) and not path.is_file():
        msg = f"{path} is not there: a model artifact of format onnx holds model.onnx"
        raise BadData(msg)
    given = source if isinstance(source, bytes) else str(source)
    try:
        loaded = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class but Exception
        msg = f"{path} is no ONNX model that ONNX Runtime can load; export it again: {error}"
        raise BadData(msg) from error
    ports = [[port.type for port in side] for side in (loaded.get_inputs(), loaded.get_outputs())]
    if ports != [["tensor(float)"], ["tensor(float)"]]:
        msg = f"{path} takes {ports[0]} and gives {ports[1]}: one float32 tensor each is needed"
        raise BadData(msg)
    return loaded


def answer(session: Any, x: NDArray[np.float32], what: str = "the model") -> NDArray[np.float32]:
    """Run one batch.

    Args:
        session: what `session()` gave.
        x: what `Preprocessing.apply` gave, float32, the batch first; at least one example.
        what: the model's name in errors.

    Returns:
        float32, of any shape, the batch first; finite.

    Raises:
        BadData: when the model does not take `x`, gives no answer for each example, or one that
            holds NaN or infinity.
    """
    import numpy as np

    name = session.get_inputs()[0].name
    try:
        found: NDArray[np.float32] = session.run(None, {name: x})[0]
    except Exception as error:  # its errors share no base class but Exception
        msg = (
            f"{what} does not take {x.dtype}{list(x.shape)}: give a model and data that belong "
            f"together, or export it again: {error}"
        )
        raise BadData(msg) from error
    if found.ndim == 0 or len(found) != len(x):
        msg = (
            f"{what} answers {list(found.shape)} to {len(x)} examples: an answer for each is "
            "needed, (examples, classes) of a classifier; export it with a dynamic batch"
        )
        raise BadData(msg)
    if not np.isfinite(found).all():
        msg = (
            f"the answers (logits) of {what} hold NaN or infinity: its weights or its input are "
            "damaged; train or export it again"
        )
        raise BadData(msg)
    return found


def logits(
    session: Any, x: NDArray[np.float32], batch: int = 256, what: str = "the model"
) -> NDArray[np.float32]:
    """Predict classes.

    Args:
        session: what `session()` gave.
        x: what `Preprocessing.apply` gave, float32, the batch first; at least one example.
        batch: examples in one call.
        what: the model's name in errors.

    Returns:
        float32, shape (examples, classes), finite.

    Raises:
        BadData: as `answer`, or when the answers are no table of classes.
    """
    import numpy as np

    if len(x) == 0:
        msg = "there is no example to predict: give at least one"
        raise BadData(msg)
    parts = [answer(session, x[start : start + batch], what) for start in range(0, len(x), batch)]
    classes = {part.shape[1:] for part in parts}
    if [len(shape) for shape in classes] != [1]:
        msg = (
            f"{what} answers {list(parts[0].shape)}: (examples, classes) is needed; cut it to the "
            "classifier"
        )
        raise BadData(msg)
    return np.concatenate(parts)
