"""How a `Dataset` artifact is stored: `dataset.json` and `examples.npz`.

`examples.npz` holds `x` (uint8 images NHWC, or float32 rows NF), `y` (int64 class index) and `id`
(int64, the example's place in its source), never an object array.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import BadData
from slimline.data.npy import DAMAGE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "selection", "test"]
_HEADER = 4096
"""More bytes than the header of an array takes; the file's true size is written at its end."""


class DatasetInfo(BaseModel):
    """What `dataset.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: Split
    shape: tuple[int, ...]
    """Shape of one example: (height, width, channels) or (features,)."""
    dtype: Literal["uint8", "float32"]
    labels: tuple[str, ...]
    count: int
    source_digest: str
    """sha256 over what was read, so that a changed source is seen."""


class Examples:
    """A dataset in memory: `x`, `y`, `id` as numpy arrays, and `info`."""

    def __init__(
        self,
        info: DatasetInfo,
        x: NDArray[np.generic],
        y: NDArray[np.int64],
        id: NDArray[np.int64],  # noqa: A002 - the field's name in the file
    ) -> None:
        self.info, self.x, self.y, self.id = info, x, y, id

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)


def save_examples(examples: Examples, target: Path) -> None:
    """Write a dataset into the directory of an output artifact.

    The file is what `numpy.savez` writes, but for the version of the ZIP format that it names:
    there NumPy's differs among patches of Python, and equal examples would have other digests.
    """
    from numpy.lib.format import write_array

    arrays = {"x": examples.x, "y": examples.y, "id": examples.id}
    with zipfile.ZipFile(target / "examples.npz", "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.file_size = array.nbytes + _HEADER
            with archive.open(entry, "w") as file:
                write_array(file, array, allow_pickle=False)
    (target / "dataset.json").write_text(examples.info.model_dump_json(indent=1))


def load_info(source: Path) -> DatasetInfo:
    """Read `dataset.json` alone.

    Raises:
        BadData: when the artifact is no dataset.
    """
    try:
        return DatasetInfo.model_validate_json((source / "dataset.json").read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{source} holds no dataset: give an artifact that check_data wrote ({error})"
        raise BadData(msg) from error


def load_examples(source: Path, *, split: Split | None = None) -> Examples:
    """Read a dataset.

    Args:
        source: directory of the artifact.
        split: what it must be; a test split given where a training split is due is refused.

    Raises:
        BadData: on another split, arrays that do not fit `dataset.json`, a class without a label,
            or a value that is not finite.
    """
    import numpy as np

    info = load_info(source)
    if split is not None and info.split != split:
        msg = f"dataset {info.name}: this is its {info.split} split, {split} is needed here"
        raise BadData(msg)
    try:
        with np.load(source / "examples.npz", allow_pickle=False) as arrays:
            x, y, identity = arrays["x"], arrays["y"], arrays["id"]
    except DAMAGE as error:
        msg = f"dataset {info.name}: its examples.npz is damaged ({error}): run check_data again"
        raise BadData(msg) from error
    shapes = x.shape, y.shape, identity.shape
    dtypes = str(x.dtype), str(y.dtype), str(identity.dtype)
    due = (info.count, *info.shape), (info.count,), (info.count,)
    if shapes != due or dtypes != (info.dtype, "int64", "int64"):
        msg = (
            f"dataset {info.name}: arrays x, y, id are {dtypes} {shapes}, dataset.json says "
            f"{info.dtype} {due[0]}: run check_data again"
        )
        raise BadData(msg)
    _check_values(info, x, y)
    return Examples(info, x, y, identity)


def _check_values(info: DatasetInfo, x: NDArray[np.generic], y: NDArray[np.int64]) -> None:
    import numpy as np

    if len(y) and not 0 <= y.min() <= y.max() < len(info.labels):
        msg = (
            f"dataset {info.name}: classes {y.min()} to {y.max()} are in its {info.split} split, "
            f"but it names {len(info.labels)} labels: check the data"
        )
        raise BadData(msg)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        msg = f"dataset {info.name}: its {info.split} split holds NaN or infinity: clean the data"
        raise BadData(msg)
