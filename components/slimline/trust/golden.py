"""Golden inputs: examples with the logits they must give, so that a place proves it can infer."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, Refused
from slimline.data.npy import DAMAGE, read_header
from slimline.measure.runtime import logits, session
from slimline.models.info import ModelInfo
from slimline.trust.dsse import check_form
from slimline.trust.manifest import read_file
from slimline.trust.strict import read_object

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from slimline.trust.manifest import PackageManifest

FILE = "golden.npz"
_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class PackagedModel:
    """The model of a verified package, loaded from the very bytes that were verified."""

    info: ModelInfo
    session: Any


def open_model(root: Path, manifest: PackageManifest, threads: int = 1) -> PackagedModel:
    """Load the model of a package that `verify_package` accepted.

    Raises:
        Refused: when a file was changed since, or ONNX Runtime does not load it.
    """
    name = "model/model.json"
    described = read_object(read_file(root, manifest.named(name)), name)
    info = check_form(ModelInfo, described, name)
    data = read_file(root, manifest.named("model/model.onnx"))
    try:
        return PackagedModel(info, session(data, threads))
    except BadData as error:
        msg = f"golden inputs cannot be run: {error}"
        raise Refused(msg) from error


def check_golden(root: Path, manifest: PackageManifest, threads: int = 1) -> float:
    """Run the golden inputs of a package in ONNX Runtime.

    Args:
        root: a package that `verify_package` accepted.
        manifest: what it returned.
        threads: of ONNX Runtime.

    Returns:
        The largest absolute difference between a logit and the expected one.

    Raises:
        Refused: when it is above the manifest's tolerance or not finite.
    """
    return prove(open_model(root, manifest, threads), root, manifest)


def prove(model: PackagedModel, root: Path, manifest: PackageManifest) -> float:
    """`check_golden` for a model that is loaded already, such as the one that will serve."""
    import numpy as np

    x, expected = load_golden(root, manifest, model.info)
    try:
        found = logits(model.session, model.info.preprocessing.apply(x))
    except BadData as error:
        msg = f"golden inputs cannot be run: {error}"
        raise Refused(msg) from error
    if found.shape != expected.shape:
        msg = f"golden inputs gave logits of shape {found.shape}, expected is {expected.shape}"
        raise Refused(msg)
    difference = float(np.max(np.abs(found.astype(np.float64) - expected)))
    if not difference <= manifest.golden.tolerance:
        msg = (
            f"golden inputs gave other logits here: they differ by {difference:.4g}, "
            f"at most {manifest.golden.tolerance:.4g} is right"
        )
        raise Refused(msg)
    return difference


def load_golden(
    root: Path, manifest: PackageManifest, info: ModelInfo
) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """Read `golden.npz` of a package.

    Returns:
        Raw inputs of the shape and dtype that the preprocessing takes, and float32 logits of shape
        (count, labels).

    Raises:
        Refused: on anything else: another member, an object array, other shapes, NaN.
    """
    import numpy as np

    try:
        x, expected = _read_arrays(read_file(root, manifest.named(FILE)))
    except DAMAGE as error:
        msg = f"{FILE} is malformed: {error}"
        raise Refused(msg) from error
    count, preprocessing = manifest.golden.count, info.preprocessing
    _expect(x, (count, *preprocessing.shape), preprocessing.dtype, "x")
    _expect(expected, (count, len(info.labels)), "float32", "logits")
    if not (np.isfinite(x).all() and np.isfinite(expected).all()):
        msg = f"{FILE} is malformed: it holds NaN or infinity"
        raise Refused(msg)
    return x, expected.astype(np.float32, copy=False)


def save_golden(root: Path, x: NDArray[np.generic], logits: NDArray[np.float32]) -> None:
    """Write `golden.npz`; equal arrays give equal bytes."""
    import numpy as np

    np.savez(root / FILE, x=x, logits=logits)


def _read_arrays(data: bytes) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sorted(m.filename for m in members) != ["logits.npy", "x.npy"]:
            msg = "it must hold the arrays x and logits, and nothing else"
            raise ValueError(msg)
        if sum(m.file_size for m in members) > _MAX_BYTES:
            msg = f"its arrays have more than {_MAX_BYTES} bytes"
            raise ValueError(msg)
        sizes = {m.filename: m.file_size for m in members}
        return tuple(_read_array(archive, n, sizes[n]) for n in ("x.npy", "logits.npy"))  # type: ignore[return-value] # two of them


def _read_array(archive: zipfile.ZipFile, name: str, size: int) -> NDArray[np.generic]:
    """Read one array, after its header was found to promise no more than the member holds."""
    import numpy as np

    with archive.open(name) as file:
        shape, dtype = read_header(file)
        if math.prod(shape) * dtype.itemsize != size - file.tell():
            msg = f"{name} holds not as many numbers as its header says"
            raise ValueError(msg)
    with archive.open(name) as file:
        found: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        return found


def _expect(array: NDArray[np.generic], shape: tuple[int, ...], dtype: str, name: str) -> None:
    if array.shape != shape or str(array.dtype) != dtype:
        found, due = f"{array.dtype}{list(array.shape)}", f"{dtype}{list(shape)}"
        msg = f"{FILE} is malformed: {name} is {found}, must be {due}"
        raise Refused(msg)
