"""Each scheme by name on real digits: what the file holds, what runs, what is lost."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from support.digits import PREPROCESSING, raw_digits

from slimline.contract import BadData, BadParameters
from slimline.measure.runtime import import_onnxruntime, logits, session
from slimline.models.info import load_model_info
from slimline.models.quantization import OnnxQuantization, TensorQuantization, save_quantization
from slimline.quantize.ranges import choose_ranges
from slimline.quantize.spec import Quantize

QUICK = {"calibration_samples": 96, "selection_samples": 64, "latency_rounds": 11}


def made(digits, tmp_path, **parameters):
    values = {"model": digits.float_onnx, "calibration": digits.train, **QUICK, **parameters}
    return Quantize(**values).run(work_dir=tmp_path)


def accuracy(model) -> float:
    x, y = raw_digits()
    answers = logits(session(model.path / "model.onnx"), PREPROCESSING.apply(x[1200:]))
    return float((answers.argmax(1) == y[1200:]).mean())


def graph_of(outcome):
    return onnx.load(outcome["quantized"].path / "model.onnx").graph


def as_it_runs(outcome, tmp_path):
    """The graph that ONNX Runtime makes of the file: operators, and constants by name."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "runs.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    path = str(outcome["quantized"].path / "model.onnx")
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "runs.onnx").graph


def kinds(graph) -> set[str]:
    return {node.op_type for node in graph.node}


def restored_weights(outcome, tmp_path) -> list[np.ndarray]:
    """The float weights after ONNX Runtime folded what restores them."""
    graph = as_it_runs(outcome, tmp_path)
    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    weighted = [n for n in graph.node if n.op_type in {"Conv", "FusedConv", "Gemm", "MatMul"}]
    return [arrays[n.input[1]] for n in weighted]


def test_int8_tries_every_form_and_says_why_it_took_one(digits, tmp_path):
    outcome = made(digits, tmp_path, scheme="int8")
    numbers = outcome.manifest.numbers
    assert set(numbers["candidates"]) == {"u8s8-qdq", "u8s8-qoperator", "s8s8-qdq", "dynamic"}
    assert numbers["form"] in numbers["candidates"]
    assert all(c["speedup"] > 0 and c["bytes"] > 0 for c in numbers["candidates"].values())
    page = (outcome["report"].path / "index.html").read_text()
    assert "Forms of int8" in page
    assert "is the fastest of" in page
    assert "Ranges:" in page
    assert accuracy(outcome["quantized"]) > accuracy(digits.float_onnx) - 0.03


def test_int8_by_rules_uses_no_clock_and_gives_the_same_bytes(digits, tmp_path):
    runs = [made(digits, tmp_path / n, scheme="int8", plan="rules") for n in ("a", "b")]
    assert runs[0]["quantized"].digest == runs[1]["quantized"].digest
    assert runs[0].manifest.numbers["form"] == "u8s8-qdq"


def test_int4_weights_become_matmulnbits_at_accuracy_level_4_and_packed_codes(digits, tmp_path):
    outcome = made(digits, tmp_path, scheme="int4-weights")
    graph = graph_of(outcome)
    product = next(n for n in graph.node if n.op_type == "MatMulNBits")
    assert {a.name: a.i for a in product.attribute if a.type == 2}["accuracy_level"] == 4
    types = [i.data_type for i in graph.initializer if i.name.endswith("_codes")]
    assert types.count(TensorProto.UINT4) == 2
    numbers = outcome.manifest.numbers
    assert numbers["float_operators"] == {}
    assert numbers["restored_operators"] == {"Conv": 2}
    assert numbers["shrink"] > 4
    assert accuracy(outcome["quantized"]) > accuracy(digits.float_onnx) - 0.03
    # Nothing is restored in a call: what does so was folded at load.
    assert not kinds(as_it_runs(outcome, tmp_path)) & {"Cast", "Sub", "Mul", "DequantizeLinear"}


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_int4_weights_with_int8_activations_run_as_integers(digits, tmp_path, form):
    outcome = made(digits, tmp_path, scheme="int4-weights", activations="int8", format=form)
    types = [i.data_type for i in graph_of(outcome).initializer]
    assert types.count(TensorProto.INT4) == 3
    runs = kinds(as_it_runs(outcome, tmp_path))
    assert "QLinearConv" in runs
    assert not runs & {"Conv", "Gemm", "MatMul", "Cast"}
    assert outcome.manifest.numbers["weights_stored_as"] == {"int4": 3}
    assert accuracy(outcome["quantized"]) > accuracy(digits.float_onnx) - 0.03


def test_blocks_that_are_moved_to_where_the_weights_are_have_zero_points(digits, tmp_path):
    outcome = made(digits, tmp_path, scheme="int4-weights", symmetric=False)
    product = next(n for n in graph_of(outcome).node if n.op_type == "MatMulNBits")
    assert len(product.input) == 4
    assert accuracy(outcome["quantized"]) > accuracy(digits.float_onnx) - 0.03


@pytest.mark.parametrize(("scheme", "kind"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_half_precision_halves_the_file_and_keeps_float_input_and_output(
    digits, tmp_path, scheme, kind
):
    outcome = made(digits, tmp_path, scheme=scheme, calibration=None)
    numbers = outcome.manifest.numbers
    assert 1.7 < numbers["shrink"] < 2.05
    assert numbers["weights_stored_as"] == {kind.lower(): 3}
    assert accuracy(outcome["quantized"]) == pytest.approx(accuracy(digits.float_onnx), abs=0.01)
    assert "Cast" not in kinds(as_it_runs(outcome, tmp_path))


def test_fp16_can_compute_in_half_precision_and_bf16_says_why_it_cannot(digits, tmp_path):
    outcome = made(digits, tmp_path / "a", scheme="fp16", half_compute=True)
    graph = graph_of(outcome)
    weights = {i.name: i.data_type for i in graph.initializer}
    assert {weights[n.input[1]] for n in graph.node if n.op_type == "Conv"} == {TensorProto.FLOAT16}
    assert "speedup" in outcome.manifest.numbers
    with pytest.raises(BadParameters, match="no bfloat16 convolution"):
        made(digits, tmp_path / "b", scheme="bf16", half_compute=True)


@pytest.mark.parametrize(
    ("bits", "per"), [(2, "tensor"), (4, "tensor"), (4, "channel"), (6, "tensor")]
)
def test_kmeans_weights_take_no_more_values_than_the_list_has(digits, tmp_path, bits, per):
    outcome = made(digits, tmp_path, scheme="kmeans", codebook_bits=bits, codebook_per=per)
    graph = graph_of(outcome)
    books = {
        i.name: numpy_helper.to_array(i) for i in graph.initializer if i.name.endswith("_book")
    }
    assert len(books) == 3
    known = {v.item() for book in books.values() for v in book.reshape(-1)}
    for weight in restored_weights(outcome, tmp_path):
        values = set(weight.reshape(-1).tolist())
        assert values <= known
        assert len(values) <= 2**bits * (1 if per == "tensor" else len(weight))
    if bits <= 4:
        codes = [i for i in graph.initializer if i.name.endswith("_codes")]
        assert {i.data_type for i in codes} == {TensorProto.UINT4}
        held = sum(len(i.raw_data) for i in codes)
        count = sum(w.size for w in restored_weights(outcome, tmp_path))
        assert held == pytest.approx(count * bits / 8, abs=3)


@pytest.mark.parametrize("bits", [4, 5])
def test_power_of_two_weights_are_zero_or_powers_of_two(digits, tmp_path, bits):
    outcome = made(digits, tmp_path, scheme="power-of-two", codebook_bits=bits)
    for weight in restored_weights(outcome, tmp_path):
        values = np.unique(np.abs(weight[weight != 0]))
        assert np.array_equal(np.log2(values), np.round(np.log2(values)))
        assert len(np.unique(weight)) <= 2**bits - 1
    assert accuracy(outcome["quantized"]) > accuracy(digits.float_onnx) - 0.05


def test_mixed_gives_each_layer_bits_under_the_budget(digits, tmp_path):
    outcome = made(digits, tmp_path / "a", scheme="mixed", max_drop=0.02)
    numbers = outcome.manifest.numbers
    assert set(numbers["bits"].values()) <= {4, 8, 32}
    assert len(numbers["bits"]) == 3
    assert numbers["drop_on_train"] <= 0.02
    assert "int4" in numbers["weights_stored_as"]
    with pytest.raises(BadParameters, match="max_drop: mixed chooses bits under a budget"):
        made(digits, tmp_path / "b", scheme="mixed")


def test_sensitive_layers_go_back_to_float_until_the_budget_holds(digits, tmp_path, monkeypatch):
    def far_too_narrow(found, method, percentile):
        whole = choose_ranges(found, method, percentile)
        return {n: (0.02 * a, 0.02 * b) if n == "input" else (a, b) for n, (a, b) in whole.items()}

    for module in ("static", "budget"):
        monkeypatch.setattr(f"slimline.quantize.{module}.choose_ranges", far_too_narrow)
    coarse = {"allow_larger": True}
    lost = made(digits, tmp_path / "a", **coarse).manifest.numbers
    assert lost["drop_on_train"] > 0.05
    kept = made(digits, tmp_path / "b", max_drop=0.03, **coarse).manifest.numbers
    assert kept["drop_on_train"] <= 0.03
    ranked = list(kept["sensitivity"])
    assert kept["put_back"]
    assert kept["put_back"] == ranked[: len(kept["put_back"])]
    assert sum(kept["float_operators"].values()) == len(kept["put_back"])


def test_learned_scales_are_taken_as_they_are(digits, tmp_path):
    source = tmp_path / "learned"
    source.mkdir()
    for path in digits.float_onnx.path.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    graph = onnx.load(source / "model.onnx").graph
    first = next(n for n in graph.node if n.op_type == "Conv")
    weight = next(numpy_helper.to_array(i) for i in graph.initializer if i.name == first.input[1])
    scale = tuple(float(s) for s in np.linspace(0.011, 0.019, len(weight)))
    tensors = {
        first.input[1]: TensorQuantization(
            scale=scale, zero_point=(0,) * len(scale), bits=8, axis=0, symmetric=True
        ),
        "input": TensorQuantization(scale=(0.0123,), zero_point=(7,), bits=8, symmetric=False),
    }
    save_quantization(OnnxQuantization(tensors=tensors), source)
    model = type(digits.float_onnx).at(source)
    outcome = made(digits, tmp_path / "work", model=model)
    stored = {i.name: numpy_helper.to_array(i) for i in graph_of(outcome).initializer}
    np.testing.assert_allclose(stored[f"{first.input[1]}_scale"], scale, rtol=1e-6)
    assert stored["input_scale"] == pytest.approx(0.0123)
    assert stored["input_zero_point"] == 7
    assert outcome.manifest.numbers["learned_scales"] == 2
    assert "learned in training" in load_model_info(outcome["quantized"].path).history[-1]


def test_a_record_of_another_model_is_refused(digits, tmp_path):
    source = tmp_path / "learned"
    source.mkdir()
    for path in digits.float_onnx.path.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tensor = TensorQuantization(scale=(0.1,), zero_point=(0,), bits=8, symmetric=True)
    save_quantization(OnnxQuantization(tensors={"elsewhere": tensor}), source)
    with pytest.raises(BadData, match="names no weight of this graph"):
        made(digits, tmp_path / "work", model=type(digits.float_onnx).at(source))


def test_compensated_int8_and_correction_are_kept_only_if_they_help(digits, tmp_path):
    outcome = made(digits, tmp_path, rounding="compensated", correction="variance")
    numbers = outcome.manifest.numbers
    assert numbers["correction"] in {"none", "variance"}
    assert numbers["float_operators"] == {}
    assert "Correction" in (outcome["report"].path / "index.html").read_text()


@pytest.mark.parametrize(
    "parameters",
    [
        {"scheme": "int4-weights"},
        {"scheme": "kmeans"},
        {"scheme": "int4-weights", "activations": "int8"},
    ],
)
def test_the_same_seed_makes_the_same_bytes(digits, tmp_path, parameters):
    runs = [made(digits, tmp_path / n, **parameters)["quantized"].digest for n in ("a", "b")]
    assert runs[0] == runs[1]


def test_without_examples_four_bits_round_to_nearest(digits, tmp_path):
    outcome = made(digits, tmp_path, scheme="int4-weights", calibration=None)
    assert outcome.manifest.numbers["shrink"] > 4
    assert outcome.manifest.numbers["loss"] is None


def test_a_speed_that_is_surely_not_reached_is_refused(digits, tmp_path):
    with pytest.raises(BadData, match=r"require_speedup: fp16 is .* 100.0 is required"):
        made(digits, tmp_path, scheme="fp16", require_speedup=100)
