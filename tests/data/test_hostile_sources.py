"""What is broken, hostile or simply not there is refused, in words, with the exit code 65."""

import gzip
import io
import lzma
import pickle
import struct
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sources import (
    encoded,
    idx_bytes,
    pictures,
    read,
    write_folder,
    write_idx,
    write_parquet,
)

from slimline.contract import BadData

PICTURES = pictures(6)
Y = np.array([0, 1, 0, 1, 0, 1], np.uint8)


def refused(words, **spec):
    with pytest.raises(BadData, match=f"(?s){words}") as caught:
        read(**spec)
    assert caught.value.exit_code == 65


def idx(tmp_path, images=None, labels=None, **more):
    write_idx(tmp_path, PICTURES[..., 0], Y)
    for name, data in (("images-idx3", images), ("labels-idx1", labels)):
        if data is not None:
            (tmp_path / f"train-{name}-ubyte").write_bytes(data)
    return {"kind": "idx", "path": str(tmp_path), "test_images": None, "test_labels": None, **more}


@pytest.mark.parametrize(
    ("spec", "parameter"),
    [
        ({"kind": "idx", "path": "nowhere"}, "train_images"),
        ({"kind": "parquet", "path": "nowhere", "train": ["a.parquet"]}, "train"),
        ({"kind": "folder", "path": "nowhere"}, "path"),
        ({"kind": "npz", "path": "nowhere.npz"}, "path"),
        ({"kind": "csv", "path": "nowhere.csv"}, "path"),
    ],
)
def test_a_missing_file_is_told_with_the_parameter_that_names_it(spec, parameter):
    refused(rf"source\.{parameter}: .*/nowhere.*no (file|directory) there", **spec)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"a,label\n" + b"1,x\n" * 300_000)
    refused("raise source.max_mib", kind="csv", path=str(tmp_path / "d.csv"), max_mib=1)


@pytest.mark.parametrize("claimed", [(7, 6, 5), (5, 6, 5), (6, 6, 6)])
def test_an_idx_header_that_lies_about_its_size_is_refused(tmp_path, claimed):
    lying = idx_bytes(PICTURES[..., 0], shape=claimed)
    refused("its header says", **idx(tmp_path, images=lying))


def test_an_idx_header_that_promises_terabytes_takes_no_memory(tmp_path):
    huge = idx_bytes(PICTURES[..., 0], shape=(1000, 2**31, 2**31))
    refused("size in bytes.*the limit", **idx(tmp_path, images=huge))
    many = idx_bytes(PICTURES[..., 0], shape=(2**32 - 1, 6, 5))
    refused("number of examples.*max_examples", **idx(tmp_path, images=many))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_compressed_bomb_is_read_no_further_than_its_header_says(tmp_path, pack):
    bomb = pack(idx_bytes(PICTURES[..., 0]) + bytes(50_000_000))
    assert len(bomb) < 100_000
    refused("it holds more", **idx(tmp_path, images=bomb))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_cut_off_compressed_idx_file_is_refused(tmp_path, pack):
    refused("damaged", **idx(tmp_path, images=pack(idx_bytes(PICTURES[..., 0]))[:-12]))


def test_an_idx_file_of_another_type_or_of_no_type_is_refused(tmp_path):
    floats = idx_bytes(PICTURES[..., 0].astype(">f4"), kind=13, shape=(6, 6, 5))
    refused("type 0x0d.*must be uint8", **idx(tmp_path, images=floats))
    refused("no idx file", **idx(tmp_path, images=b"\x89PNG and more"))
    refused("ends in its header", **idx(tmp_path, images=b"\x00\x00\x08\x03\x00\x00"))


def test_idx_labels_outside_the_set_or_of_another_count_are_refused(tmp_path):
    spec = idx(tmp_path, labels=idx_bytes(np.array([0, 1, 9, 0, 1, 0], np.uint8)))
    refused("row 2 has label 9, outside the set 0..1", **spec, labels=["a", "b"])
    refused("6 images.*5 labels", **idx(tmp_path, labels=idx_bytes(Y[:5])))


def parquet(tmp_path, images, labels=None, **more):
    write_parquet(tmp_path / "p", images, labels or [0] * len(images))
    return {"kind": "parquet", "path": str(tmp_path), "train": ["p"], **more}


def test_a_corrupt_image_is_refused_with_its_row(tmp_path):
    images = [encoded(p) for p in PICTURES]
    images[4] = images[4][:60]
    refused("train row 4 is no sound image", **parquet(tmp_path, images))
    images[4] = b"GIF89a not allowed"
    refused("train row 4 is no sound image", **parquet(tmp_path, images))
    images[4] = None
    refused("row 4 of column 'image' holds no image bytes", **parquet(tmp_path, images))


def png_that_claims(width, height):
    """A PNG of any size by its header, with next to no pixels behind it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        made += struct.pack(">I", len(body)) + name + body
        made += struct.pack(">I", zlib.crc32(name + body))
    return made


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("size", [(5000, 10), (10, 5000), (40_000, 40_000), (12_000, 12_000)])
def test_an_image_bomb_is_refused_before_a_pixel_is_decoded(tmp_path, size):
    refused("row 0.*(longer side|too large)", **parquet(tmp_path, [png_that_claims(*size)]))


def test_images_that_together_exceed_the_room_are_refused(tmp_path):
    images = [encoded(np.zeros((600, 600, 3), np.uint8))] * 2
    refused("all images in bytes.*max_mib", **parquet(tmp_path, images, max_mib=1))
    refused("number of images is 2", **parquet(tmp_path, images, max_examples=1))


def test_images_of_unequal_size_are_refused_with_the_cure(tmp_path):
    images = [encoded(PICTURES[0]), encoded(PICTURES[1][:5])]
    refused("row 1 is 5x5.*6x5.*source.size", **parquet(tmp_path, images))


def test_sixteen_bit_pixels_are_refused_rather_than_cut(tmp_path):
    deep = encoded(np.full((4, 4, 1), 999, np.uint16))
    refused("row 0 has pixels of type 'I;16'", **parquet(tmp_path, [deep]))


def test_parquet_labels_of_a_wrong_kind_or_outside_the_set_are_refused(tmp_path):
    images = [encoded(p) for p in PICTURES[:2]]
    refused("labels are .'float'", **parquet(tmp_path, images, [0.5, 1.5]))
    for labels, words in ((["a", "c"], "row 1 has label 'c'"), ([0, 2], "row 1 has label 2")):
        refused(f"{words}, outside", **parquet(tmp_path, images, labels), labels=["a", "b"])


def test_parquet_that_is_damaged_or_lacks_a_column_is_refused(tmp_path):
    spec = parquet(tmp_path, [encoded(p) for p in PICTURES])
    refused("source.image_column: p has no column 'img'", **spec, image_column="img")
    whole = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(whole[:-30])
    refused("no sound parquet", **spec)


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "d.npz", **arrays)
    return {"kind": "npz", "path": str(tmp_path / "d.npz")}


class Planted:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    spec = npz(tmp_path, x=np.array([Planted()], dtype=object), y=np.array([0]))
    refused("holds Python objects .pickle.", **spec)


def test_a_pickle_that_calls_itself_an_npz_is_refused(tmp_path):
    (tmp_path / "d.npz").write_bytes(pickle.dumps({"x": 1}))
    refused("no sound .npz", kind="npz", path=str(tmp_path / "d.npz"))


@pytest.mark.parametrize("header", [b"{'descr': (", b"  {'a':1}\n {'b'", b"-" * 9000 + b"1"])
def test_an_npz_header_that_makes_numpys_parser_fail_is_refused(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        archive.writestr("x.npy", start)
    refused("is damaged", kind="npz", path=str(tmp_path / "d.npz"))


def test_an_npz_header_that_lies_is_refused(tmp_path):
    body = io.BytesIO()
    np.save(body, np.zeros((4, 3), np.float32))
    lying = body.getvalue().replace(b"(4, 3), ", b"(9, 3), ")
    huge = body.getvalue().replace(b"(4, 3), }", b"(4, 3333333333), }")
    for data, words in ((lying, "ends early"), (huge, "size in bytes")):
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", data)
        refused(words, kind="npz", path=str(tmp_path / "d.npz"))


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((4, 3), np.int64),
        np.zeros((4, 3), np.uint8),
        np.zeros((4, 5, 5), np.float32),
        np.zeros((4, 3), np.complex64),
    ],
)
def test_an_npz_of_a_wrong_dtype_is_refused(tmp_path, x):
    refused("must be uint8 .N, H, W.*convert it", **npz(tmp_path, x=x, y=np.zeros(4, int)))


def test_an_npz_with_channels_first_or_labels_that_do_not_fit_is_refused(tmp_path):
    first = npz(tmp_path, x=np.zeros((4, 3, 8, 8), np.uint8), y=np.zeros(4, int))
    refused("channels must be the last axis", **first)
    x = np.zeros((4, 2), np.float32)
    refused("one label for each of 4", **npz(tmp_path, x=x, y=np.zeros(3, int)))
    refused("must be integers or text", **npz(tmp_path, x=x, y=np.zeros(4)))
    refused("row 1 has label -7", **npz(tmp_path, x=x, y=np.array([0, -7, 0, 0])))
    refused("no array 'z'.*there are", **npz(tmp_path, x=x, y=np.zeros(4, int)), x="z")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a,label\n1,x\nsix,x\n", "line 3, column 'a': 'six' is no number"),
        (b"a,label\n1,x,2\n", "line 2 has 3 cells, the header 2"),
        (b"a,klass\n1,x\n", "source.label_column: .* has no column 'label'"),
        (b"a,a,label\n1,1,x\n", "one name"),
        (b"label\nx\n", "has no column but 'label'"),
        (b"", "has no column"),
        (b"a,label\n1,\xff\xfe\n", "no UTF-8"),
        (b"a,label\n1,z\n", "row 0 has label 'z', outside the set 'x, y'"),
    ],
)
def test_a_csv_file_that_is_not_right_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "d.csv").write_bytes(text)
    refused(words, kind="csv", path=str(tmp_path / "d.csv"), labels=["x", "y"])


def test_a_folder_with_a_foreign_file_or_without_classes_is_refused(tmp_path):
    write_folder(tmp_path / "a", {"cat": PICTURES[:2]})
    (tmp_path / "a" / "cat" / "notes.txt").write_text("not an image")
    refused("cat/notes.txt is no sound image", kind="folder", path=str(tmp_path / "a"))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.png").write_bytes(encoded(PICTURES[0]))
    refused("named for its class", kind="folder", path=str(tmp_path / "flat"))
    refused("label 'cat', outside", kind="folder", path=str(tmp_path / "a"), labels=["dog"])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "JPEG"])
def test_no_damage_to_an_image_leads_to_anything_but_an_image_or_a_refusal(tmp_path, kind):
    whole = encoded(pictures(1, height=16, width=16)[0], kind)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        at=st.integers(0, len(whole) - 1),
        data=st.binary(min_size=1, max_size=8),
        end=st.integers(8, len(whole)),
    )
    def damage(at, data, end):
        write_parquet(tmp_path / "p", [(whole[:at] + data + whole[at + len(data) :])[:end]], [0])
        message = "row 0 is an image"
        try:
            read(kind="parquet", path=str(tmp_path), train=["p"])
        except BadData as error:
            message = str(error)
        assert "row 0" in message

    damage()


def whole_files(tmp_path):
    """A sound source of each kind: its specification, and the file to damage."""
    write_idx(tmp_path, PICTURES[..., 0], Y, suffix=".gz")
    np.savez(tmp_path / "d.npz", x=PICTURES, y=np.array(list("ababab")))
    write_parquet(tmp_path / "p", [encoded(p) for p in PICTURES], list("ababab"))
    (tmp_path / "d.csv").write_text("a,b,label\n" + "1,2.5,x\n3,4,y\n" * 9)
    directory = str(tmp_path)
    none = {"test_images": None, "test_labels": None}
    return {
        "idx": ({"path": directory, **none}, tmp_path / "train-images-idx3-ubyte.gz"),
        "npz": ({"path": str(tmp_path / "d.npz")}, tmp_path / "d.npz"),
        "parquet": ({"path": directory, "train": ["p"]}, tmp_path / "p"),
        "csv": ({"path": str(tmp_path / "d.csv")}, tmp_path / "d.csv"),
    }


@pytest.mark.parametrize("kind", ["idx", "npz", "parquet", "csv"])
def test_no_damage_to_a_file_leads_to_anything_but_examples_or_a_refusal(tmp_path, kind):
    spec, path = whole_files(tmp_path)[kind]
    whole = path.read_bytes()
    ends = st.integers(0, 300).map(lambda back: max(len(whole) - back, 0))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        at=st.integers(0, len(whole) - 1) | ends,
        data=st.binary(min_size=1, max_size=6),
        end=st.just(len(whole)) | ends,
    )
    def damage(at, data, end):
        path.write_bytes((whole[:at] + data + whole[at + len(data) :])[:end])
        with suppress(BadData):
            raw = read(kind=kind, **spec)
            assert len(raw.x) == len(raw.y) == len(raw.id)
            assert raw.y.max(initial=-1) < len(raw.labels)

    damage()
