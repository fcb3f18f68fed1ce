"""Read examples from where they are kept: one small file per kind, one function for all.

`read_source(spec)` gives the same four arrays for every kind. Bytes that come from outside are
taken as hostile: sizes are checked before memory is taken, nothing is unpickled, and every refusal
is a `BadData` that names the file, the row and the cure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.data.sources.bundled import read_sklearn
from slimline.data.sources.csvfile import read_csv
from slimline.data.sources.folder import read_folder
from slimline.data.sources.idx import read_idx
from slimline.data.sources.npz import read_npz
from slimline.data.sources.parquet import read_parquet
from slimline.data.sources.raw import Raw
from slimline.data.spec import (
    CsvSource,
    FolderSource,
    IdxSource,
    NpzSource,
    ParquetSource,
    SklearnSource,
)

if TYPE_CHECKING:
    from slimline.data.spec import Source

__all__ = ["Raw", "read_source"]


def read_source(spec: Source) -> Raw:
    """Read everything a source holds.

    Raises:
        BadData: when it is missing, damaged, or not what the specification says.
        BadParameters: when S3 refuses the credentials or the bucket's name.
        TryLater: when S3 does not answer.
    """
    raw = _read(spec)
    if spec.digest is not None and raw.digest != spec.digest:
        msg = (
            f"source.digest: the source has sha256 {raw.digest}, the recipe says {spec.digest}: "
            "its bytes changed; restore them, or write the new digest if the change is meant"
        )
        raise BadData(msg)
    return raw


def _read(spec: Source) -> Raw:
    match spec:
        case SklearnSource():
            return read_sklearn(spec)
        case IdxSource():
            return read_idx(spec)
        case ParquetSource():
            return read_parquet(spec)
        case FolderSource():
            return read_folder(spec)
        case NpzSource():
            return read_npz(spec)
        case CsvSource():
            return read_csv(spec)
