import subprocess
import sys

import numpy as np
import pytest

from slimline.check_data.spec import CheckData
from slimline.contract import BadData
from slimline.data.dataset import DatasetInfo, Examples, load_examples, save_examples
from slimline.data.spec import NpzSource

DRAW = np.random.default_rng(0)
COUNT = 400
ROWS = DRAW.standard_normal((COUNT, 5)).astype(np.float32)
IMAGES = DRAW.integers(0, 256, (COUNT, 6, 6, 3), dtype=np.uint8)
NIGHT = DRAW.random(COUNT) < 0.3
CITY = np.where(DRAW.random(COUNT) < 0.5, "Aachen", "Zürich")


def boxes():
    made = np.full((COUNT, 3, 5), -1, np.float32)
    made[:, 0] = (1, 1, 4, 4, 0)
    made[::2, 1] = (0, 0, 2, 2, 1)
    return made


TARGETS = {
    "regression": (ROWS, ROWS @ np.arange(5) + 0.5, "float32", ()),
    "segmentation": (IMAGES, DRAW.integers(-1, 3, (COUNT, 6, 6)), "int16", ("0", "1", "2")),
    "detection": (IMAGES, boxes(), "float32", ("0", "1")),
}


def check(tmp_path, x, y, **source):
    file = tmp_path / "data.npz"
    np.savez(file, x=x, y=y, night=NIGHT, city=CITY, third=np.zeros((COUNT, 2)))
    spec = NpzSource(kind="npz", path=str(file), **source)
    return CheckData(source=spec).run(work_dir=tmp_path / "work")


@pytest.mark.parametrize("task", TARGETS)
def test_targets_of_each_task_come_through_check_data_unchanged(tmp_path, task):
    x, y, dtype, labels = TARGETS[task]
    made = check(tmp_path, x, y, task=task, columns=("night", "city"))
    assert made.manifest.numbers["task"] == task
    total = 0
    for split in ("train", "selection", "test"):
        part = load_examples(made[split].path, split=split, task=task)
        assert (part.info.task, part.info.labels, str(part.y.dtype)) == (task, labels, dtype)
        assert np.array_equal(part.y, y[part.id].astype(dtype))
        assert np.array_equal(part.columns["night"], NIGHT[part.id])
        assert part.columns["city"].tolist() == CITY[part.id].tolist()
        total += len(part)
    assert total == COUNT
    assert (made["report"].path / "index.html").read_text().startswith("<!doctype html>")


def test_a_target_that_is_missing_leaves_its_example_out_and_counts(tmp_path):
    y = (ROWS @ np.arange(5)).astype(np.float32)
    y[7] = np.nan
    with pytest.raises(BadData, match="missing label or value"):
        check(tmp_path, ROWS, y, task="regression")


@pytest.mark.parametrize(
    ("task", "x", "y", "match"),
    [
        ("regression", ROWS, np.array(["a"] * COUNT), "one target of regression"),
        ("regression", ROWS, np.zeros((COUNT, 2, 2)), "one target of regression"),
        ("segmentation", IMAGES, np.zeros((COUNT, 5, 6), int), "one target of segmentation"),
        ("segmentation", IMAGES, np.full((COUNT, 6, 6), -2), "-2 to -2"),
        ("detection", IMAGES, np.zeros((COUNT, 3, 4)), "one target of detection"),
        ("detection", IMAGES, np.full((COUNT, 3, 5), 0.5), "whole numbers"),
        ("classification", IMAGES, np.zeros((COUNT, 6, 6), int), "one label for each"),
    ],
)
def test_targets_that_are_none_of_the_task_are_refused(tmp_path, task, x, y, match):
    with pytest.raises(BadData, match=match):
        check(tmp_path, x, y, task=task)


def test_a_column_that_tells_two_things_of_an_example_is_refused(tmp_path):
    with pytest.raises(BadData, match=r"columns: array third is float64\[400, 2\]"):
        check(tmp_path, ROWS, np.zeros(COUNT, int), columns=("third",))


def save(target, x, y, **info):
    target.mkdir()
    facts = {
        "name": "d",
        "split": "test",
        "shape": x.shape[1:],
        "dtype": str(x.dtype),
        "labels": (),
        "count": len(x),
        "source_digest": "0" * 64,
        "target_shape": y.shape[1:],
        **info,
    }
    save_examples(Examples(DatasetInfo(**facts), x, y, np.arange(len(x))), target)
    return target


def test_a_step_that_needs_classes_refuses_numbers(tmp_path):
    place = save(tmp_path / "d", ROWS, ROWS[:, 0].copy(), task="regression")
    with pytest.raises(BadData, match="its task is regression"):
        load_examples(place)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mapped_dataset_is_the_same_as_one_in_memory(tmp_path, order):
    y = np.asarray(DRAW.standard_normal((COUNT, 2)), np.float32, order=order)
    place = save(tmp_path / "d", ROWS, y, task="regression")
    there = load_examples(place, task=None, mapped=True)
    assert isinstance(there.x, np.memmap)
    assert np.array_equal(there.x, ROWS)
    assert np.array_equal(there.y, y)


def test_damage_is_seen_before_a_mapped_dataset_is_used(tmp_path):
    place = save(tmp_path / "d", IMAGES, np.zeros(COUNT, np.int64), labels=("a",))
    raw = bytearray((place / "examples.npz").read_bytes())
    raw[5000] ^= 1
    (place / "examples.npz").write_bytes(raw)
    with pytest.raises(BadData, match="is damaged"):
        load_examples(place, mapped=True)


def test_an_empty_dataset_can_be_mapped(tmp_path):
    place = save(tmp_path / "d", IMAGES[:0], np.zeros(0, np.int64), labels=("a",))
    assert len(load_examples(place, mapped=True)) == 0


def test_a_dataset_that_was_written_before_tasks_is_one_of_classes():
    old = {"name": "d", "split": "test", "shape": [4], "dtype": "float32", "labels": ["a"]}
    info = DatasetInfo.model_validate({**old, "count": 1, "source_digest": "0" * 64})
    assert (info.task, info.target_shape, info.columns) == ("classification", (), ())


def test_a_mapped_dataset_takes_no_memory_of_its_own(tmp_path):
    x = np.zeros((64, 1024, 1024, 1), np.uint8)
    place = save(tmp_path / "d", x, np.zeros(64, np.int64), labels=("a",))
    code = (
        "import re, sys, pathlib, numpy\n"
        "from slimline.data.dataset import load_examples\n"
        "anon = lambda: int(re.search(r'RssAnon:\\s+(\\d+)', "
        "pathlib.Path('/proc/self/status').read_text())[1])\n"
        "before = anon()\n"
        "d = load_examples(pathlib.Path(sys.argv[1]), mapped=True)\n"
        "assert d.x.sum() == 0\n"
        "print(anon() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, check=True)
    assert int(done.stdout) < 16 * 1024  # kB, of 64 MiB
