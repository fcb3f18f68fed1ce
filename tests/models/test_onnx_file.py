import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.onnx_files import graph_model, linear_model, outside_model, write

from slimline.contract import BadData
from slimline.data.preprocess import Preprocessing
from slimline.measure.runtime import logits, session
from slimline.models.info import load_model_info
from slimline.models.onnx_file import adopt_onnx

ROWS = Preprocessing(shape=(4,), dtype="float32")
LABELS = ("a", "b", "c")


def adopt(tmp_path, model, labels=LABELS):
    source = write(model, tmp_path / "given.onnx") if model is not None else tmp_path / "given.onnx"
    target = tmp_path / "target"
    target.mkdir()
    adopt_onnx(source, target, name="mine", labels=labels, preprocessing=ROWS)
    return target


def expected(x: np.ndarray) -> np.ndarray:
    return x @ numpy_helper.to_array(linear_model().graph.initializer[0])


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, 4)).astype(np.float32)


def fixed_model(batch: int = 1) -> onnx.ModelProto:
    """A batch in the shapes of input, output and a Reshape, as older exporters write it."""
    weights = linear_model().graph.initializer[0]
    shape = numpy_helper.from_array(np.array([batch, 4], np.int64), "shape")
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    return graph_model(
        nodes,
        [weights, shape],
        input_shape=(batch, 4),
        output_shape=(batch, 3),
        input_name="image",
        output_name="scores",
    )


def test_what_is_adopted_is_a_model_artifact_of_our_form(tmp_path):
    target = adopt(tmp_path, linear_model(input_name="pixels", output_name="scores"))
    info = load_model_info(target)
    assert (info.name, info.stage, info.format, info.labels) == ("mine", "teacher", "onnx", LABELS)
    assert info.history == ("adopted from an ONNX file of opset 20",)
    loaded = session(target / "model.onnx")
    assert loaded.get_inputs()[0].name == "input"
    assert loaded.get_outputs()[0].name == "logits"
    np.testing.assert_allclose(logits(loaded, rows(9)), expected(rows(9)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_becomes_dynamic(tmp_path, batch):
    loaded = session(adopt(tmp_path, fixed_model(batch)) / "model.onnx")
    assert loaded.get_inputs()[0].shape == ["batch", 4]
    for size in (1, 7):
        found = logits(loaded, rows(7), size)
        np.testing.assert_allclose(found, expected(rows(7)), rtol=1e-5, atol=1e-6)


def test_a_batch_that_cannot_be_freed_is_refused(tmp_path):
    model = fixed_model(1)
    nodes = model.graph.node
    nodes[0].op_type = "Add"  # adds a constant of one row, then expects exactly one row
    nodes[0].input[1] = "ones"
    nodes.insert(1, helper.make_node("Squeeze", ["flat", "axis"], ["one"]))
    nodes.insert(2, helper.make_node("Unsqueeze", ["one", "axis"], ["again"]))
    nodes[3].input[0] = "again"
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.zeros((1, 4), np.float32), "ones"),
            numpy_helper.from_array(np.array([0], np.int64), "axis"),
        ]
    )
    with pytest.raises(BadData, match="export it with a dynamic batch"):
        adopt(tmp_path, model)


def test_an_old_opset_with_initialisers_among_the_inputs_is_converted(tmp_path):
    target = adopt(tmp_path, linear_model(opset=9, list_initialisers=True))
    model = onnx.load(target / "model.onnx")
    assert model.opset_import[0].version == 20
    assert [i.name for i in model.graph.input] == ["input"]
    found = logits(session(target / "model.onnx"), rows(4))
    np.testing.assert_allclose(found, expected(rows(4)), rtol=1e-5, atol=1e-6)
    assert load_model_info(target).history == ("adopted from an ONNX file of opset 9",)


def test_an_inner_tensor_called_logits_does_not_clash(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"]),
    ]
    weights = [linear_model().graph.initializer[0]]
    target = adopt(tmp_path, graph_model(nodes, weights, input_name="x", output_name="p"))
    found = logits(session(target / "model.onnx"), rows(3))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_notes_are_not_taken_over(tmp_path):
    model = linear_model()
    model.doc_string = "made in /home/somebody"
    model.graph.node[0].doc_string = "/home/somebody/net.py"
    model.metadata_props.add(key="author", value="somebody")
    target = adopt(tmp_path, model)
    assert b"somebody" not in (target / "model.onnx").read_bytes()


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_weights_in_other_files_are_refused(tmp_path, location):
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    with pytest.raises(BadData, match="keeps weights in other files") as caught:
        adopt(tmp_path, outside_model(location))
    assert location in str(caught.value)
    assert caught.value.exit_code == 65


def test_weights_in_other_files_are_seen_inside_attributes_too(tmp_path):
    model = linear_model()
    hidden = outside_model("../secret").graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=hidden))
    with pytest.raises(BadData, match=r"\.\./secret"):
        adopt(tmp_path, model)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a model", np.random.default_rng(0).bytes(4000),
     linear_model().SerializeToString()[:-25]],
    ids=["empty", "text", "random", "truncated"],
)  # fmt: skip
def test_bytes_that_are_no_model_are_refused(tmp_path, data):
    (tmp_path / "given.onnx").write_bytes(data)
    with pytest.raises(BadData) as caught:
        adopt(tmp_path, None)
    assert caught.value.exit_code == 65


def test_a_missing_file_is_told_by_name(tmp_path):
    with pytest.raises(BadData, match=r"given\.onnx is not there"):
        adopt(tmp_path, None)


def test_labels_must_be_as_many_as_logits(tmp_path):
    with pytest.raises(BadData, match="gives 3 logits for 2 labels"):
        adopt(tmp_path, linear_model(), labels=("a", "b"))


def test_a_model_for_other_input_is_refused(tmp_path):
    with pytest.raises(BadData, match=r"does not take float32\[\d, 4\]"):
        adopt(tmp_path, linear_model(features=6))


def test_an_operator_that_nobody_knows_is_refused(tmp_path):
    model = linear_model()
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(BadData):
        adopt(tmp_path, model)


def test_two_outputs_are_refused_by_name(tmp_path):
    model = linear_model()
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", 1, ("batch", 3)))
    with pytest.raises(BadData, match=r"outputs \['logits', 'more'\]"):
        adopt(tmp_path, model)
