"""Datasets that come with scikit-learn: real measurements, no download."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from slimline.data.sources.raw import Raw, join, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.spec import SklearnSource

_DIGIT_LEVELS = 16


def read_sklearn(spec: SklearnSource) -> Raw:
    """Read one of the bundled datasets; it has no official test part."""
    import numpy as np
    from sklearn import datasets  # type: ignore[import-untyped]

    bunch: Any = getattr(datasets, f"load_{spec.name}")()
    if spec.name == "digits":
        x = digits_as_bytes(bunch.images)
    else:
        x = np.ascontiguousarray(bunch.data, np.float32)
    y = np.ascontiguousarray(bunch.target, np.int64)
    labels = tuple(str(name) for name in bunch.target_names)
    hashed = hashlib.sha256()
    for array in (x, y):
        hashed.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return join(whole(x, y), None, labels, hashed.hexdigest())


def digits_as_bytes(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The digits' levels 0..16 as bytes 0..255, shape (n, 8, 8, 1).

    Each level v becomes round(v * 255 / 16), so the 17 levels stay apart and nothing is lost.
    """
    import numpy as np

    scaled = np.rint(images * (255 / _DIGIT_LEVELS))
    return np.ascontiguousarray(scaled.astype(np.uint8)[..., None])
