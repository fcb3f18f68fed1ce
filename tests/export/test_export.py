import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support import factories
from support.digits import PREPROCESSING, dataset, raw_digits, torch_model

from slimline.coding import encode_model
from slimline.contract import BadData, BadParameters, Model
from slimline.export.run import random_inputs
from slimline.export.spec import Export
from slimline.measure.runtime import logits, session
from slimline.models.build import load_torch_model
from slimline.models.info import load_model_info
from slimline.models.zoo import small_cnn


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "support.factories")


def made(tmp_path, name: str) -> Model:
    torch.manual_seed(0)
    module = getattr(factories, name)()
    return torch_model(tmp_path / name, module, f"support.factories:{name}", {})


def test_the_onnx_file_answers_as_torch_does_at_any_batch(digits):
    module, _ = load_torch_model(digits.torch.path)
    loaded = session(digits.float_onnx.path / "model.onnx")
    x = PREPROCESSING.apply(raw_digits()[0][:50])
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    for batch in (1, 3, 7, 50):
        np.testing.assert_allclose(logits(loaded, x, batch), expected, atol=1e-4)


def test_names_batch_and_opset_are_as_agreed(digits):
    model = onnx.load(digits.float_onnx.path / "model.onnx")
    (given,), (answer,) = model.graph.input, model.graph.output
    assert (given.name, answer.name) == ("input", "logits")
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert answer.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.ir_version <= 10  # what ONNX Runtime 1.20 reads
    assert [p.name for p in digits.float_onnx.path.iterdir() if p.name != "model.json"] == [
        "model.onnx"
    ]


def test_the_description_needs_no_factory_any_more(digits):
    info = load_model_info(digits.float_onnx.path)
    assert (info.format, info.factory, info.edits, info.opset) == ("onnx", None, (), 20)
    assert info.stage == "teacher"
    assert info.preprocessing == PREPROCESSING
    assert info.history == ("trained on 1000 digits", "exported to ONNX, opset 20")


def test_no_note_of_the_exporting_machine_is_left(digits):
    data = (digits.float_onnx.path / "model.onnx").read_bytes()
    assert b"site-packages" not in data
    assert b".py" not in data


def test_another_process_writes_the_same_bytes(digits, tmp_path):
    code = (
        "import sys; from pathlib import Path; from slimline.contract import Model;"
        "from slimline.export.spec import Export;"
        "made = Export(model=Model.at(Path(sys.argv[1]))).run(work_dir=Path(sys.argv[2]));"
        "print(made['exported'].digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    argv = [sys.executable, "-W", "ignore", "-c", code, str(digits.torch.path), str(tmp_path / "w")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == digits.float_onnx.digest


def test_other_layers_export_too_and_examples_are_compared(digits, tmp_path):
    job = Export(model=made(tmp_path, "mixed"), examples=digits.selection, opset=18)
    outcome = job.run(work_dir=tmp_path / "work")
    assert outcome.manifest.numbers["max_difference"] < 1e-5
    assert outcome.manifest.numbers["opset"] == 18
    assert load_model_info(outcome["exported"].path).opset == 18


def test_pruned_weights_are_zeros_of_one_kind_and_leave_the_coded_file(tmp_path):
    torch.manual_seed(0)
    module = small_cnn((32, 64))
    with torch.no_grad():
        module.conv2.weight.mul_(torch.rand_like(module.conv2.weight) > 0.9)
    assert (torch.signbit(module.conv2.weight) & (module.conv2.weight == 0)).any()
    source = torch_model(
        tmp_path / "sparse", module, "slimline.models.zoo:small_cnn", {"widths": [32, 64]}
    )
    exported = Export(model=source).run(work_dir=tmp_path / "work")["exported"]
    data = (exported.path / "model.onnx").read_bytes()
    (weight,) = (
        numpy_helper.to_array(i)
        for i in onnx.load_from_string(data).graph.initializer
        if i.name == "conv2.weight"
    )
    assert not (np.signbit(weight) & (weight == 0)).any()
    assert len(encode_model(data)) < 0.4 * len(data)


def test_a_static_batch_is_one_and_every_shape_is_fixed(digits, tmp_path):
    outcome = Export(model=digits.torch, dynamic_batch=False).run(work_dir=tmp_path)
    path = outcome["exported"].path / "model.onnx"
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    dimensions = [d for v in values for d in v.type.tensor_type.shape.dim]
    assert dimensions
    assert not any(d.dim_param for d in dimensions)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    x = PREPROCESSING.apply(raw_digits()[0][:20])
    dynamic = logits(session(digits.float_onnx.path / "model.onnx"), x)
    np.testing.assert_allclose(logits(session(path), x, batch=1), dynamic, atol=1e-4)
    with pytest.raises(BadData, match="does not take"):
        logits(session(path), x, batch=2)


def test_what_has_a_fixed_batch_of_its_own_exports_with_a_static_one(tmp_path):
    job = Export(model=made(tmp_path, "fixed_to_one"), dynamic_batch=False)
    assert job.run(work_dir=tmp_path / "work").manifest.numbers["max_difference"] < 1e-5


@pytest.mark.parametrize("opset", [18, 21])
def test_the_ends_of_the_range_of_opsets_work(digits, tmp_path, opset):
    outcome = Export(model=digits.torch, opset=opset).run(work_dir=tmp_path)
    model = onnx.load(outcome["exported"].path / "model.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert outcome.manifest.numbers["max_difference"] < 1e-5


@pytest.mark.parametrize("opset", [17, 22])
def test_another_opset_is_a_bad_parameter_that_tells_the_bounds(digits, opset):
    with pytest.raises(BadParameters, match=r"export: opset: .*(18|21) \(given: \d+\)"):
        Export.parse({"model": digits.torch, "opset": opset})


def test_the_test_split_is_not_for_export(digits, tmp_path):
    with pytest.raises(BadData, match="train or selection split, not test"):
        Export(model=digits.torch, examples=digits.test).run(work_dir=tmp_path)


@pytest.mark.parametrize("name", ["branching", "fixed"])
def test_what_cannot_have_a_dynamic_batch_is_refused_with_the_cure(tmp_path, name):
    with pytest.raises(BadData, match=r"write its forward .*without a fixed batch"):
        Export(model=made(tmp_path, name)).run(work_dir=tmp_path / "work")


def test_a_network_that_answers_otherwise_in_onnx_is_refused(tmp_path):
    with pytest.raises(BadData, match="ONNX differs from torch on random inputs at batch 1"):
        Export(model=made(tmp_path, "noisy")).run(work_dir=tmp_path / "work")


def test_damaged_weights_are_refused(tmp_path):
    module = factories.linear()
    with torch.no_grad():
        module[1].weight[0, 0] = float("nan")
    broken = torch_model(tmp_path / "nan", module, "support.factories:linear", {})
    with pytest.raises(BadData, match="NaN or infinity"):
        Export(model=broken).run(work_dir=tmp_path / "work")


def test_an_onnx_model_is_not_exported_again(digits, tmp_path):
    with pytest.raises(BadData, match="a torch model is needed"):
        Export(model=digits.float_onnx).run(work_dir=tmp_path)


def test_random_inputs_are_of_the_real_shape_and_the_same_in_every_run(digits):
    info = load_model_info(digits.torch.path)
    first, second = random_inputs(info), random_inputs(info)
    assert first.shape[1:] == (1, 8, 8)
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, second)


def test_examples_of_another_shape_are_refused(digits, tmp_path):
    x, y = np.zeros((40, 4, 4, 1), np.uint8), np.zeros(40)
    wrong = dataset(tmp_path / "wrong", "train", x, y)
    with pytest.raises(BadData, match=r"the model takes uint8\[8, 8, 1\]"):
        Export(model=digits.torch, examples=wrong).run(work_dir=tmp_path / "work")
