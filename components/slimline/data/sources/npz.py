"""Arrays in one .npz: read member by member, sizes checked first, objects (pickle) refused."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.data.dataset import TARGET_TYPES
from slimline.data.npy import DAMAGE, read_header
from slimline.data.sources.classes import from_indices, from_names, names_found, numbered
from slimline.data.sources.files import Files
from slimline.data.sources.raw import Part, Raw, join, too_large, whole
from slimline.data.sources.targets import from_targets, targets_fit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.spec import NpzSource

_GREY_AXES, _IMAGE_AXES, _ROW_AXES = 3, 4, 2
_MOST_CHANNELS = 4


def read_npz(spec: NpzSource) -> Raw:
    """Read the arrays that the specification names."""
    import numpy as np

    files = Files(spec.max_bytes)
    data = files.read(spec.path, "", "path")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pairs = [_pair(spec, archive, "x", "y")]
            columns = _columns(spec, archive, "", len(pairs[0][0]))
            if spec.test_x is not None:
                pairs.append(_pair(spec, archive, "test_x", "test_y"))
                more = _columns(spec, archive, "test_", len(pairs[1][0]))
                columns = {k: np.concatenate([v, more[k]]) for k, v in columns.items()}
    except DAMAGE as error:
        msg = f"source.path: {spec.path!r} is no sound .npz ({error}): write it again"
        raise BadData(msg) from error
    labels, parts = _labelled(spec, pairs)
    joined = join(parts[0], parts[1] if len(parts) > 1 else None, labels, files.digest)
    return replace(joined, task=spec.task, columns=columns)


def _pair(
    spec: NpzSource, archive: zipfile.ZipFile, x: str, y: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    examples = _examples(_member(spec, archive, getattr(spec, x), x), getattr(spec, x))
    labels = _member(spec, archive, getattr(spec, y), y)
    if spec.task == "classification":
        fits = labels.ndim == 1
    else:
        fits = targets_fit(labels, spec.task, examples.shape)
    if not fits or len(labels) != len(examples):
        found = f"{getattr(spec, y)} {labels.dtype}{list(labels.shape)}"
        what = "label" if spec.task == "classification" else f"target of {spec.task}"
        msg = f"source.{y}: array {found} must be one {what} for each of {len(examples)} examples"
        raise BadData(msg)
    return examples, labels


def _columns(
    spec: NpzSource, archive: zipfile.ZipFile, prefix: str, count: int
) -> dict[str, NDArray[Any]]:
    found = {name: _member(spec, archive, prefix + name, "columns") for name in spec.columns}
    for name, column in found.items():
        if column.shape != (count,) or column.dtype.kind not in "biufU":
            given = f"array {prefix + name} is {column.dtype}{list(column.shape)}"
            msg = f"source.columns: {given}; give numbers, booleans or text, one of {count} each"
            raise BadData(msg)
    return found


def _member(spec: NpzSource, archive: zipfile.ZipFile, name: str, parameter: str) -> NDArray[Any]:
    """Read one array once its header is known to be harmless.

    Raises:
        BadData: on an object array, or one larger than the limits.
    """
    import numpy as np

    found = [n.removesuffix(".npy") for n in archive.namelist()]
    if name not in found:
        msg = f"source.{parameter}: no array {name!r} in {spec.path!r}; there are: {found}"
        raise BadData(f"{msg:.400}")
    with archive.open(f"{name}.npy") as member:
        try:
            shape, dtype = read_header(member)
        except DAMAGE as error:
            msg = f"array {name!r} in {spec.path!r} is damaged ({error}): write it again"
            raise BadData(msg) from error
    if dtype.hasobject:
        msg = f"array {name!r} in {spec.path!r} holds Python objects (pickle), which may run code: "
        raise BadData(f"{msg}store numbers or text, without dtype=object")
    _check_room(spec, name, shape, dtype.itemsize)
    with archive.open(f"{name}.npy") as member:
        try:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        except ValueError as error:
            msg = f"array {name!r} in {spec.path!r} ends early ({error}): write it again"
            raise BadData(msg) from error
    return array


def _check_room(spec: NpzSource, name: str, shape: tuple[int, ...], itemsize: int) -> None:
    if not shape or shape[0] > spec.max_examples:
        count = shape[0] if shape else 0
        raise too_large(
            f"array {name!r}: number of examples", count, spec.max_examples, "max_examples"
        )
    size = math.prod(shape) * itemsize
    if size > spec.max_bytes:
        raise too_large(f"array {name!r}: size in bytes", size, spec.max_bytes, "max_mib")


def _examples(array: NDArray[Any], name: str) -> NDArray[np.generic]:
    """As uint8 NHWC or float32 NF.

    Raises:
        BadData: on any other dtype or number of axes.
    """
    import numpy as np

    given = f"array {name!r} is {array.dtype}{list(array.shape)}"
    if array.dtype == np.uint8 and array.ndim == _GREY_AXES:
        return array[..., None]
    if array.dtype == np.uint8 and array.ndim == _IMAGE_AXES:
        if not 1 <= array.shape[-1] <= _MOST_CHANNELS:
            msg = f"{given}: channels must be the last axis; transpose it to (N, H, W, C)"
            raise BadData(msg)
        return np.ascontiguousarray(array)
    if array.dtype in (np.float32, np.float64) and array.ndim == _ROW_AXES:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, np.float32)
    msg = f"{given}: must be uint8 (N, H, W) or (N, H, W, C), or float32 (N, F); convert it"
    raise BadData(msg)


def _labelled(
    spec: NpzSource, pairs: list[tuple[NDArray[Any], NDArray[Any]]]
) -> tuple[tuple[str, ...], list[Part]]:
    if spec.task != "classification":
        return from_targets([y for _, y in pairs], spec.task, spec.labels), [
            whole(x, y.astype(TARGET_TYPES[spec.task])) for x, y in pairs
        ]
    kinds = {y.dtype.kind for _, y in pairs}
    if kinds <= {"i", "u"}:
        ys = [from_indices(y, spec.labels, spec.path) for _, y in pairs]
        labels = spec.labels or numbered(*ys)
    elif kinds == {"U"}:
        texts = [[str(v) or None for v in y] for _, y in pairs]
        labels = spec.labels or names_found(v for t in texts for v in t)
        ys = [from_names(t, labels, spec.path) for t in texts]
    else:
        found = ", ".join(str(y.dtype) for _, y in pairs)
        msg = f"source.y: labels of {spec.path!r} are {found}: must be integers or text"
        raise BadData(msg)
    return labels, [whole(x, y) for (x, _), y in zip(pairs, ys, strict=True)]
