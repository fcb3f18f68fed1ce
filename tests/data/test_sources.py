"""Each kind of source gives back exactly what was put into it."""

import hashlib
import json

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.datasets import load_digits
from support.sources import (
    SPEC,
    encoded,
    pictures,
    read,
    write_folder,
    write_idx,
    write_parquet,
)

from slimline.contract import BadData

GREY = pictures(7, channels=1)
COLOR = pictures(7)
Y = np.array([0, 1, 2, 0, 1, 2, 0], np.uint8)


def test_digits_keep_all_seventeen_levels_when_they_become_bytes():
    raw = read(kind="sklearn", name="digits")
    original = load_digits()
    assert raw.x.dtype == np.uint8
    assert raw.x.shape == (1797, 8, 8, 1)
    assert np.array_equal(np.rint(raw.x[..., 0] * (16 / 255)), original.images)
    assert np.array_equal(raw.y, original.target)
    assert raw.labels == tuple("0123456789")
    assert raw.test is None


def test_bundled_rows_are_float32_with_their_class_names():
    raw = read(kind="sklearn", name="iris")
    assert raw.x.dtype == np.float32
    assert raw.x.shape == (150, 4)
    assert raw.labels == ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_idx_files_are_read_back_plain_and_compressed(tmp_path, suffix):
    write_idx(tmp_path, GREY[:5, ..., 0], Y[:5], "train", suffix)
    write_idx(tmp_path, GREY[5:, ..., 0], Y[5:], "t10k", suffix)
    raw = read(kind="idx", path=str(tmp_path), labels=["coat", "bag", "shoe"])
    assert np.array_equal(raw.x, GREY)
    assert np.array_equal(raw.y, Y)
    assert raw.labels == ("coat", "bag", "shoe")
    assert raw.test.tolist() == [False] * 5 + [True] * 2
    assert raw.id.tolist() == list(range(7))


def test_idx_without_a_test_part_leaves_the_split_to_the_hash(tmp_path):
    write_idx(tmp_path, GREY[..., 0], Y)
    raw = read(kind="idx", path=str(tmp_path), test_images=None, test_labels=None)
    assert raw.test is None
    assert raw.labels == ("0", "1", "2")


def test_parquet_images_are_read_back_from_several_files_with_the_official_test(tmp_path):
    names = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}}}
    files = {"one": slice(0, 3), "two": slice(3, 5), "test": slice(5, 7)}
    for name, rows in files.items():
        images = [encoded(p, "WEBP") for p in COLOR[rows]]
        metadata = json.dumps(names)
        write_parquet(tmp_path / name, images, Y[rows], metadata=metadata, column="img")
    raw = read(kind="parquet", path=str(tmp_path), train=["one", "two"], test=["test"],
               image_column="img")  # fmt: skip
    assert np.array_equal(raw.x, COLOR)
    assert np.array_equal(raw.y, Y)
    assert raw.labels == ("a", "b", "c")
    assert raw.test.tolist() == [False] * 5 + [True] * 2


def test_rows_that_the_keep_column_does_not_confirm_are_left_out_and_counted(tmp_path):
    keep = [True, False, True, None, True, True, True]
    write_parquet(tmp_path / "p", [encoded(p) for p in COLOR], list("abcabca"), keep=keep)
    raw = read(kind="parquet", path=str(tmp_path), train=["p"], keep_column="exact")
    assert raw.id.tolist() == [0, 2, 4, 5, 6]
    assert np.array_equal(raw.x, COLOR[[0, 2, 4, 5, 6]])
    assert [raw.labels[i] for i in raw.y] == list("acbca")
    assert raw.left_out == 2


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp"])
def test_an_image_folder_is_read_back_with_folder_names_as_classes(tmp_path, suffix):
    write_folder(tmp_path / "a", {"cat": COLOR[:3], "dog": COLOR[3:5]}, suffix)
    write_folder(tmp_path / "b", {"cat": COLOR[5:6], "dog": COLOR[6:]}, suffix)
    (tmp_path / "a" / "cat" / ".hidden").write_text("passed over")
    raw = read(kind="folder", path=str(tmp_path / "a"), test_path=str(tmp_path / "b"))
    assert np.array_equal(raw.x, COLOR)
    assert raw.y.tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert raw.labels == ("cat", "dog")
    assert raw.test.tolist() == [False] * 5 + [True] * 2


def test_images_of_unequal_size_are_resized_to_the_size_that_is_asked_for(tmp_path):
    flat = [np.full((h, w, 3), 77, np.uint8) for h, w in ((4, 9), (12, 3))]
    write_folder(tmp_path, {"a": flat[:1], "b": flat[1:]})
    raw = read(kind="folder", path=str(tmp_path), size=[5, 8], color="grey")
    assert raw.x.shape == (2, 5, 8, 1)
    assert set(raw.x.ravel().tolist()) == {77}


def test_npz_images_rows_and_text_labels_are_read_back(tmp_path):
    rows = np.arange(21, dtype=np.float64).reshape(7, 3) / 7
    names = np.array(["b", "a", "b", "a", "b", "a", "b"])
    np.savez_compressed(tmp_path / "d.npz", x=GREY[..., 0], y=Y, rows=rows, names=names)
    path = str(tmp_path / "d.npz")
    images = read(kind="npz", path=path, labels=["p", "q", "r"])
    assert np.array_equal(images.x, GREY)
    assert np.array_equal(images.y, Y)
    table = read(kind="npz", path=path, x="rows", y="names")
    assert np.array_equal(table.x, rows.astype(np.float32))
    assert table.labels == ("a", "b")
    assert table.y.tolist() == [1, 0, 1, 0, 1, 0, 1]


def test_npz_keeps_its_official_test_arrays_as_test(tmp_path):
    np.savez(tmp_path / "m.npz", x_train=COLOR[:4], y_train=Y[:4], x_test=COLOR[4:], y_test=Y[4:])
    raw = read(kind="npz", path=str(tmp_path / "m.npz"), x="x_train", y="y_train",
               test_x="x_test", test_y="y_test")  # fmt: skip
    assert np.array_equal(raw.x, COLOR)
    assert raw.test.tolist() == [False] * 4 + [True] * 3


def test_csv_rows_are_read_back_and_an_empty_cell_is_a_missing_value(tmp_path):
    (tmp_path / "d.csv").write_text('a,label,"b, c"\n1,10,2.5\n-3e2,9,\n\n0.1,,4\n')
    raw = read(kind="csv", path=str(tmp_path / "d.csv"))
    expected = np.array([[1, 2.5], [-300, np.nan], [0.1, 4]], np.float32)
    assert np.array_equal(raw.x, expected, equal_nan=True)
    assert raw.labels == ("9", "10")
    assert raw.y.tolist() == [1, 0, -1]


def test_csv_takes_the_test_files_columns_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("u;v;label\n1;2;x\n")
    (tmp_path / "b.csv").write_text("label;v;u\ny;4;3\n")
    raw = read(kind="csv", path=str(tmp_path / "a.csv"), test_path=str(tmp_path / "b.csv"),
               delimiter=";")  # fmt: skip
    assert raw.x.tolist() == [[1, 2], [3, 4]]
    assert raw.labels == ("x", "y")


def test_the_source_digest_is_of_the_bytes_not_of_the_place(tmp_path):
    digests = []
    for name in ("here", "there", "changed"):
        (tmp_path / name).mkdir()
        x = GREY[..., 0].copy()
        x[0, 0, 0] ^= name == "changed"
        write_idx(tmp_path / name, x, Y)
        raw = read(kind="idx", path=str(tmp_path / name), test_images=None, test_labels=None)
        digests.append(raw.digest)
    assert digests[0] == digests[1] != digests[2]
    assert all(len(d) == hashlib.sha256().digest_size * 2 for d in digests)


def test_a_pinned_source_that_changed_is_refused_with_both_digests(tmp_path):
    spec = {"kind": "csv", "path": str(tmp_path / "d.csv")}
    (tmp_path / "d.csv").write_text("a,label\n1,x\n")
    pinned = read(**spec).digest
    assert read(**spec, digest=pinned).digest == pinned
    (tmp_path / "d.csv").write_text("a,label\n2,x\n")
    with pytest.raises(BadData, match=f"source.digest.*{pinned}.*changed"):
        read(**spec, digest=pinned)


def test_a_specification_names_the_fields_that_do_not_fit():
    with pytest.raises(ValidationError, match="test_x and test_y belong together"):
        SPEC.validate_python({"kind": "npz", "path": "d.npz", "test_x": "t"})
    with pytest.raises(ValidationError, match="each once"):
        SPEC.validate_python({"kind": "csv", "path": "d.csv", "labels": ["a", "a"]})
    with pytest.raises(
        ValidationError, match="'sklearn', 'idx', 'parquet', 'folder', 'npz', 'csv'"
    ):
        SPEC.validate_python({"kind": "tfrecord"})
