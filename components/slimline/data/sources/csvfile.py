"""Rows of numbers from a CSV file with a header; an empty cell is a missing value."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.data.sources.classes import from_names, names_found
from slimline.data.sources.files import Files
from slimline.data.sources.raw import Raw, join, too_large, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.spec import CsvSource

_HEADER_ROWS = 1
_BYTES_PER_VALUE = 4


def read_csv(spec: CsvSource) -> Raw:
    """Read the file, and the official test file where there is one."""
    files = Files(spec.max_bytes)
    tables = [_table(spec, files, "path", spec.path, spec.feature_columns)]
    if spec.test_path is not None:
        tables.append(_table(spec, files, "test_path", spec.test_path, tables[0][2]))
    labels = spec.labels or names_found(v for _, names, _ in tables for v in names)
    parts = [whole(x, from_names(names, labels, spec.path)) for x, names, _ in tables]
    return join(parts[0], parts[1] if len(parts) > 1 else None, labels, files.digest)


_Table = tuple["NDArray[np.float32]", "list[str | None]", "tuple[str, ...]"]


def _table(
    spec: CsvSource, files: Files, parameter: str, path: str, wanted: tuple[str, ...] | None
) -> _Table:
    """Features, label texts and feature names of one file."""
    import numpy as np

    data = files.read(path, "", parameter)
    try:
        reader = csv.reader(
            io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True, delimiter=spec.delimiter
        )
        header = next(reader, [])
        label_at, columns = _columns(spec, path, header, wanted)
        rows: list[list[float]] = []
        names: list[str | None] = []
        for cells in reader:
            if not cells:
                continue
            line = reader.line_num
            if len(cells) != len(header):
                msg = f"{path}: line {line} has {len(cells)} cells, the header {len(header)}: "
                raise BadData(f"{msg}correct the line")
            rows.append([_number(cells[i], path, line, header[i]) for i in columns])
            names.append(cells[label_at].strip() or None)
            _check_room(spec, path, len(rows), len(columns))
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is no UTF-8 CSV ({error}): save it as UTF-8"
        raise BadData(msg) from error
    x = np.array(rows, np.float64).reshape(len(rows), len(columns))
    with np.errstate(over="ignore"):
        return x.astype(np.float32), names, tuple(header[i] for i in columns)


def _columns(
    spec: CsvSource, path: str, header: list[str], wanted: tuple[str, ...] | None
) -> tuple[int, list[int]]:
    """Where the label and the features stand."""
    if len(set(header)) != len(header):
        msg = f"{path}: two columns of the header {header} have one name: rename one"
        raise BadData(f"{msg:.400}")
    features = wanted or tuple(h for h in header if h != spec.label_column)
    asked = {"label_column": (spec.label_column,), "feature_columns": features}
    for parameter, columns in asked.items():
        for column in columns:
            if column not in header:
                msg = f"source.{parameter}: {path} has no column {column!r}; it has {header}"
                raise BadData(f"{msg:.400}")
    if not features:
        msg = f"{path} has no column but {spec.label_column!r}: give a file with features"
        raise BadData(msg)
    return header.index(spec.label_column), [header.index(c) for c in features]


def _number(cell: str, path: str, line: int, column: str) -> float:
    if not cell.strip():
        return math.nan
    try:
        return float(cell)
    except ValueError as error:
        msg = f"{path}: line {line}, column {column!r}: {cell!r:.60} is no number: correct it, "
        raise BadData(f"{msg}or leave the column out of source.feature_columns") from error


def _check_room(spec: CsvSource, path: str, rows: int, columns: int) -> None:
    if rows > spec.max_examples:
        raise too_large(f"{path}: number of rows", rows, spec.max_examples, "max_examples")
    if rows * columns * _BYTES_PER_VALUE > spec.max_bytes:
        size = rows * columns * _BYTES_PER_VALUE
        raise too_large(f"{path}: size in bytes", size, spec.max_bytes, "max_mib")
