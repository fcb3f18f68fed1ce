import json
import re
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.digits import LABELS, dataset, raw_digits

from slimline.contract import BadData, BadParameters, Model
from slimline.data.preprocess import Preprocessing, Scale, ToNCHW
from slimline.measure.evaluation import load_evaluation
from slimline.measure.exact import exact_confidence
from slimline.measure.intervals import tango_upper
from slimline.measure.runtime import logits, session
from slimline.models.info import ModelInfo, load_model_info, save_model_info
from slimline.validate.page import parity_in_words
from slimline.validate.spec import Validate


@pytest.fixture(scope="module")
def outcome(digits, tmp_path_factory):
    job = Validate(
        baseline=digits.float_onnx,
        stages=(digits.float_onnx,),
        candidate=digits.int8,
        test=digits.test,
        latency_rounds=20,
        margin=0.02,
    )
    return job.run(work_dir=tmp_path_factory.mktemp("validate"))


@pytest.fixture(scope="module")
def record(outcome):
    return load_evaluation(outcome["evaluation"].path)


def altered(source: Model, target, model=None, **changes) -> Model:
    """A copy of a model artifact with another description or network."""
    target.mkdir()
    info: ModelInfo = load_model_info(source.path).model_copy(update=changes)
    save_model_info(info, target)
    network = model or onnx.load(source.path / "model.onnx")
    (target / "model.onnx").write_bytes(network.SerializeToString())
    return Model.at(target)


def answers(model: Model, x: np.ndarray) -> np.ndarray:
    info = load_model_info(model.path)
    return logits(session(model.path / "model.onnx"), info.preprocessing.apply(x)).argmax(1)


def test_accuracy_is_what_counting_by_hand_gives(digits, record):
    x, y = raw_digits()
    for stage, model in zip(record.stages, (digits.float_onnx,) * 2 + (digits.int8,), strict=True):
        right = answers(model, x[1200:]) == y[1200:]
        assert stage.accuracy.value == pytest.approx(right.mean())
        assert stage.accuracy.low < stage.accuracy.value < stage.accuracy.high
        for index, label in enumerate(LABELS):
            assert stage.per_class[label] == pytest.approx(right[y[1200:] == index].mean())


def test_the_paired_comparison_counts_discordant_examples(digits, record):
    x, y = raw_digits()
    before = answers(digits.float_onnx, x[1200:]) == y[1200:]
    after = answers(digits.int8, x[1200:]) == y[1200:]
    paired = record.non_inferiority
    assert paired.examples == 597
    assert paired.only_baseline_right == (before & ~after).sum()
    assert paired.only_candidate_right == (~before & after).sum()
    assert paired.drop == pytest.approx(before.mean() - after.mean())
    counts = paired.only_baseline_right, paired.only_candidate_right, 597
    assert paired.upper_bound == tango_upper(*counts, exact_confidence(597, 0.02, 0.95))
    assert paired.upper_bound >= tango_upper(*counts, 0.95)
    assert paired.upper_bound > paired.drop
    assert (paired.margin, paired.confidence) == (0.02, 0.95)
    assert "Tango" in paired.method


def test_size_latency_and_memory_are_those_of_each_model(digits, record):
    first, middle, last = record.stages
    assert first.bytes == (digits.float_onnx.path / "model.onnx").stat().st_size
    assert last.bytes == (digits.int8.path / "model.onnx").stat().st_size
    assert (first.shrink, first.speedup) == (1, 1)
    assert last.shrink == pytest.approx(first.bytes / last.bytes)
    for stage in (first, middle, last):
        assert stage.latency_min_ms > 0
        assert 0 < stage.latency_ms.low <= stage.latency_ms.value <= stage.latency_ms.high
        assert stage.speedup_interval.low <= stage.speedup <= stage.speedup_interval.high
        assert stage.memory_mb > 0


def test_the_record_names_exact_bytes_and_circumstances(digits, record):
    assert record.candidate_digest == record.stages[-1].model_digest == digits.int8.digest
    assert record.stages[0].model_digest == digits.float_onnx.digest
    assert (record.dataset_digest, record.dataset_split) == (digits.test.digest, "test")
    assert [s.stage for s in record.stages] == ["teacher", "teacher", "quantized"]
    assert re.fullmatch(r"onnxruntime [\d.]+, CPUExecutionProvider, 1 thread", record.runtime)
    assert "load average" in record.machine
    assert record.rounds == 20


def test_the_manifest_has_the_numbers_that_a_dag_shows(outcome, record):
    numbers = outcome.manifest.numbers
    assert numbers["accuracy"] == record.stages[-1].accuracy.value
    assert numbers["upper_bound"] == record.non_inferiority.upper_bound
    assert {"drop", "speedup", "shrink", "latency_ms"} <= numbers.keys()


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for key, value in attrs if key in {"src", "href", "srcset", "action"}]
        assert tag not in {"script", "link", "iframe", "object"}


def test_the_report_needs_no_network(outcome):
    page = (outcome["report"].path / "index.html").read_text()
    links = Links()
    links.feed(page)
    assert len(links.found) >= 4
    assert all(link.startswith("data:image/") for link in links.found)
    assert not re.search(r"https?://|@import|url\(", page)
    assert [p.name for p in outcome["report"].path.iterdir()] == ["index.html"]


def test_the_report_shows_numbers_classes_and_discordant_examples(outcome, record):
    page = (outcome["report"].path / "index.html").read_text()
    assert f"{100 * record.stages[-1].accuracy.value:.2f} %" in page
    assert f"{100 * record.non_inferiority.upper_bound:.2f} points" in page
    paired = record.non_inferiority
    discordant = paired.only_baseline_right + paired.only_candidate_right
    assert page.count('class="card ') == discordant
    assert page.count("data:image/png") == discordant
    assert "quantized to int8-static" in page
    for method in ("Wilson", "Tango", "order-statistic"):
        assert method in page


def test_names_from_outside_are_escaped_in_the_report(digits, tmp_path):
    x, y = raw_digits()
    labels = ("<script>alert(1)</script>", *LABELS[1:])
    test = dataset(tmp_path / "test", "test", x[1200:1300], y[1200:1300], labels)
    model = altered(digits.float_onnx, tmp_path / "m", labels=labels)
    job = Validate(baseline=model, candidate=model, test=test, latency_rounds=20)
    made = job.run(work_dir=tmp_path / "work")
    page = (made["report"].path / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_candidate_that_is_much_worse_is_measured_not_judged(digits, tmp_path):
    network = onnx.load(digits.float_onnx.path / "model.onnx")
    for tensor in network.graph.initializer:
        if tensor.name == "linear.weight":
            flipped = -numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(flipped, tensor.name))
    bad = altered(digits.float_onnx, tmp_path / "bad", network)
    job = Validate(baseline=digits.float_onnx, candidate=bad, test=digits.test, latency_rounds=20)
    numbers = job.run(work_dir=tmp_path / "work").manifest.numbers
    assert numbers["drop"] > 0.5
    assert numbers["upper_bound"] > numbers["drop"]


def test_a_class_that_the_test_split_lacks_has_no_accuracy(digits, tmp_path):
    x, y = raw_digits()
    rows = y[1200:] != 3
    test = dataset(tmp_path / "test", "test", x[1200:][rows], y[1200:][rows])
    job = Validate(baseline=digits.int8, candidate=digits.int8, test=test, latency_rounds=20)
    found = load_evaluation(job.run(work_dir=tmp_path / "work")["evaluation"].path)
    assert set(found.stages[-1].per_class) == set(LABELS) - {"3"}


@pytest.mark.parametrize("split", ["train", "selection"])
def test_only_the_test_split_proves(digits, tmp_path, split):
    job = Validate(baseline=digits.float_onnx, candidate=digits.int8, test=getattr(digits, split))
    with pytest.raises(BadData, match=f"this is its {split} split, test is needed"):
        job.run(work_dir=tmp_path)


def refused(tmp_path, baseline: Model, candidate: Model, test, match: str) -> None:
    with pytest.raises(BadData, match=match) as caught:
        Validate(baseline=baseline, candidate=candidate, test=test).run(work_dir=tmp_path / "work")
    assert caught.value.exit_code == 65


def test_an_empty_test_split_is_refused(digits, tmp_path):
    empty = dataset(tmp_path / "e", "test", np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0))
    refused(tmp_path, digits.float_onnx, digits.int8, empty, "its test split is empty")


def test_a_class_without_a_label_is_refused(digits, tmp_path):
    x, _ = raw_digits()
    wrong = dataset(tmp_path / "e", "test", x[:3], np.array([0, 1, 10]))
    refused(tmp_path, digits.float_onnx, digits.int8, wrong, "names 10 labels")


def test_labels_that_differ_are_refused(digits, tmp_path):
    other = altered(digits.int8, tmp_path / "m", labels=tuple("abcdefghij"))
    refused(
        tmp_path, digits.float_onnx, other, digits.test, r"\(quantized\) has labels \[a, b, c, d, e"
    )


def test_another_raw_shape_is_refused(digits, tmp_path):
    other = altered(
        digits.int8,
        tmp_path / "m",
        preprocessing=Preprocessing(shape=(16, 16, 1), steps=(Scale(), ToNCHW())),
    )
    refused(
        tmp_path,
        other,
        digits.int8,
        digits.test,
        r"takes uint8\[16, 16, 1\].*holds uint8\[8, 8, 1\]",
    )


def test_logits_that_are_not_finite_are_refused(digits, tmp_path):
    network = onnx.load(digits.float_onnx.path / "model.onnx")
    for tensor in network.graph.initializer:
        if tensor.name == "linear.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), tensor.name))
    broken = altered(digits.float_onnx, tmp_path / "m", network)
    refused(tmp_path, digits.float_onnx, broken, digits.test, "NaN or infinity")


def test_a_torch_model_is_refused_with_the_cure(digits, tmp_path):
    refused(tmp_path, digits.torch, digits.int8, digits.test, "is in torch: export it first")


def test_a_model_with_more_logits_than_labels_is_refused(digits, tmp_path):
    x, y = raw_digits()
    rows = y < 5
    test = dataset(tmp_path / "t", "test", x[rows], y[rows], LABELS[:5])
    few = altered(digits.int8, tmp_path / "m", labels=LABELS[:5])
    refused(tmp_path, few, few, test, "gives 10 logits for 5 labels")


def test_rows_of_numbers_are_validated_without_pictures(tmp_path):
    from support.onnx_files import linear_model  # noqa: PLC0415 - one test

    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    weights = numpy_helper.to_array(linear_model().graph.initializer[0])
    y = (x @ weights).argmax(1)
    labels = ("a", "b", "c")
    test = dataset(tmp_path / "t", "test", x, y, labels)
    info = ModelInfo(
        name="rows",
        stage="teacher",
        format="onnx",
        labels=labels,
        preprocessing=Preprocessing(shape=(4,), dtype="float32"),
    )
    models = []
    for name, sign in (("good", 1), ("bad", -1)):
        network = linear_model()
        network.graph.initializer[0].CopyFrom(numpy_helper.from_array(sign * weights, "w"))
        (tmp_path / name).mkdir()
        save_model_info(info, tmp_path / name)
        (tmp_path / name / "model.onnx").write_bytes(network.SerializeToString())
        models.append(Model.at(tmp_path / name))
    made = Validate(baseline=models[0], candidate=models[1], test=test, latency_rounds=20).run(
        work_dir=tmp_path / "work"
    )
    assert made.manifest.numbers["baseline_accuracy"] == 1
    page = (made["report"].path / "index.html").read_text()
    assert page.count('class="card ') == 48
    assert "data:image/png" not in page


def test_parameters_out_of_bounds_are_told_by_name(digits):
    values = {"baseline": str(digits.int8.path), "candidate": str(digits.int8.path)}
    with pytest.raises(BadParameters, match="validate: margin"):
        Validate.parse({**values, "test": str(digits.test.path), "margin": 0})


def test_evaluation_json_is_plain_json(outcome):
    data = json.loads((outcome["evaluation"].path / "evaluation.json").read_text())
    assert data["stages"][0]["stage"] == "teacher"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("exported to ONNX, opset 20", "export checked it"),
        ("adopted from an ONNX file of opset 9", "file was adopted"),
        ("written by hand", "Nothing is known of parity"),
    ],
)
def test_the_report_tells_no_more_of_parity_than_is_known(line, said):
    assert said in parity_in_words(("first", line, "last"))
