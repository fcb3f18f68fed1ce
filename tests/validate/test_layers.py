import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_files import graph_model, write

from slimline.validate.layers import count_operators, read_layers, side_by_side
from slimline.validate.plots import dominated


def test_layers_are_those_of_torch_before_and_after_quantization(digits):
    first, last = (read_layers(m.path / "model.onnx") for m in (digits.float_onnx, digits.int8))
    names = ["conv1", "conv2", "linear"]
    assert [n for n in first if "(" not in n] == names
    assert [n for n in last if "(" not in n] == names
    assert first["conv2"].bytes == 64 * 32 * 9 * 4 + 64 * 4
    assert first["conv2"].operator == "Conv float"
    assert last["conv2"].operator.endswith("int8")
    # Weights and what goes with them: bias, scales, zero points.
    assert 64 * 32 * 9 < last["conv2"].bytes < first["conv2"].bytes / 3
    assert last["linear"].shape == (10, 64)


def test_all_bytes_are_told_and_most_of_the_file(digits):
    for model in (digits.float_onnx, digits.int8):
        path = model.path / "model.onnx"
        told = sum(layer.bytes for layer in read_layers(path).values())
        assert 0.6 * path.stat().st_size < told <= path.stat().st_size


def test_four_bits_take_half_a_byte(tmp_path):
    weight = helper.make_tensor("fc.weight", TensorProto.INT4, (4, 3), [1] * 12)
    scale = numpy_helper.from_array(np.ones(3, np.float32), "fc.weight_scale")
    nodes = [
        helper.make_node("DequantizeLinear", ["fc.weight", "fc.weight_scale"], ["w"], axis=1),
        helper.make_node("MatMul", ["input", "w"], ["logits"]),
    ]
    path = write(graph_model(nodes, [weight, scale], opset=21), tmp_path / "m.onnx")
    assert read_layers(path)["fc"].bytes == 6 + 12
    assert count_operators(path) == {"DequantizeLinear": 1, "MatMul": 1}


def test_nodes_may_stand_in_any_order(digits, tmp_path):
    for model in (digits.float_onnx, digits.int8):
        network = onnx.load(model.path / "model.onnx")
        nodes = list(network.graph.node)[::-1]
        del network.graph.node[:]
        network.graph.node.extend(nodes)
        turned = read_layers(write(network, tmp_path / "m.onnx"))
        assert turned == read_layers(model.path / "model.onnx")


def test_a_layer_that_is_gone_has_a_place_in_the_table():
    rows = dict(side_by_side([{"a": 1, "b": 2}, {"b": 3, "c": 4}]))
    assert rows == {"a": [1, None], "b": [2, 3], "c": [None, 4]}


@pytest.mark.parametrize(
    ("points", "beaten"),
    [
        ([(1, 1), (2, 2), (1, 2), (0, 3)], [False, True, True, False]),
        ([(1, 1), (1, 1)], [False, False]),
        ([(0, 0)], [False]),
    ],
)
def test_a_point_is_dominated_when_another_is_no_worse_and_once_better(points, beaten):
    assert dominated(points) == beaten


def test_the_report_tells_layers_and_operators(digits, tmp_path):
    from slimline.validate.spec import Validate  # noqa: PLC0415 - one test

    job = Validate(
        baseline=digits.float_onnx, candidate=digits.int8, test=digits.test, latency_rounds=20
    )
    page = (job.run(work_dir=tmp_path)["report"].path / "index.html").read_text()
    for text in ("Conv float", "conv2", "QuantizeLinear", "drop against latency"):
        assert text in page
