"""ONNX files that others made, hand-made here: quantized well, or refused with the cure."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimline.adopt.spec import Adopt
from slimline.contract import Dataset
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.measure.runtime import logits, session
from slimline.quantize.spec import Quantize

RANDOM = np.random.default_rng(3)
SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    root = tmp_path_factory.mktemp("train")
    info = DatasetInfo(
        name="tiny", split="train", shape=SHAPE, dtype="uint8", labels=("a", "b", "c"),
        count=96, source_digest="0" * 64,
    )  # fmt: skip
    x = RANDOM.integers(0, 256, (96, *SHAPE), np.uint8)
    save_examples(Examples(info, x, np.arange(96) % 3, np.arange(96)), root)
    return Dataset.at(root)


def constants() -> dict[str, np.ndarray]:
    return {
        "w1": RANDOM.normal(0, 0.3, (32, 1, 3, 3)).astype(np.float32),
        "gamma": RANDOM.uniform(0.5, 1.5, 32).astype(np.float32),
        "beta": RANDOM.normal(0, 0.2, 32).astype(np.float32),
        "mean": RANDOM.normal(0, 0.2, 32).astype(np.float32),
        "var": RANDOM.uniform(0.5, 1.5, 32).astype(np.float32),
        "w2": RANDOM.normal(0, 0.05, (64, 32, 3, 3)).astype(np.float32),
        "w3": RANDOM.normal(0, 0.2, (64, 3)).astype(np.float32),
        "b3": RANDOM.normal(0, 0.2, 3).astype(np.float32),
    }


def body() -> list[onnx.NodeProto]:
    """Convolution, batch norm unfolded, ReLU, convolution, mean, classifier; few have names."""
    node = helper.make_node
    return [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]


def saved(path, nodes, values, *, opset, batch, listed):
    """An .onnx file; `listed` puts its constants among the inputs, as files before 2019 do."""
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])]
    if listed:
        ports += [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in values.items()
        ]
    graph = helper.make_graph(
        nodes, "theirs", ports,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 3 if listed else 8
    onnx.save(made, path)
    return path


def quantized(train, path, work, **parameters):
    adopted = Adopt(train=train, path=str(path), name="theirs").run(work_dir=work / "adopt")
    values = {"calibration_samples": 64, "selection_samples": 32, "latency_rounds": 11}
    job = Quantize(model=adopted["model"], calibration=train, **values, **parameters)
    return adopted["model"], job.run(work_dir=work / "quantize")


@pytest.mark.parametrize(
    ("opset", "batch", "listed"), [(9, 1, True), (11, "n", True), (12, 4, False), (17, 1, False)]
)
def test_old_opsets_listed_constants_fixed_batches_and_unfolded_norms_become_integers(
    train, tmp_path, opset, batch, listed
):
    path = saved(tmp_path / "a.onnx", body(), constants(), opset=opset, batch=batch, listed=listed)
    source, outcome = quantized(train, path, tmp_path)
    numbers = outcome.manifest.numbers
    assert numbers["integer_operators"] == {"Conv": 2, "Gemm": 1}
    assert numbers["float_operators"] == {}
    graph = onnx.load(outcome["quantized"].path / "model.onnx").graph
    assert "BatchNormalization" not in {n.op_type for n in graph.node}
    assert [i.name for i in graph.input] == ["input"]
    x = RANDOM.uniform(0, 1, (7, 1, 8, 8)).astype(np.float32)
    answers = [logits(session(m.path / "model.onnx"), x) for m in (source, outcome["quantized"])]
    assert np.abs(answers[0] - answers[1]).max() < 0.05 * np.abs(answers[0]).max()


@pytest.mark.parametrize("scheme", ["int4-weights", "kmeans", "fp16"])
def test_an_old_file_takes_the_other_schemes_too(train, tmp_path, scheme):
    path = saved(tmp_path / "a.onnx", body(), constants(), opset=11, batch=1, listed=True)
    _, outcome = quantized(train, path, tmp_path, scheme=scheme)
    numbers = outcome.manifest.numbers
    assert numbers["float_operators"] == {}
    assert numbers["shrink"] > 1.7


def test_nodes_without_names_can_be_coded_one_by_one(train, tmp_path):
    path = saved(tmp_path / "a.onnx", body(), constants(), opset=17, batch=1, listed=False)
    _, outcome = quantized(train, path, tmp_path, scheme="mixed", max_drop=0.5)
    assert len(outcome.manifest.numbers["bits"]) == 3


def branching() -> list[onnx.NodeProto]:
    """The classifier stands in both branches of an If on the sum of what is seen."""

    def branch(name: str, bias: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node("Gemm", ["f", "w3", bias], [name])], name, [], [out]
        )

    node = helper.make_node
    return [
        *body()[:-1],
        node("ReduceSum", ["f"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["positive"]),
        node(
            "If", ["positive"], ["y"], then_branch=branch("t", "b3"), else_branch=branch("e", "b4")
        ),
    ]


@pytest.mark.parametrize("scheme", ["int8-static", "int8", "int4-weights", "kmeans"])
def test_what_stands_in_branches_stays_float_and_the_rest_is_quantized(train, tmp_path, scheme):
    values = constants() | {"zero": np.float32(0).reshape(()), "b4": np.ones(3, np.float32)}
    path = saved(tmp_path / "a.onnx", branching(), values, opset=17, batch="n", listed=False)
    source, outcome = quantized(train, path, tmp_path, scheme=scheme)
    assert "If" in {
        n.op_type for n in onnx.load(outcome["quantized"].path / "model.onnx").graph.node
    }
    x = RANDOM.uniform(0, 1, (7, 1, 8, 8)).astype(np.float32)
    answers = [logits(session(m.path / "model.onnx"), x) for m in (source, outcome["quantized"])]
    assert np.abs(answers[0] - answers[1]).max() < 0.2 * np.abs(answers[0]).max()
