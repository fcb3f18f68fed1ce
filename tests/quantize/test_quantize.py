import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from support import factories
from support.digits import PREPROCESSING, dataset, raw_digits, torch_model

from slimline.contract import BadData, BadParameters, Model
from slimline.export.spec import Export
from slimline.measure.runtime import import_onnxruntime, logits, session
from slimline.models.info import load_model_info
from slimline.models.zoo import cifar_resnet
from slimline.quantize.spec import Quantize


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "support.factories")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a factory of the tests, once each."""
    kept: dict[str, Model] = {}

    def get(name: str, call: str = "", module=None, arguments=None) -> Model:
        if name not in kept:
            root = tmp_path_factory.mktemp(name)
            torch.manual_seed(0)
            network = module or getattr(factories, name)()
            source = torch_model(
                root / "torch", network.eval(), call or f"support.factories:{name}", arguments or {}
            )
            kept[name] = Export(model=source).run(work_dir=root / "work")["exported"]
        return kept[name]

    return get


def accuracy(model: Model) -> float:
    x, y = raw_digits()
    answers = logits(session(model.path / "model.onnx"), PREPROCESSING.apply(x[1200:]))
    return float((answers.argmax(1) == y[1200:]).mean())


def stored_types(model: Model) -> dict[str, str]:
    graph = onnx.load(model.path / "model.onnx").graph
    return {i.name: onnx.TensorProto.DataType.Name(i.data_type) for i in graph.initializer}


def test_weights_are_stored_as_integers_and_accuracy_stays(digits):
    types = stored_types(digits.int8)
    weights = [name for name in types if name.endswith(("weight_quantized", "weight"))]
    assert len(weights) == 3
    assert {types[name] for name in weights} == {"INT8"}
    size = [(m.path / "model.onnx").stat().st_size for m in (digits.float_onnx, digits.int8)]
    assert size[1] < size[0] / 2
    assert accuracy(digits.float_onnx) > 0.9
    assert abs(accuracy(digits.int8) - accuracy(digits.float_onnx)) < 0.02


def test_onnx_runtime_really_computes_with_integers(digits, tmp_path):
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        str(digits.int8.path / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    kinds = {n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert {"QLinearConv", "QGemm"} <= kinds
    assert not kinds & {"Conv", "FusedConv", "Gemm", "MatMul"}


def test_activations_are_uint8_unless_asked_otherwise(digits, tmp_path):
    def zero_points(model: Model) -> set[str]:
        types = stored_types(model)
        graph = onnx.load(model.path / "model.onnx").graph
        return {types[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"}

    assert zero_points(digits.int8) == {"UINT8"}
    job = Quantize(model=digits.float_onnx, calibration=digits.train, activation_type="int8")
    assert zero_points(job.run(work_dir=tmp_path)["quantized"]) == {"INT8"}


def test_the_form_is_kept_and_the_history_told(digits):
    model = onnx.load(digits.int8.path / "model.onnx")
    assert model.graph.input[0].name == "input"
    assert model.graph.output[0].name == "logits"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {o.domain for o in model.opset_import} == {""}
    assert model.ir_version <= 10
    info = load_model_info(digits.int8.path)
    assert (info.stage, info.format, info.opset) == ("quantized", "onnx", 20)
    assert info.history[-1] == (
        "quantized to int8-static, weights per channel, activations uint8, qdq, minmax over "
        "256 train examples"
    )


def test_another_process_makes_the_same_bytes(digits, tmp_path):
    code = (
        "import sys; from pathlib import Path; from slimline.contract import Dataset, Model;"
        "from slimline.quantize.spec import Quantize; m, d, w = map(Path, sys.argv[1:]);"
        "job = Quantize(model=Model.at(m), calibration=Dataset.at(d));"
        "print(job.run(work_dir=w)['quantized'].digest)"
    )
    paths = [str(p) for p in (digits.float_onnx.path, digits.train.path, tmp_path / "work")]
    argv = [sys.executable, "-c", code, *paths]
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [digits.int8.digest]  # and nothing else on stdout


def test_the_order_of_the_calibration_set_does_not_matter(digits, tmp_path):
    with np.load(digits.train.path / "examples.npz") as arrays:
        columns = {name: arrays[name][::-1] for name in arrays.files}
    target = tmp_path / "reversed"
    target.mkdir()
    np.savez(target / "examples.npz", **columns)
    text = (digits.train.path / "dataset.json").read_text()
    (target / "dataset.json").write_text(text)
    job = Quantize(model=digits.float_onnx, calibration=type(digits.train).at(target))
    assert job.run(work_dir=tmp_path / "work")["quantized"].digest == digits.int8.digest


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_calibrations_choose_other_ranges_and_keep_the_accuracy(digits, tmp_path, method):
    job = Quantize(
        model=digits.float_onnx,
        calibration=digits.train,
        calibration_method=method,
        percentile=99.5,
        calibration_samples=100,
    )
    made = job.run(work_dir=tmp_path)["quantized"]
    assert made.digest != digits.int8.digest
    assert abs(accuracy(made) - accuracy(digits.float_onnx)) < 0.05


def test_qoperator_is_smaller_than_qdq_and_answers_alike(digits, tmp_path):
    job = Quantize(model=digits.float_onnx, calibration=digits.train, format="qoperator")
    outcome = job.run(work_dir=tmp_path)
    assert outcome.manifest.numbers["integer_operators"] == {"QGemm": 1, "QLinearConv": 2}
    made = outcome["quantized"]
    sizes = [(m.path / "model.onnx").stat().st_size for m in (made, digits.int8)]
    assert sizes[0] < sizes[1]
    assert abs(accuracy(made) - accuracy(digits.int8)) < 0.01


def test_numbers_say_what_changed(digits, tmp_path):
    job = Quantize(
        model=digits.float_onnx, calibration=digits.train, calibration_samples=64, stage="small"
    )
    outcome = job.run(work_dir=tmp_path)
    numbers = outcome.manifest.numbers
    assert numbers["integer_operators"] == {"Conv": 2, "Gemm": 1}
    assert numbers["float_operators"] == {}
    assert numbers["calibration_examples"] == 64
    assert numbers["shrink"] == pytest.approx(
        numbers["bytes_before"] / numbers["bytes_after"], abs=1e-3
    )
    assert numbers["agreement"] > 0.95
    assert load_model_info(outcome["quantized"].path).stage == "small"


def test_a_residual_network_with_padded_shortcuts_quantizes_in_both_formats(
    digits, exported, tmp_path
):
    arguments = {"depth": 8, "shortcut": "A", "widths": [16, 16, 32], "channels": 1}
    model = exported(
        "resnet", "slimline.models.zoo:cifar_resnet", cifar_resnet(**arguments), arguments
    )
    for name in ("qdq", "qoperator"):
        job = Quantize(model=model, calibration=digits.train, format=name)
        numbers = job.run(work_dir=tmp_path / name).manifest.numbers
        assert numbers["float_operators"] == {}
        assert numbers["agreement"] > 0.9


def test_excluded_nodes_stay_float(digits, tmp_path):
    graph = onnx.load(digits.float_onnx.path / "model.onnx").graph
    first = next(n.name for n in graph.node if n.op_type == "Conv")
    job = Quantize(model=digits.float_onnx, calibration=digits.train, exclude=(first,))
    numbers = job.run(work_dir=tmp_path).manifest.numbers
    assert numbers["float_operators"] == {"Conv": 1}
    assert numbers["integer_operators"] == {"Conv": 1, "Gemm": 1}


def test_an_excluded_name_that_no_node_has_is_an_error_that_lists_the_names(digits, tmp_path):
    job = Quantize(model=digits.float_onnx, calibration=digits.train, exclude=("conv_of_dreams",))
    with pytest.raises(BadParameters, match=r"conv_of_dreams.*those with weights are: .*onv"):
        job.run(work_dir=tmp_path)


def test_dynamic_makes_gemm_an_integer_product(exported, tmp_path):
    job = Quantize(model=exported("linear"), scheme="int8-dynamic")
    numbers = job.run(work_dir=tmp_path).manifest.numbers
    assert numbers["integer_operators"] == {"MatMulInteger": 2}
    assert numbers["float_operators"] == {}
    assert numbers["shrink"] > 3
    assert numbers["agreement"] is None


def test_a_model_with_nothing_to_quantize_is_an_error_not_a_copy(digits, exported, tmp_path):
    for scheme in ("int8-static", "int8-dynamic"):
        job = Quantize(
            model=exported("without_weights"), calibration=digits.train, scheme=scheme,
            allow_larger=True,
        )  # fmt: skip
        with pytest.raises(BadData, match="changed nothing: no operator computes with integers"):
            job.run(work_dir=tmp_path / scheme)


def test_excluding_all_weights_is_an_error_too(digits, tmp_path):
    graph = onnx.load(digits.float_onnx.path / "model.onnx").graph
    names = tuple(n.name for n in graph.node if n.op_type in {"Conv", "Gemm"})
    job = Quantize(
        model=digits.float_onnx, calibration=digits.train, exclude=names, allow_larger=True
    )
    with pytest.raises(BadData, match="changed nothing"):
        job.run(work_dir=tmp_path)


def test_a_network_that_grows_is_refused_unless_that_is_allowed(digits, exported, tmp_path):
    job = Quantize(model=exported("tiny"), calibration=digits.train)
    with pytest.raises(BadData, match="outweigh the weights of so small a network"):
        job.run(work_dir=tmp_path / "a")
    allowed = job.model_copy(update={"allow_larger": True}).run(work_dir=tmp_path / "b")
    assert allowed.manifest.numbers["shrink"] < 1


@pytest.mark.parametrize("split", ["test", "selection"])
def test_only_the_train_split_calibrates(digits, tmp_path, split):
    job = Quantize(model=digits.float_onnx, calibration=getattr(digits, split))
    with pytest.raises(BadData, match=f"this is its {split} split, train is needed"):
        job.run(work_dir=tmp_path)


def test_too_few_examples_are_refused_with_the_cure(digits, tmp_path):
    x, y = raw_digits()
    few = dataset(tmp_path / "few", "train", x[:12], y[:12])
    with pytest.raises(BadData, match=r"has 12 examples.*at least 32.*int8-dynamic"):
        Quantize(model=digits.float_onnx, calibration=few).run(work_dir=tmp_path / "work")


def test_static_without_a_calibration_set_is_a_bad_parameter(digits, tmp_path):
    with pytest.raises(BadParameters, match="int8-static needs the train split"):
        Quantize(model=digits.float_onnx).run(work_dir=tmp_path)


def test_a_torch_model_is_refused(digits, tmp_path):
    with pytest.raises(BadData, match=r"model\.onnx is not there"):
        Quantize(model=digits.torch, calibration=digits.train).run(work_dir=tmp_path)


def test_a_truncated_model_is_refused(digits, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    data = (digits.float_onnx.path / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(data[: len(data) // 2])
    (broken / "model.json").write_text((digits.float_onnx.path / "model.json").read_text())
    with pytest.raises(BadData) as caught:
        Quantize(model=Model.at(broken), calibration=digits.train).run(work_dir=tmp_path / "work")
    assert caught.value.exit_code == 65
