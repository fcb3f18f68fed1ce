"""Bad data stops the run: the message names expectation, observed value and cure."""

import numpy as np
import pytest
from support.sources import encoded, idx_bytes, pictures, write_blobs, write_parquet

from slimline.check_data.frames import example_frame, split_frame
from slimline.check_data.spec import Expectations
from slimline.check_data.suite import Finding, example_checks, split_checks, validate
from slimline.check_data.verdict import judge, refuse_unusable
from slimline.contract import BadData
from slimline.data.dataset import DatasetInfo, Examples
from slimline.data.sources.raw import join, whole
from slimline.data.split import Splitting, place_examples

DIGITS = {"kind": "sklearn", "name": "digits"}


def npz(tmp_path, x, y):
    np.savez(tmp_path / "d.npz", x=x, y=y)
    return {"kind": "npz", "path": str(tmp_path / "d.npz")}


def blobs(count=120):
    generator = np.random.default_rng(0)
    y = np.arange(count) % 2
    return generator.normal(y[:, None], 0.2, (count, 3)).astype(np.float32), y


def test_nan_is_refused(refused, tmp_path):
    x, y = blobs()
    x[7, 1] = np.nan
    said = refused("missing: expected .* at most 0.00%.*observed 1 of 120", npz(tmp_path, x, y))
    assert "fill in or remove those rows, or raise expectations.max_missing" in said


def test_nothing_but_nan_is_refused_though_great_expectations_would_pass_it(refused, tmp_path):
    x, y = blobs()
    source = npz(tmp_path, np.full_like(x, np.nan), y)
    said = refused("120 of 120 otherwise", source, expectations={"max_missing": 0.99})
    assert "the train split is empty" in said


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_with_its_place(refused, tmp_path, value):
    x, y = blobs()
    x[7, 1] = value
    refused(r"example 7 has an infinite value at \[1\]", npz(tmp_path, x, y))


def test_a_number_too_large_for_float32_is_refused(refused, tmp_path):
    write_blobs(tmp_path / "d.csv")
    with (tmp_path / "d.csv").open("a") as file:
        file.write("1,1e300,1,a\n")
    refused("example 400 has an infinite value", {"kind": "csv", "path": str(tmp_path / "d.csv")})


@pytest.mark.parametrize("text", ["a,label\n", "a,label\n\n\n"])
def test_a_source_without_examples_is_refused(refused, tmp_path, text):
    (tmp_path / "d.csv").write_text(text)
    refused("holds no example", {"kind": "csv", "path": str(tmp_path / "d.csv")})


def test_a_filter_that_leaves_nothing_is_refused(refused, tmp_path):
    write_parquet(tmp_path / "p", [encoded(p) for p in pictures(3)], [0, 1, 0], keep=[False] * 3)
    spec = {"kind": "parquet", "path": str(tmp_path), "train": ["p"], "keep_column": "exact"}
    refused("holds no example", spec)


def test_an_empty_official_test_part_is_refused(refused, tmp_path):
    for part, x, y in (
        ("train", pictures(80, channels=1)[..., 0], np.arange(80, dtype=np.uint8) % 2),
        ("t10k", np.zeros((0, 6, 5), np.uint8), np.zeros(0, np.uint8)),
    ):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(y))
    said = refused("test_examples: expected at least 10", {"kind": "idx", "path": str(tmp_path)})
    assert "the test split is empty" in said


def test_labels_outside_the_expected_set_are_refused(refused):
    expected = list("012345678")
    said = refused("label_set: .*observed 180 of 1797 otherwise: 9", DIGITS,
                   expectations={"labels": expected})  # fmt: skip
    assert "expectations.labels" in said


def test_the_right_labels_in_another_order_are_refused(refused):
    refused("label_order: expected classes in the order 9, 8.*observed 0, 1", DIGITS,
            expectations={"labels": list("9876543210")})  # fmt: skip


def test_unbalanced_classes_are_refused(refused, tmp_path):
    x, _ = blobs(400)
    source = npz(tmp_path, x, (np.arange(400) % 20 == 0).astype(int))
    refused("train_ratio: expected largest class at most 3 times .* observed [12]\\d",
            source, expectations={"max_class_ratio": 3})  # fmt: skip


def test_a_class_that_is_missing_from_a_split_is_refused(refused, tmp_path):
    x, _ = blobs(400)
    source = npz(tmp_path, x, (np.arange(400) == 0).astype(int))
    refused("smallest: expected at least 1 examples of each class in .* observed 0", source)


def test_another_shape_than_expected_is_refused(refused):
    refused("shape: expected every example of shape 28x28x1; observed 1797 of 1797 otherwise: 8x8",
            DIGITS, expectations={"shape": [28, 28, 1]})  # fmt: skip


def test_values_out_of_range_and_too_few_examples_are_told_together(refused):
    limits = {"max_value": 200, "min_test": 1000}
    said = refused("2 failed", DIGITS, expectations=limits)
    assert "max_value: expected every value <= 200" in said
    assert "test_examples: expected at least 1000 examples in test; observed 3" in said


def test_blank_images_are_refused(refused, tmp_path):
    x = pictures(100)
    x[:5] = 255
    refused("blank: .*observed 5 of 100", npz(tmp_path, x, np.arange(100) % 2))


def findings_on(raw, expect):
    placement = place_examples(raw, Splitting(0.3, 0.3))
    return validate(example_frame(raw, placement), example_checks(expect, raw))


def test_great_expectations_passes_an_all_nan_range_and_our_verdict_does_not():
    x = np.full((20, 2), np.nan, np.float32)
    raw = join(whole(x, np.zeros(20, np.int64)), None, ("a",), "0" * 64)
    found = findings_on(raw, Expectations(min_value=0, max_missing=0.99)).findings
    assert next(f for f in found if f.key == "min_value").passed
    with pytest.raises(BadData, match="missing: expected"):
        judge("it", found, {})


def test_each_expectation_is_matched_to_its_own_result():
    raw = join(whole(pictures(40), np.arange(40) % 2), None, ("a", "b"), "0" * 64)
    expect = Expectations(shape=(1, 1, 1), max_value=300)
    listed = [c.key for c in example_checks(expect, raw)]
    found = findings_on(raw, expect).findings
    assert [f.key for f in found] == listed
    assert [f.key for f in found if not f.passed] == ["shape"]


@pytest.mark.parametrize("observed", [None, float("nan"), float("inf"), "nan", "inf", ""])
def test_a_passed_check_without_a_finite_observation_is_no_pass(observed):
    finding = Finding("mean", "something", observed, passed=True, cure="look again")
    with pytest.raises(BadData, match=r"- mean: expected something; observed .*; look again"):
        judge("it", [finding], {})


def test_no_split_with_nan_or_nothing_in_it_gets_past_the_verdict():
    good = np.zeros((2, 3), np.float32)
    for x, words in ((good[:0], "empty"), (good * np.nan, "NaN or infinity")):
        info = DatasetInfo(name="d", split="test", shape=(3,), dtype="float32", labels=("a",),
                           count=len(x), source_digest="0" * 64)  # fmt: skip
        examples = Examples(info, x, np.zeros(len(x), np.int64), np.arange(len(x)))
        with pytest.raises(BadData, match=words):
            judge("it", [], {"test": examples})


def test_an_empty_table_does_not_reach_great_expectations():
    raw = join(whole(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)), None, (), "0" * 64)
    with pytest.raises(BadData, match="holds no example"):
        refuse_unusable(raw)


def test_every_split_check_reads_its_own_column():
    y = np.arange(30) % 3
    info = {"name": "d", "shape": (1,), "dtype": "float32", "labels": ("a", "b", "c")}
    splits = {}
    for split, count in (("train", 30), ("selection", 6), ("test", 3)):
        about = DatasetInfo(**info, split=split, count=count, source_digest="0" * 64)
        x = np.zeros((count, 1), np.float32)
        splits[split] = Examples(about, x, y[:count], np.arange(count))
    found = validate(split_frame(splits), split_checks(Expectations(min_test=4))).findings
    observed = {f.key: f.observed for f in found}
    assert observed["train_examples"] == 30
    assert observed["selection_smallest"] == 2
    assert observed["test_ratio"] == 1
    failed = {f.key for f in found if not f.passed}
    assert failed == {"selection_examples", "test_examples"}
