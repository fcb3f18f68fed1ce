"""How much resident memory a model takes, measured in a process of its own.

The child loads ONNX Runtime, notes its resident set, loads the model, runs it a few times at batch
1 and notes the resident set's peak. The difference holds weights, activations, packed kernels and
what ONNX Runtime sets up once for its first session: a small model's figure is mostly the last.
Linux only: it reads /proc/self/status.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.measure.runtime import import_onnxruntime, session

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUNS = 5
_LIMIT_SECONDS = 300


def growth_mb(path: Path, shape: Sequence[int], threads: int = 1) -> float:
    """Growth of resident memory in MB of 10**6 bytes when a model is loaded and run.

    Args:
        path: the .onnx file.
        shape: of one example's input, without the batch.
        threads: threads inside one operator.

    Raises:
        BadData: when the model cannot be run, even if it takes its process down.
    """
    argument = json.dumps({"path": str(path), "shape": list(shape), "threads": threads})
    done = subprocess.run(
        [sys.executable, "-m", "slimline.measure.memory", argument],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        msg = f"{path} could not be run in a process of its own (exit {done.returncode}): "
        raise BadData(msg + done.stderr[-300:].strip())
    return float(done.stdout)


def _measure(path: Path, shape: Sequence[int], threads: int) -> float:
    import numpy as np

    import_onnxruntime()
    before = _status("VmRSS")
    loaded = session(path, threads)
    x = np.zeros((1, *shape), np.float32)
    for _ in range(_RUNS):
        loaded.run(None, {loaded.get_inputs()[0].name: x})
    return max(0.0, (_status("VmHWM") - before) * 1024 / 1e6)


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        msg = f"/proc/self/status has no {field}: memory is measured on Linux only"
        raise OSError(msg)
    return int(found[1])


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(_measure(Path(given["path"]), given["shape"], given["threads"]))  # noqa: T201 - answer
