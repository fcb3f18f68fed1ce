import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper
from support.onnx_files import graph_model, write

from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.data.preprocess import Preprocessing, Scale
from slimline.models.info import ModelInfo, save_model_info

_SIDE, _COUNT = 512, 320  # 252 MB of images
_MOST_MB = 100  # the runtime, a batch of two in several forms, the plots

# Memory that is the process's own (not the file's pages, which the kernel may drop) is looked at
# every 10 ms; what imports take is not the split's.
_CHILD = r"""
import json, pathlib, re, sys, threading, time
import jinja2, matplotlib.figure, onnx
from slimline.measure.runtime import import_onnxruntime
from slimline.validate.spec import Validate
import slimline.validate.run
import_onnxruntime()
anon = lambda: int(re.search(r"RssAnon:\s+(\d+)",
                   pathlib.Path("/proc/self/status").read_text())[1])
before, peak, done = anon(), [0], threading.Event()
def look():
    while not done.wait(0.01):
        peak[0] = max(peak[0], anon())
watch = threading.Thread(target=look)
watch.start()
root = pathlib.Path(sys.argv[1])
job = Validate(baseline=root / "model", candidate=root / "model", test=root / "test",
               latency_rounds=20, latency_seconds=1, resamples=200, robustness_examples=5)
numbers = job.run(work_dir=root / "work").manifest.numbers
done.set(); watch.join()
print(json.dumps({"mb": (peak[0] - before) * 1024 / 1e6, "examples": numbers["examples"]}))
"""


def test_a_test_split_does_not_need_its_size_in_memory(tmp_path):
    x = np.zeros((_COUNT, _SIDE, _SIDE, 3), np.uint8)
    x[::2] = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    y = np.arange(_COUNT) % 2
    labels = ("noise", "nothing")
    info = DatasetInfo(
        name="large",
        split="test",
        shape=x.shape[1:],
        dtype="uint8",
        labels=labels,
        count=_COUNT,
        source_digest="0" * 64,
    )
    (tmp_path / "test").mkdir()
    save_examples(Examples(info, x, y, np.arange(_COUNT)), tmp_path / "test")
    size_mb = x.nbytes / 1e6
    del x
    _mean_model(tmp_path / "model", labels)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["examples"] == _COUNT
    assert found["mb"] < _MOST_MB < size_mb / 2.5


def _mean_model(root: Path, labels) -> None:
    """Logits from the mean of an image: noise is brighter than nothing."""
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["logits"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "one": np.array([1], np.int64),
        "w": np.array([[1.0, -1.0]], np.float32),
    }
    tensors = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    shape = ("batch", _SIDE, _SIDE, 3)
    write(graph_model(nodes, tensors, input_shape=shape, output_shape=("batch", 2)),
          root / "model.onnx")  # fmt: skip
    preprocessing = Preprocessing(shape=(_SIDE, _SIDE, 3), steps=(Scale(),))
    info = ModelInfo(
        name="m", stage="teacher", format="onnx", labels=labels, preprocessing=preprocessing
    )
    save_model_info(info, root)
