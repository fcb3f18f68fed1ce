"""How a `Dataset` artifact is stored: `dataset.json` and `examples.npz`.

`examples.npz` holds `x` (uint8 images NHWC, or float32 rows NF), `y` and `id` (int64, the example's
place in its source), never an object array. What `y` is, its task says:

    classification  int64 (N,), the class index
    regression      float32 (N,) or (N, outputs)
    segmentation    int16 (N, H, W), the class of each pixel, -1 for one that does not count
    detection       float32 (N, boxes, 5): x1, y1, x2, y2, class; padded with class -1

Arrays `column.<name>` tell something else about each example, such as where it was taken: numbers,
booleans or text. An evaluation can be sliced by them.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import BadData
from slimline.data.npy import DAMAGE, map_member

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "selection", "test"]
Task = Literal["classification", "regression", "segmentation", "detection"]
TARGET_TYPES: dict[Task, str] = {
    "classification": "int64",
    "regression": "float32",
    "segmentation": "int16",
    "detection": "float32",
}
_COLUMN = "column."
_PIECE = 2**22
"""Values looked at together."""
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
    task: Task = "classification"
    target_shape: tuple[int, ...] = ()
    """Shape of one example's target; () for a class index or a number."""
    columns: tuple[str, ...] = ()
    """What else is told about each example."""


class Examples:
    """A dataset: `x`, `y`, `id` and columns as numpy arrays, in memory or mapped, and `info`."""

    def __init__(
        self,
        info: DatasetInfo,
        x: NDArray[np.generic],
        y: NDArray[Any],
        id: NDArray[np.int64],  # noqa: A002 - the field's name in the file
        columns: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        self.info, self.x, self.y, self.id = info, x, y, id
        self.columns = dict(columns or {})

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
    arrays |= {_COLUMN + name: column for name, column in examples.columns.items()}
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


def load_examples(
    source: Path,
    *,
    split: Split | None = None,
    task: Task | None = "classification",
    mapped: bool = False,
) -> Examples:
    """Read a dataset.

    Args:
        source: directory of the artifact.
        split: what it must be; a test split given where a training split is due is refused.
        task: what it must be; None takes any.
        mapped: map `x` and `y` into memory: they are read when they are used, and take none.

    Raises:
        BadData: on another split or task, arrays that do not fit `dataset.json`, a class without a
            label, or a value that is not finite.
    """
    info = load_info(source)
    if split is not None and info.split != split:
        msg = f"dataset {info.name}: this is its {info.split} split, {split} is needed here"
        raise BadData(msg)
    if task is not None and info.task != task:
        msg = f"dataset {info.name}: its task is {info.task}, this step needs one of {task}"
        raise BadData(msg)
    try:
        arrays = _read_arrays(source / "examples.npz", info, mapped=mapped)
    except DAMAGE as error:
        msg = f"dataset {info.name}: its examples.npz is damaged ({error}): run check_data again"
        raise BadData(msg) from error
    x, y, identity = (arrays.pop(name) for name in ("x", "y", "id"))
    shapes = x.shape, y.shape, identity.shape, *(column.shape for column in arrays.values())
    dtypes = str(x.dtype), str(y.dtype), str(identity.dtype)
    one = (info.count,)
    due = one + info.shape, one + info.target_shape, one, *[one] * len(arrays)
    if shapes != due or dtypes != (info.dtype, TARGET_TYPES[info.task], "int64"):
        msg = (
            f"dataset {info.name}: arrays x, y, id are {dtypes} {shapes}, dataset.json says "
            f"{info.dtype} {due[0]}: run check_data again"
        )
        raise BadData(msg)
    _check_values(info, x, y)
    return Examples(info, x, y, identity, {k.removeprefix(_COLUMN): v for k, v in arrays.items()})


def _read_arrays(path: Path, info: DatasetInfo, *, mapped: bool) -> dict[str, NDArray[Any]]:
    import numpy as np

    names = ("x", "y", "id", *(_COLUMN + name for name in info.columns))
    if mapped:
        return {name: map_member(path, name) for name in names}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in names}


def _check_values(info: DatasetInfo, x: NDArray[np.generic], y: NDArray[Any]) -> None:
    classes = y[..., 4] if info.task == "detection" else y
    least = 0 if info.task == "classification" else -1
    if info.task != "regression" and y.size:
        low, high = classes.min(), classes.max()
        if not least <= low <= high < len(info.labels):
            msg = (
                f"dataset {info.name}: classes {low} to {high} are in its {info.split} split, "
                f"but it names {len(info.labels)} labels: check the data"
            )
            raise BadData(msg)
    if not (_is_finite(x) and _is_finite(y)):
        msg = f"dataset {info.name}: its {info.split} split holds NaN or infinity: clean the data"
        raise BadData(msg)


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether all values are finite, looked at piece by piece."""
    import numpy as np

    if array.dtype.kind != "f" or not array.size:
        return True
    step = max(1, _PIECE * len(array) // array.size)
    pieces = (array[start : start + step] for start in range(0, len(array), step))
    return all(bool(np.isfinite(piece).all()) for piece in pieces)
