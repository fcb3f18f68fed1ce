"""Trained in levels, exported, quantized: what torch computed is what ONNX Runtime computes."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.teacher import taught

from slimline.contract import BadData
from slimline.data.dataset import load_examples
from slimline.export.spec import Export
from slimline.measure.runtime import logits, session
from slimline.models.build import load_torch_model, save_torch_model
from slimline.models.quantization import (
    OnnxQuantization,
    Quantization,
    load_quantization,
    save_quantization,
)
from slimline.models.zoo import cifar_resnet
from slimline.qat.spec import Qat
from slimline.quantize.spec import Quantize
from slimline.train.spec import Train

RESNET = {"depth": 8, "shortcut": "A", "widths": [8, 16, 16]}


@cache
def qat(model=None, **values):
    teacher = taught()
    values = {"model": model or teacher.model, "epochs": 2, **values}
    return Qat.parse({**teacher.inputs(), **values}).run()["trained"]


@cache
def exported(model=None, **values):
    return Export(model=qat(model, **values)).run()


def float_onnx(**values):
    return exported(**values)["exported"]


def quantized(model, **values):
    small = {"allow_slower": True, "allow_larger": True}
    job = {"model": model, "calibration": taught().splits.train, **small, **values}
    return Quantize.parse(job).run()["quantized"]


def graph(model):
    return onnx.load(model.path / "model.onnx").graph


def constants(model):
    return {i.name: numpy_helper.to_array(i) for i in graph(model).initializer}


def unseen():
    return load_examples(taught().splits.test)


def answers(model):
    info, examples = load_torch_model(qat().path)[1], unseen()
    return logits(session(model.path / "model.onnx"), info.preprocessing.apply(examples.x))


def fake_answers(model):
    """The plain torch model with its inputs rounded as the record says, and nothing of ours."""
    module, info = load_torch_model(model.path)
    for path, told in load_quantization(Quantization, model.path).activations.items():

        def rounded(_, given, told=told):
            integers = (given[0] / told.scale).round() + told.zero_point
            return (integers.clamp(0, 255) - told.zero_point) * told.scale

        module.get_submodule(path).register_forward_pre_hook(rounded)
    with torch.no_grad():
        return module(torch.from_numpy(info.preprocessing.apply(unseen().x))).numpy()


def test_torch_in_levels_and_the_integer_file_answer_alike():
    ours, theirs = fake_answers(qat()), answers(quantized(float_onnx()))
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.99
    assert np.abs(ours - theirs).mean() < 0.005 * np.abs(ours).max()
    assert (theirs.argmax(1) == unseen().y).mean() > 0.95


def test_learned_scales_are_those_of_the_integer_file():
    told = load_quantization(OnnxQuantization, float_onnx().path).tensors
    model = quantized(float_onnx())
    kept, nodes = constants(model), graph(model).node
    found = {n.input[0]: n for n in nodes if n.op_type == "QuantizeLinear"}
    for name in ("input", "relu", "max_pool2d", "relu_1", "max_pool2d_1", "mean"):
        assert kept[found[name].input[1]] == np.float32(told[name].scale[0])
        assert kept[found[name].input[2]] == told[name].zero_point[0]
    restored = {n.input[0]: n for n in nodes if n.op_type == "DequantizeLinear"}
    for name in ("conv1.weight", "conv2.weight", "conv3.weight", "linear.weight"):
        node = next(n for i, n in restored.items() if i.startswith(name))
        np.testing.assert_array_equal(kept[node.input[1]], np.float32(told[name].scale))
        exact = constants(float_onnx())[name].reshape(len(told[name].scale), -1)
        integers = kept[node.input[0]].reshape(exact.shape)
        np.testing.assert_allclose(integers * np.float32(told[name].scale)[:, None], exact,
                                   atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({"weight_bits": 4}, 16),
        ({"weight_bits": 2}, 4),
        ({"weights": "binary"}, 2),
        ({"weights": "ternary"}, 3),
        ({"weights": "codebook", "weight_bits": 2}, 4),
    ],
    ids=str,
)
def test_folding_batch_norm_leaves_each_channel_its_levels(values, most):
    outcome = exported(**values)
    assert outcome.manifest.numbers["levels_lost"] == {}
    kept = constants(outcome["exported"])
    own = load_torch_model(qat(**values).path)[0]
    for name in ("conv2.weight", "conv3.weight"):
        assert not np.allclose(kept[name], own.get_parameter(name).detach().numpy())
        rows = kept[name].reshape(len(kept[name]), -1)
        assert all(len(np.unique(row.round(6))) <= most for row in rows)


@pytest.mark.parametrize("values", [{"weights": "binary"}, {"weights": "ternary"}], ids=str)
def test_few_levels_are_exact_as_integers_too(values):
    model = quantized(float_onnx(**values))
    assert np.mean(fake_answers(qat(**values)).argmax(1) == answers(model).argmax(1)) >= 0.99


def test_four_bits_are_stored_in_four():
    eight, four = (quantized(float_onnx(**v)) for v in ({}, {"weight_bits": 4}))
    kinds = {i.name: i.data_type for i in graph(four).initializer}
    narrow = {n.split(".weight")[0] for n, k in kinds.items() if k == onnx.TensorProto.INT4}
    assert narrow == {"conv2", "conv3"}
    sizes = [(m.path / "model.onnx").stat().st_size for m in (four, eight)]
    assert sizes[0] < sizes[1] - 1000
    same = fake_answers(qat(weight_bits=4)).argmax(1) == answers(four).argmax(1)
    assert same.mean() >= 0.99


def test_a_codebook_of_a_binary_network_is_small_and_keeps_two_levels_a_channel():
    model = float_onnx(weights="binary", edge_bits=0)
    coded = quantized(
        model, scheme="kmeans", codebook_bits=2, codebook_per="channel", rounding="nearest",
        correction="none",
    )  # fmt: skip
    sizes = [(m.path / "model.onnx").stat().st_size for m in (coded, model)]
    assert sizes[0] < sizes[1]
    np.testing.assert_allclose(answers(coded), answers(model), atol=1e-3)


def test_a_residual_network_is_carried_whole():
    factory = {"call": "slimline.models.zoo:cifar_resnet", "arguments": RESNET}
    values = {**taught().inputs(), "factory": factory, "epochs": 2, "learning_rate": 0.01}
    model = Train.parse(values).run()["model"].path
    outcome = exported(model)
    assert outcome.manifest.numbers["levels_lost"] == {}
    told = load_quantization(OnnxQuantization, outcome["exported"].path).tensors
    wanted = [n for n, p in cifar_resnet(**RESNET, channels=1).named_parameters() if p.ndim > 1]
    assert set(wanted) < set(told)
    ours, theirs = fake_answers(qat(model)), answers(quantized(outcome["exported"]))
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.97


def copied(tmp_path, change):
    """The trained model with another record, or other weights."""
    module, info = load_torch_model(qat().path)
    told = load_quantization(Quantization, qat().path)
    save_torch_model(module, info, tmp_path)
    save_quantization(change(told), tmp_path)
    return tmp_path


def test_a_record_of_other_weights_is_refused(tmp_path):
    def other(told):
        wrong = told.weights["conv2.weight"]
        scale = tuple(1.37 * s for s in wrong.scale)
        changed = {"conv2.weight": wrong.model_copy(update={"scale": scale})}
        return told.model_copy(update={"weights": told.weights | changed})

    with pytest.raises(BadData, match=r"conv2\.weight does not lie on its levels"):
        Export.parse({"model": copied(tmp_path, other)}).run()


def test_a_record_of_another_network_is_refused(tmp_path):
    def other(told):
        return told.model_copy(update={"weights": {"stem.weight": told.weights["conv2.weight"]}})

    with pytest.raises(BadData, match=r"stem\.weight with 16 channels is not in the network"):
        Export.parse({"model": copied(tmp_path, other)}).run()


def test_a_model_that_was_not_trained_in_levels_gets_no_record():
    outcome = Export.parse({"model": taught().model}).run()
    assert load_quantization(OnnxQuantization, outcome["exported"].path) is None
    assert "quantized_tensors" not in outcome.manifest.numbers
