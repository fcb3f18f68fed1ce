"""Parquet with encoded images, as Hugging Face's `Image` feature stores them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, Meter
from slimline.data.sources.classes import from_indices, from_names, names_found, numbered
from slimline.data.sources.files import Files
from slimline.data.sources.images import ImageArray
from slimline.data.sources.raw import MISSING, Part, Raw, join, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.spec import ParquetSource

_BATCH = 512
_Names = list["str | None"]


def read_parquet(spec: ParquetSource) -> Raw:
    """Read all files; the order of rows is that of the files as they are named."""
    files = Files(spec.max_bytes)
    tables = [_open(spec, files, name, "train") for name in spec.train]
    split_at = len(tables)
    tables += [_open(spec, files, name, "test") for name in spec.test]
    names = spec.labels or _own_names(tables[0], spec.label_column)
    found = [_read(spec, tables[:split_at], "train")]
    if spec.test:
        found.append(_read(spec, tables[split_at:], "test"))
    labels, ys = _classes(names, [values for _, values, _, _ in found])
    parts = [Part(x, y, rows, n) for (x, _, rows, n), y in zip(found, ys, strict=True)]
    return join(parts[0], parts[1] if len(parts) > 1 else None, labels, files.digest)


def _open(spec: ParquetSource, files: Files, name: str, parameter: str) -> Any:
    """A pyarrow ParquetFile whose columns and size were looked at."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    data = files.read(spec.path, name, parameter)
    try:
        table = parquet.ParquetFile(pa.BufferReader(data))
        columns = table.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = f"source.{parameter}: {name} is no sound parquet file ({error}): fetch it again"
        raise BadData(msg) from error
    wanted = {"image_column": spec.image_column, "label_column": spec.label_column}
    wanted |= {"keep_column": spec.keep_column} if spec.keep_column else {}
    for field, column in wanted.items():
        if column not in columns:
            msg = f"source.{field}: {name} has no column {column!r}; it has {columns}"
            raise BadData(f"{msg:.400}")
    groups = range(table.metadata.num_row_groups)
    size = sum(table.metadata.row_group(i).total_byte_size for i in groups)
    if size > spec.max_bytes:
        raise too_large(f"{name}: size in bytes", size, spec.max_bytes, "max_mib")
    return table


def _read(
    spec: ParquetSource, tables: list[Any], part: str
) -> tuple[NDArray[np.uint8], list[Any], NDArray[np.int64], int]:
    """Images, labels as written, row numbers and row count of one part."""
    import numpy as np

    total = sum(table.metadata.num_rows for table in tables)
    images, meter = ImageArray(spec, total), Meter(total, f"check_data: images of {part}")
    values: list[Any] = []
    rows: list[int] = []
    row = 0
    for image, value, keep in (r for table in tables for r in _rows(spec, table)):
        if keep:
            images.add(_encoded(image, spec.image_column, row), f"{part} row {row}")
            values.append(value)
            rows.append(row)
        row += 1
        meter.show(row)
    return images.array(), values, np.array(rows, np.int64), row


def _rows(spec: ParquetSource, table: Any) -> Iterator[tuple[Any, Any, bool]]:
    import pyarrow as pa

    wanted = [spec.image_column, spec.label_column]
    wanted += [spec.keep_column] if spec.keep_column else []
    try:
        for batch in table.iter_batches(batch_size=_BATCH, columns=wanted):
            columns = [batch.column(name).to_pylist() for name in wanted]
            keep = columns[2] if spec.keep_column else [True] * batch.num_rows
            for image, value, kept in zip(columns[0], columns[1], keep, strict=True):
                yield image, value, kept is True
    except (pa.ArrowException, OSError) as error:
        msg = f"source.path: {spec.path}: a parquet file is damaged ({error}): fetch it again"
        raise BadData(msg) from error


def _encoded(cell: Any, column: str, row: int) -> bytes:
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(found, bytes):
        msg = f"source.image_column: row {row} of column {column!r} holds no image bytes: "
        raise BadData(f"{msg}embed the images (bytes, not a path), or remove the row")
    return found


def _classes(
    names: tuple[str, ...] | None, parts: list[list[Any]]
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    import numpy as np

    where = "source.label_column"
    present = [v for part in parts for v in part if v is not None]
    if all(isinstance(v, int) and not isinstance(v, bool) for v in present):
        ys = [
            from_indices(np.array([MISSING if v is None else v for v in part]), names, where)
            for part in parts
        ]
        return names or numbered(*ys), ys
    if all(isinstance(v, str) for v in present):
        labels = names or names_found(present)
        return labels, [from_names(part, labels, where) for part in parts]
    kinds = sorted({type(v).__name__ for v in present})
    msg = f"{where}: labels are {kinds}: must be integers or text"
    raise BadData(msg)


def _own_names(table: Any, column: str) -> tuple[str, ...] | None:
    """Class names that the file carries as Hugging Face's `ClassLabel`, None without them."""
    metadata = table.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None
