import json
import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper, numpy_helper
from support.onnx_files import graph_model, linear_model, outside_model, write

from slimline.contract import BadData
from slimline.measure.memory import growth_mb
from slimline.measure.runtime import import_onnxruntime, logits, session


def test_importing_turns_telemetry_off():
    code = (
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None);"
        "from slimline.measure.runtime import import_onnxruntime; import_onnxruntime();"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


def test_the_runtime_needs_neither_onnx_nor_torch():
    code = (
        "import sys; from slimline.measure.runtime import import_onnxruntime;"
        "import_onnxruntime(); print(sorted({'onnx', 'torch', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_session_runs_on_the_cpu_without_spinning(tmp_path):
    loaded = session(write(linear_model(), tmp_path / "model.onnx"), threads=2)
    assert loaded.get_providers() == ["CPUExecutionProvider"]
    assert loaded.get_session_options().intra_op_num_threads == 2
    entry = loaded.get_session_options().get_session_config_entry
    assert entry("session.intra_op.allow_spinning") == "0"


def test_logits_are_the_same_whatever_the_batch(tmp_path):
    model = linear_model()
    loaded = session(write(model, tmp_path / "model.onnx"))
    x = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    expected = x @ numpy_helper.to_array(model.graph.initializer[0])
    for batch in (1, 3, 10, 256):
        np.testing.assert_allclose(logits(loaded, x, batch), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a model",
        np.random.default_rng(0).bytes(5000),
        linear_model().SerializeToString()[:-20],
        outside_model("../../secret.bin").SerializeToString(),
        outside_model("/etc/hostname").SerializeToString(),
    ],
    ids=["empty", "text", "random", "truncated", "outside by ..", "outside by root"],
)
def test_a_hostile_file_is_refused(tmp_path, data):
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    path = tmp_path / "a" / "b" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(BadData) as caught:
        session(path)
    assert caught.value.exit_code == 65
    assert "model.onnx" in str(caught.value)


def test_a_missing_file_is_told_by_name(tmp_path):
    with pytest.raises(BadData, match=r"model\.onnx is not there"):
        session(tmp_path / "model.onnx")


def test_a_model_with_two_outputs_is_refused(tmp_path):
    model = linear_model()
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", 1, ("batch", 3)))
    with pytest.raises(BadData, match="one float32 tensor each"):
        session(write(model, tmp_path / "model.onnx"))


def test_logits_that_are_not_finite_are_refused(tmp_path):
    node = helper.make_node("Log", ["input"], ["logits"])
    model = graph_model([node], [], output_shape=("batch", 4))
    loaded = session(write(model, tmp_path / "model.onnx"))
    with pytest.raises(BadData, match="NaN or infinity"):
        logits(loaded, np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("x", [np.zeros((2, 5), np.float32), np.zeros((2, 4), np.float64)])
def test_input_of_another_shape_or_type_is_refused(tmp_path, x):
    loaded = session(write(linear_model(), tmp_path / "model.onnx"))
    with pytest.raises(BadData, match="does not take"):
        logits(loaded, x)


def test_no_example_is_an_error_not_an_empty_answer(tmp_path):
    loaded = session(write(linear_model(), tmp_path / "model.onnx"))
    with pytest.raises(BadData, match="at least one"):
        logits(loaded, np.zeros((0, 4), np.float32))


def test_an_answer_that_is_no_table_of_classes_is_refused(tmp_path):
    node = helper.make_node("ReduceSum", ["input"], ["logits"], keepdims=0)
    loaded = session(write(graph_model([node], [], output_shape=()), tmp_path / "model.onnx"))
    with pytest.raises(BadData, match=r"\(examples, classes\)"):
        logits(loaded, np.zeros((2, 4), np.float32))


def test_memory_grows_with_the_weights(tmp_path):
    small = growth_mb(write(linear_model(), tmp_path / "small.onnx"), (4,))
    large_model = linear_model(features=5000, classes=2000)
    large = growth_mb(write(large_model, tmp_path / "large.onnx"), (5000,))
    assert 0 < small < 40
    assert large - small > 30  # the weights are 40 MB


def test_memory_of_a_broken_model_is_an_error(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"broken")
    with pytest.raises(BadData, match="process of its own"):
        growth_mb(path, (4,))


def test_the_environment_may_say_otherwise(monkeypatch):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "true")
    import_onnxruntime()
    assert json.dumps(os.environ["ORT_DISABLE_TELEMETRY"]) == '"true"'
