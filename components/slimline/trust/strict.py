"""JSON from outside, read without giving anything away: bounded, finite, no duplicate key."""

from __future__ import annotations

import json
import math
from typing import Any

from slimline.contract import Refused

MAX_BYTES = 4 * 2**20
"""Far above any statement, bundle or manifest of ours."""


def read_object(data: bytes, what: str, *, limit: int = MAX_BYTES) -> dict[str, Any]:
    """Parse bytes as one JSON object.

    Args:
        data: what was read.
        what: its name, for the error.
        limit: most bytes taken.

    Raises:
        Refused: on too many bytes, on what is no JSON object, on a key given twice, on NaN and
            infinity in whatever spelling.
    """
    if len(data) > limit:
        msg = f"{what} is malformed: it has {len(data)} bytes, at most {limit} are read"
        raise Refused(msg)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except _NotFinite as error:
        msg = f"{what} holds {error}: only finite numbers count"
        raise Refused(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{what} is malformed: {str(error) or 'it nests too deep'}"
        raise Refused(msg) from error
    if not isinstance(value, dict):
        msg = f"{what} is malformed: it is no JSON object"
        raise Refused(msg)
    return value


class _NotFinite(Exception):
    """A number that no threshold can be compared with."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice in one object"
        raise ValueError(msg)
    return found


def _no_constant(text: str) -> float:
    raise _NotFinite(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotFinite(text[:20])
    return value
