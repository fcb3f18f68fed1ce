"""The parts that choose and round: exact on small cases."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimline.contract import BadData, Dataset, Model
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.data.preprocess import Preprocessing
from slimline.measure.evaluation import Interval
from slimline.quantize.codebook import kmeans_book, power_book
from slimline.quantize.coded import code_uniform, with_values
from slimline.quantize.correction import correct, undone
from slimline.quantize.examples import Stream, draw_examples, split_rows
from slimline.quantize.hessian import patches
from slimline.quantize.layers import find_layers
from slimline.quantize.loss import divergence
from slimline.quantize.planner import Candidate, choose
from slimline.quantize.probe import inner_values
from slimline.quantize.ranges import Histogram, choose_ranges
from slimline.quantize.rounding import output_error, round_weight, uniform_grid, values_of
from slimline.quantize.spec import Quantize
from slimline.quantize.speed import check_fast

RANDOM = np.random.default_rng(0)


def convolution(groups=1, **attributes):
    """A model of one convolution, 4 -> 6 channels, on 9x9 images."""
    weight = RANDOM.normal(size=(6, 4 // groups, 3, 3)).astype(np.float32)
    node = helper.make_node(
        "Conv", ["input", "w"], ["logits"], name="c", group=groups, **attributes
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["b", 4, 9, 9])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def stream(count=40):
    raw = RANDOM.normal(0.7, 1, size=(count, 4, 9, 9)).astype(np.float32)
    form = Preprocessing(shape=(4, 9, 9), dtype="float32")
    return Stream(raw, np.zeros(count, np.int64), form)


@pytest.mark.parametrize(
    ("groups", "attributes"),
    [
        (1, {"pads": [1, 1, 1, 1]}),
        (2, {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
        (1, {"dilations": [2, 2]}),
        (1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        (2, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ],
)
def test_a_convolution_is_a_product_with_its_patches(groups, attributes):
    model = convolution(groups, **attributes)
    layer = find_layers(model)[0][0]
    x = stream(2).raw.astype(np.float32)
    seen = patches(model.graph.node[0], layer, x, np.random.default_rng(0))
    weight = numpy_helper.to_array(model.graph.initializer[0]).reshape(groups, 6 // groups, -1)
    ours = np.concatenate([p @ w.T for p, w in zip(seen, weight, strict=True)], 1)
    only = Stream(x, np.zeros(2, np.int64), Preprocessing(shape=(4, 9, 9), dtype="float32"))
    theirs = next(inner_values(model, ["logits"], only))["logits"]
    expected = np.moveaxis(theirs, 1, -1).reshape(-1, 6)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_compensated_rounding_errs_less_in_the_output_than_the_nearest(groups):
    weight = RANDOM.normal(size=(8, 24)).astype(np.float32)
    mix = RANDOM.normal(size=(24, 24))
    x = (RANDOM.normal(size=(groups, 500, 24)) @ mix).astype(np.float32)
    moments = np.matmul(x.transpose(0, 2, 1), x) / 500
    errors = []
    for given in (None, moments):
        grid, codes = round_weight(weight, given, 4)
        assert codes.min() >= -8
        assert codes.max() <= 7
        errors.append(output_error(values_of(grid, codes) - weight, moments).sum())
    assert errors[1] < 0.6 * errors[0]


def test_a_grid_that_is_moved_spans_weights_of_one_sign_twice_as_finely():
    weight = RANDOM.uniform(0, 1, size=(4, 32)).astype(np.float32)
    grids = [uniform_grid(weight, 4, 32, symmetric=s) for s in (True, False)]
    assert grids[1].scale[0, 0] == pytest.approx(grids[0].scale[0, 0] / 2, rel=0.1)


def test_correction_puts_means_and_variances_of_channels_right():
    model = convolution(pads=[1, 1, 1, 1])
    layers, _ = find_layers(model)
    examples = stream()
    coded = code_uniform(model, layers, None, 2)

    def moments(of):
        values = np.concatenate([v["logits"] for v in inner_values(of, ["logits"], examples)])
        return values.mean((0, 2, 3)), values.std((0, 2, 3))

    wanted, before = moments(model), moments(with_values(model, coded))
    assert np.abs(before[0] - wanted[0]).max() > 0.05
    based, after = correct(model, coded, examples, variance=True)
    got = moments(with_values(based, after))
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-3)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-3)
    assert np.array_equal(after["c"].codes, coded["c"].codes)
    # A layer that goes back to its float weight goes back to its own bias too.
    back = moments(undone(based, model, coded, ["c"]))
    np.testing.assert_allclose(back, wanted, atol=1e-5)


def test_kmeans_finds_clusters_that_are_there():
    centres = np.array([-2.0, -0.5, 0.25, 3.0])
    weight = (
        (np.repeat(centres, 50) + RANDOM.normal(0, 0.01, 200)).reshape(4, 50).astype(np.float32)
    )
    book = kmeans_book(weight, 2, per_channel=False, importance=np.ones(weight.shape))
    np.testing.assert_allclose(book.book, centres, atol=0.01)
    own = kmeans_book(weight, 2, per_channel=True, importance=np.ones(weight.shape))
    assert own.book.shape == (4, 4)


def test_powers_of_two_have_both_signs_and_zero():
    weight = RANDOM.normal(size=(3, 40)).astype(np.float32)
    book = power_book(weight, 3, per_channel=False, importance=np.ones(weight.shape)).book
    assert len(book) == 7
    assert 0 in book
    np.testing.assert_array_equal(book, -book[::-1])
    assert set(np.log2(book[book > 0]) % 1) == {0}


def test_ranges_of_least_squares_cut_a_lonely_outlier_and_minmax_does_not():
    counts = np.zeros(2048)
    counts[:200], counts[-1] = 100_000, 1
    found = {"t": Histogram(0.0, 10.0, counts)}
    assert choose_ranges(found, "minmax")["t"] == (0.0, 10.0)
    for method in ("mse", "percentile"):
        low, high = choose_ranges(found, method, 99.9)["t"]
        assert low == pytest.approx(0, abs=0.01)
        assert 0.9 < high < 2


def test_divergence_is_zero_for_equal_answers_and_counts_probabilities():
    answers = RANDOM.normal(size=(5, 3)).astype(np.float32)
    assert divergence(answers, answers + 7) == pytest.approx(0, abs=1e-7)
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    got = divergence(np.log(p).astype(np.float32), np.log(q).astype(np.float32))
    assert got == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=1e-6)


def test_judges_are_other_examples_and_a_small_set_is_divided():
    order = np.arange(100)
    first, then = split_rows(order, 60, 40)
    assert (len(first), len(then)) == (60, 40)
    first, then = split_rows(order, 100, 40)
    assert (len(first), len(then)) == (75, 25)
    assert not set(first) & set(then)


def test_drawing_examples_takes_the_memory_of_those_drawn(tmp_path):
    info = DatasetInfo(
        name="large", split="train", shape=(32, 32, 3), dtype="uint8", labels=("a", "b"),
        count=15_000, source_digest="0" * 64,
    )  # fmt: skip
    x, y = np.zeros((15_000, 32, 32, 3), np.uint8), np.zeros(15_000, np.int64)
    save_examples(Examples(info, x, y, np.arange(15_000)), tmp_path)
    form = SimpleNamespace(preprocessing=Preprocessing(shape=(32, 32, 3)))
    size, job = x.nbytes, Quantize(model=Model.at(tmp_path), calibration=Dataset.at(tmp_path))
    del x
    tracemalloc.start()
    drawn = draw_examples(job, form)
    batches = sum(1 for _ in drawn.fit.batches())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(drawn.fit), len(drawn.judge), batches) == (256, 256, 8)
    assert peak < size / 10


def latency(speed, low, high, milliseconds=1.0):
    flat = Interval(value=milliseconds, low=milliseconds, high=milliseconds)
    speedup = Interval(value=speed, low=low, high=high)
    return SimpleNamespace(median_ms=flat, speedup=speedup)


def candidate(name, loss, speed, size):
    model = onnx.ModelProto(producer_name="x" * size)
    return Candidate(name, None, model, SimpleNamespace(value=loss), latency(*speed))


def test_the_planner_takes_the_fastest_of_equal_loss_and_the_smaller_of_equal_speed():
    slow = candidate("slow", 0.01, (0.8, 0.7, 0.9), 210)
    fast = candidate("fast", 0.011, (2.0, 1.9, 2.1), 300)
    alike = candidate("alike", 0.012, (1.95, 1.85, 2.05), 200)
    wrong = candidate("wrong", 0.9, (9.0, 8.9, 9.1), 210)
    best, reasons = choose([slow, fast, alike, wrong], measured=True)
    assert best is alike
    assert "wrong is out" in reasons[0]
    assert "cannot be told from it in speed" in reasons[-1]
    assert choose([slow, fast, wrong], measured=True)[0] is fast
    assert choose([slow, fast, wrong], measured=False)[0] is slow


def test_a_form_that_leaves_most_in_float_loses_nothing_and_is_not_taken_for_that():
    idle = candidate("idle", 0.0001, (1.0, 0.9, 1.1), 400)
    whole = candidate("whole", 0.01, (2.0, 1.9, 2.1), 110)
    best, reasons = choose([whole, idle], measured=True)
    assert best is whole
    assert "idle is out: it has 4" in reasons[0]


def test_only_what_is_surely_and_noticeably_slower_is_refused():
    job, base = Quantize.model_construct(scheme="int8-static"), latency(1, 1, 1, 1.0)
    check_fast(job, base, latency(0.9, 0.7, 1.1, 1.1))
    check_fast(job, latency(1, 1, 1, 0.01), latency(0.5, 0.4, 0.6, 0.02))
    slower = latency(0.8, 0.7, 0.9, 1.25)
    with pytest.raises(BadData, match=r"slower on this machine.*scheme int8.*allow_slower"):
        check_fast(job, base, slower)
    check_fast(Quantize.model_construct(scheme="int8-static", allow_slower=True), base, slower)
    check_fast(Quantize.model_construct(scheme="kmeans"), base, slower)
