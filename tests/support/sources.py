"""Small files in every form that data comes in, for tests that read them back."""

from __future__ import annotations

import gzip
import io
import lzma
import math
import struct
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pyarrow as pa
from pyarrow import parquet
from pydantic import TypeAdapter

from slimline.data.sources import read_source
from slimline.data.spec import Source

if TYPE_CHECKING:
    from pathlib import Path

SPEC = TypeAdapter(Source)


def read(**spec):
    """Read a source that is given as a recipe gives it."""
    return read_source(SPEC.validate_python(spec))


def pictures(count, *, height=6, width=5, channels=3, seed=0):
    """Random images, all different."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def encoded(picture, kind="PNG"):
    """An image file as bytes; lossless."""
    image = PIL.Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    into = io.BytesIO()
    image.save(into, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return into.getvalue()


def idx_bytes(array, *, kind=8, shape=None):
    """An idx file; `shape` is what its header says, if that is not the truth."""
    sizes = shape or array.shape
    return (
        bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + (array.tobytes())
    )


def write_idx(directory: Path, x, y, part="train", suffix=""):
    """The two idx files of one part, as Fashion-MNIST names them."""
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    (directory / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(x)))
    (directory / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(y)))


def write_parquet(path: Path, images, labels, *, keep=None, metadata=None, column="image"):
    """A file in the schema of Hugging Face's `Image` feature."""
    cells = [{"bytes": i, "path": None} for i in images]
    columns = {
        column: pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array(labels),
    }
    if keep is not None:
        columns["exact"] = pa.array(keep)
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    parquet.write_table(table, path, row_group_size=4)


def write_folder(root: Path, pictures_of: dict, suffix="png"):
    """One folder per class."""
    for name, images in pictures_of.items():
        (root / name).mkdir(parents=True)
        for i, picture in enumerate(images):
            kind = {"png": "PNG", "webp": "WEBP", "bmp": "BMP"}[suffix]
            (root / name / f"{i}.{suffix}").write_bytes(encoded(picture, kind))


def write_blobs(path: Path, *, classes=("a", "b"), per_class=200, features=3):
    """A CSV of points around one centre a class; returns the text of its lines."""
    generator = np.random.default_rng(1)
    lines = [",".join([*(f"f{i}" for i in range(features)), "label"])]
    for i, name in enumerate(classes):
        for row in generator.normal(i, 0.3, (per_class, features)):
            assert all(math.isfinite(v) for v in row)
            lines.append(",".join([*(f"{v:.4f}" for v in row), name]))
    path.write_text("\n".join(lines) + "\n")
    return lines
