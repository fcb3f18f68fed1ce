"""What NumPy can do and computes; a script too, which a test hands to a container of the device."""

import hashlib
import json
import os
import sys

import numpy as np

from slimline.coding.streams import decode, encode
from slimline.data.preprocess import Normalize, Preprocessing, Scale, ToNCHW

BLAS = ("openblas", "libblas", "cblas", "liblapack", "libmkl", "libblis", "gfortran", "quadmath")


def computed():
    """Digests of what a device computes with NumPy, on whole numbers drawn from a seed."""
    draw = np.random.default_rng(7)
    pixels = draw.integers(0, 256, (4, 33, 29, 3), np.uint8)
    steps = (Scale(), Normalize(mean=(0.49, 0.48, 0.44), std=(0.2, 0.19, 0.21)), ToNCHW())
    x = Preprocessing(shape=pixels.shape[1:], steps=steps).apply(pixels)
    levels = draw.integers(-9, 10, 40_000).clip(0)
    arrays = {"grid": levels * np.float32(0.037), "bytes": levels.astype(np.int8), "floats": x}
    found = {"preprocessed": x.tobytes(), "far": np.abs(x.astype(np.float64) - 0.25).max()}
    for name, array in arrays.items():
        stream, body = encode(array.tobytes(), array.itemsize, floats=name != "bytes")
        found[name] = decode(stream, memoryview(body), array.nbytes)
    return {name: hashlib.sha256(value).hexdigest() for name, value in found.items()}


def products():
    """Matrix products, each in a way of its own, and decompositions of a small matrix."""
    a, b = np.arange(12.0).reshape(3, 4), np.arange(8.0).reshape(4, 2)
    square = np.array([[4.0, 1.0], [2.0, 3.0]])
    return {
        "matmul": (a @ b).tolist(),
        "single": (a.astype(np.float32) @ b.astype(np.float32)).tolist(),
        "einsum": np.einsum("ij,jk->ik", a, b).tolist(),
        "dot": np.dot(a[0], a[1]),
        "inverse": (np.linalg.inv(square) @ square).tolist(),
        "eigenvalues": sorted(np.linalg.eigvalsh(square + square.T).tolist()),
    }


def files():
    """The path of every file here."""
    for folder, below, names in os.walk("/"):
        below[:] = [name for name in below if f"{folder}{name}" not in ("/proc", "/sys")]
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118 - 20,000 of them


def main():
    """Say all of it, as one line of JSON; of the files, how many and which are BLAS."""
    there = [file.lower() for file in files()]
    built = np.show_config(mode="dicts")["Build Dependencies"]
    told = {
        "files": len(there),
        "blas": [file for file in there if any(name in file for name in BLAS)],
        "built": {name: built[name]["name"] for name in ("blas", "lapack")},
        "products": products(),
        "computed": computed(),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
