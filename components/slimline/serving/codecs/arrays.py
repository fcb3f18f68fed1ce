"""Lists and buffers that strangers send, turned into arrays of a shape that we know already.

Nothing is allocated by what a request claims: a list is walked along the known shape, a buffer must
have exactly the bytes that its shape says.
"""

from __future__ import annotations

from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import orjson

from slimline.serving.http import HttpError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BIGGEST = 2**40


def parse_json(body: bytes) -> Any:
    """Read JSON; 400 when it is none. NaN and infinity are no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is no JSON: {error}") from error


def from_lists(value: Any, shape: tuple[int, ...], dtype: str, what: str) -> NDArray[np.generic]:
    """Nested lists of a batch, as an array of shape (batch, *shape).

    Args:
        value: what JSON held.
        shape: of one example.
        dtype: uint8 or float32.
        what: the field's name, for messages.
    """
    if type(value) is not list or not value:
        raise HttpError(422, f"{what}: a list of examples is needed, each of shape {list(shape)}")
    level = value
    for axis, size in enumerate(shape):
        if not all(type(item) is list and len(item) == size for item in level):
            raise HttpError(
                422, f"{what}: not every example has {size} values along axis {axis} of {shape}"
            )
        level = list(chain.from_iterable(level))
    return from_numbers(level, dtype, what).reshape(len(value), *shape)


def from_numbers(values: list[Any], dtype: str, what: str) -> NDArray[np.generic]:
    """A flat list of numbers as an array; booleans, strings and null are no numbers."""
    import numpy as np

    kinds = set(map(type, values))
    if dtype == "uint8":
        if kinds <= {int}:
            try:
                return np.frombuffer(bytes(values), np.uint8)
            except ValueError:
                pass
        raise HttpError(422, f"{what}: whole numbers from 0 to 255 are needed")
    if not kinds <= {int, float}:
        raise HttpError(422, f"{what}: numbers are needed, nothing else")
    with np.errstate(over="ignore"):  # infinity is refused by the preprocessing, with its reason
        try:
            return np.array(values, np.float32)
        except OverflowError as error:
            raise HttpError(422, f"{what}: a number is too large") from error


def from_buffer(
    data: bytes | memoryview, shape: tuple[int, ...], dtype: str, what: str
) -> NDArray[np.generic]:
    """Raw little-endian bytes as an array of `shape`; their number must be exactly right."""
    import numpy as np

    kind = np.dtype(dtype).newbyteorder("<")
    needed = prod(shape) * kind.itemsize
    if len(data) != needed:
        raise HttpError(400, f"{what}: {len(data)} bytes of data, {list(shape)} needs {needed}")
    return np.frombuffer(data, kind).astype(dtype, copy=False).reshape(shape)


def check_batch(shape: Any, example: tuple[int, ...], max_batch: int, what: str) -> tuple[int, ...]:
    """A shape that a request claims, as a tuple; it must be (batch, *example)."""
    if type(shape) not in (list, tuple) or not all(type(n) is int for n in shape):
        raise HttpError(400, f"{what}: shape must be a list of whole numbers")
    if any(not 0 <= n < _BIGGEST for n in shape):
        raise HttpError(400, f"{what}: shape {list(shape)} cannot be")
    if not shape or tuple(shape[1:]) != example:
        taken = ["batch", *example]
        raise HttpError(422, f"{what}: shape is {list(shape)}, the model takes {taken}")
    if not 0 < shape[0] <= max_batch:
        raise HttpError(422, f"{what}: {shape[0]} examples, 1 to {max_batch} are taken at once")
    return tuple(shape)
