"""Weights on coarse grids: what the model takes on its way, and what that costs."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.digits import PREPROCESSING, raw_digits

from slimline.coding import decode_model, encode_model
from slimline.contract import BadParameters
from slimline.measure.runtime import logits, session
from slimline.quantize.spec import Quantize


def stepped(digits, root, **values):
    given = {"scheme": "step", "calibration": digits.train, "selection_samples": 64, **values}
    return Quantize(model=digits.float_onnx, **given).run(work_dir=root)


def accuracy(model):
    x, y = raw_digits()
    answers = logits(session(model.path / "model.onnx"), PREPROCESSING.apply(x[1200:]))
    return float((answers.argmax(1) == y[1200:]).mean())


@pytest.fixture(scope="module")
def done(digits, tmp_path_factory):
    return stepped(digits, tmp_path_factory.mktemp("step"))


def test_the_model_takes_a_tenth_of_its_way_and_comes_out_bit_for_bit(digits, done):
    whole = (digits.float_onnx.path / "model.onnx").read_bytes()
    made = (done["quantized"].path / "model.onnx").read_bytes()
    coded = encode_model(made)
    assert decode_model(coded, len(made)) == made
    assert len(coded) < len(whole) / 7
    assert done.manifest.numbers["bytes_on_the_way"] == len(coded)
    assert accuracy(done["quantized"]) > accuracy(digits.float_onnx) - 0.015


def test_levels_are_evenly_spaced_and_few(done):
    graph = onnx.load(done["quantized"].path / "model.onnx").graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    codes = [v for n, v in constants.items() if n.endswith("_codes")]
    assert len(codes) == 3
    assert all(c.dtype == np.uint8 for c in codes)
    assert len(np.unique(max(codes, key=np.size))) < 40
    assert all(len(np.unique(v)) == 1 for n, v in constants.items() if n.endswith("_step"))


def test_a_coarser_step_takes_fewer_bytes_and_compensation_less_loss(digits, done, tmp_path):
    coarse = stepped(digits, tmp_path / "a", step=0.9)
    assert (
        coarse.manifest.numbers["bytes_on_the_way"]
        < 0.85 * done.manifest.numbers["bytes_on_the_way"]
    )
    nearest = stepped(digits, tmp_path / "b", step=0.9, rounding="nearest", correction="none")
    assert coarse.manifest.numbers["loss"] < 0.7 * nearest.manifest.numbers["loss"]


def test_equal_jobs_give_equal_bytes(digits, done, tmp_path):
    assert stepped(digits, tmp_path / "again")["quantized"].digest == done["quantized"].digest


def test_a_step_out_of_bounds_is_told(digits):
    with pytest.raises((BadParameters, ValueError), match="step"):
        Quantize(model=digits.float_onnx, scheme="step", step=0)
