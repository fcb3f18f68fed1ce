"""Good data comes out as three datasets and a report, the same each time."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from pydantic import TypeAdapter
from support.sources import pictures, write_blobs, write_folder

from slimline.check_data.spec import CheckData
from slimline.contract import BadParameters, load_component
from slimline.contract.code import code_digest
from slimline.data.dataset import load_examples
from slimline.data.sources import read_source
from slimline.data.spec import Source

SPLITS = ("train", "selection", "test")


def splits_of(outcome):
    return {s: load_examples(outcome[s].path, split=s) for s in SPLITS}


def test_the_splits_hold_every_digit_once_with_its_label(checked_digits):
    raw = read_source(TypeAdapter(Source).validate_python({"kind": "sklearn"}))
    splits = splits_of(checked_digits)
    ids = np.concatenate([s.id for s in splits.values()])
    assert sorted(ids.tolist()) == list(range(1797))
    for split in splits.values():
        assert np.array_equal(split.x, raw.x[split.id])
        assert np.array_equal(split.y, raw.y[split.id])
        assert split.info.source_digest == raw.digest


def test_no_example_of_the_test_split_is_in_another(checked_digits):
    splits = splits_of(checked_digits)
    found = {s: {hashlib.sha256(x).digest() for x in e.x} for s, e in splits.items()}
    assert not found["test"] & (found["train"] | found["selection"])
    assert not found["train"] & found["selection"]


def test_the_numbers_say_what_was_found(checked_digits):
    numbers, splits = checked_digits.manifest.numbers, splits_of(checked_digits)
    assert {s: numbers[s] for s in SPLITS} == {s: len(e) for s, e in splits.items()}
    assert numbers["read"] == sum(numbers[s] for s in SPLITS) == 1797
    assert numbers["classes"] == 10
    assert numbers["expectations_passed"] == numbers["expectations_evaluated"] >= 15
    counts = np.bincount(splits["train"].y)
    balance = numbers["class_balance"]["train"]
    assert balance["smallest"] == counts.min()
    assert balance["ratio"] == pytest.approx(counts.max() / counts.min())
    x = splits["train"].x / 255
    assert numbers["channel_mean"] == pytest.approx([x.mean()])
    assert numbers["channel_std"] == pytest.approx([x.std()])
    json.dumps(numbers, allow_nan=False)


def test_the_same_source_gives_the_same_bytes_again(checked_digits, check):
    again = check({"kind": "sklearn", "name": "digits"}, name="digits")
    for name in (*SPLITS, "report"):
        assert again[name].digest == checked_digits[name].digest


def test_the_report_opens_offline_and_shows_every_expectation_and_class(checked_digits):
    root = checked_digits["report"].path
    page = (root / "index.html").read_text()
    assert not re.search(r"https?://|<script|<link", page)
    assert (
        page.count("<td class=yes>holds")
        == checked_digits.manifest.numbers["expectations_evaluated"]
    )
    assert page.count("data:image/png;base64,") == 10 * 10
    assert "class=no" not in page
    by_example, by_split = json.loads((root / "validation.json").read_text())
    assert by_example["success"] is by_split["success"] is True
    kinds = {r["expectation_config"]["type"] for r in by_example["results"]}
    assert "expect_column_values_to_be_in_set" in kinds


def test_names_from_the_data_cannot_write_html(tmp_path, check):
    classes = ("<script>alert(1)</script>", "b&b")
    write_blobs(tmp_path / "d.csv", classes=classes)
    page = check({"kind": "csv", "path": str(tmp_path / "d.csv")})["report"].path / "index.html"
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()


def test_rows_are_checked_and_kept_as_float32(tmp_path, check):
    write_blobs(tmp_path / "d.csv")
    outcome = check(
        {"kind": "csv", "path": str(tmp_path / "d.csv")},
        expectations={"shape": [3], "labels": ["a", "b"], "min_value": -5, "max_value": 5},
    )
    train = load_examples(outcome["train"].path)
    assert train.x.dtype == np.float32
    assert train.x.shape[1:] == (3,)
    assert "Features in training" in (outcome["report"].path / "index.html").read_text()


def test_an_official_test_part_becomes_the_test_split_and_its_copies_leave_training(
    tmp_path, check
):
    x = pictures(120)
    x[5] = x[110]
    write_folder(tmp_path / "train", {"a": x[:50], "b": x[50:100]})
    write_folder(tmp_path / "test", {"a": x[100:110], "b": x[110:]})
    paths = {"path": str(tmp_path / "train"), "test_path": str(tmp_path / "test")}
    outcome = check({"kind": "folder", **paths}, selection_fraction=0.3)
    assert outcome.manifest.numbers["duplicates_dropped"] == 1
    assert outcome.manifest.numbers["test"] == 20
    test = load_examples(outcome["test"].path, split="test")
    assert sorted(test.id.tolist()) == list(range(100, 120))


def test_a_limit_makes_a_quick_run_small(check):
    outcome = check({"kind": "sklearn", "name": "digits"}, limit=60)
    numbers = outcome.manifest.numbers
    assert [numbers[s] for s in SPLITS] == [60, 60, 60]
    assert numbers["over_limit"] == 1797 - 180


def test_allowed_missing_values_are_left_out_and_counted(tmp_path, check):
    lines = write_blobs(tmp_path / "d.csv")
    lines[3] = ",1,1,a"
    (tmp_path / "d.csv").write_text("\n".join(lines))
    source = {"kind": "csv", "path": str(tmp_path / "d.csv")}
    outcome = check(source, expectations={"max_missing": 0.01})
    assert outcome.manifest.numbers["missing_dropped"] == 1
    ids = [i for s in splits_of(outcome).values() for i in s.id.tolist()]
    assert sorted(ids) == [i for i in range(400) if i != 2]


def test_the_interface_is_read_without_anything_heavy():
    heavy = "numpy,pandas,great_expectations,PIL,pyarrow,sklearn,boto3,torch"
    code = (
        "import sys; from slimline.check_data.spec import CheckData; "
        "CheckData.parameters_model().model_json_schema(); "
        f"print([m for m in '{heavy}'.split(',') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_installed_under_its_name_and_its_code_digest_covers_the_sources():
    assert load_component("check_data") is CheckData
    assert len(code_digest(CheckData)) == 64


def test_a_source_that_is_no_source_is_a_bad_parameter_with_its_field():
    with pytest.raises(BadParameters, match=r"check_data: source.csv.path: Field required"):
        CheckData.parse({"source": {"kind": "csv"}})
    with pytest.raises(BadParameters, match=r"check_data: source"):
        CheckData.parse({"source": {"kind": "tape"}})
    assert BadParameters.exit_code == 64
