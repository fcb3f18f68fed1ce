import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimline.adopt.spec import Adopt
from slimline.contract import (
    BadData,
    BadParameters,
    Dataset,
    LocalStore,
    execute,
    sha256_file,
)
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.measure.runtime import logits, session


@pytest.fixture
def train(tmp_path):
    info = DatasetInfo(
        name="tiny", split="train", shape=(4, 4, 1), dtype="uint8", labels=("a", "b", "c"),
        count=6, source_digest="0" * 64,
    )  # fmt: skip
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    (tmp_path / "train").mkdir()
    save_examples(Examples(info, x, np.arange(6) % 3, np.arange(6)), tmp_path / "train")
    return Dataset.at(tmp_path / "train")


@pytest.fixture
def file(tmp_path):
    """A linear classifier with a fixed batch of 1 and names of its own."""
    weights = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "theirs.onnx")
    return tmp_path / "theirs.onnx"


def test_an_onnx_file_of_ones_own_comes_out_with_a_dynamic_batch_and_equal_answers(train, file):
    adopted = Adopt(train=train, path=str(file), name="mine").run()["model"]
    x = np.random.default_rng(2).normal(size=(5, 1, 4, 4)).astype(np.float32)
    ours = logits(session(adopted.path / "model.onnx"), x)
    weights = numpy_helper.to_array(onnx.load(file).graph.initializer[0])
    np.testing.assert_allclose(ours, x.reshape(5, 16) @ weights, rtol=1e-5, atol=1e-5)


def test_a_file_that_is_not_the_one_meant_is_refused(train, file):
    assert Adopt(train=train, path=str(file), sha256=sha256_file(file)).run()
    with pytest.raises(BadData, match=r"sha256: .* must be 000000000000"):
        Adopt(train=train, path=str(file), sha256="0" * 64).run()


def test_a_missing_file_is_told_with_the_parameter(train):
    with pytest.raises(BadParameters, match=r"path: nowhere\.onnx is not there"):
        Adopt(train=train, path="nowhere.onnx").run()


def test_bytes_that_are_no_onnx_are_refused(train, file):
    file.write_bytes(b"\x80\x04" + file.read_bytes()[:60])
    with pytest.raises(BadData, match="no valid ONNX"):
        Adopt(train=train, path=str(file)).run()


def test_other_bytes_under_the_same_path_make_another_job(train, file, tmp_path):
    store = LocalStore(tmp_path / "store")
    job = Adopt(train=train, path=str(file))
    first = execute(job, store, work_dir=tmp_path / "1", lineage="a/b")
    assert execute(job, store, work_dir=tmp_path / "2").manifest == first.manifest
    model = onnx.load(file)
    model.producer_name = "another"
    onnx.save(model, file)
    third = execute(job, store, work_dir=tmp_path / "3", lineage="a/b")
    assert third.manifest.reason == "ran: input file has other bytes"
