"""Does a package fit a device? The device itself answers, before it fetches anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from slimline.contract import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PROBE_SECONDS = 60
_CLAUSE = re.compile(r"(>=|<=|==|!=|<|>)\s*(\d+(?:\.\d+)*)")


class Inventory(BaseModel):
    """What a device has; the keys are those of a package's `requires`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    onnxruntime: str
    opset: int
    """Newest ONNX opset that the runtime runs."""
    arch: str
    memory_mb: int
    preprocessing: tuple[int, ...] = (1,)
    """Versions of the preprocessing specification that the agent can apply."""


@cache
def read_inventory() -> Inventory:
    """What this machine has; the runtime is asked in a process of its own, and once.

    Raises:
        TryLater: when the runtime does not start.
    """
    return Inventory(
        onnxruntime=importlib.metadata.version("onnxruntime"),
        opset=_newest_opset(),
        arch=platform.machine(),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6,
    )


def misfit(requires: Mapping[str, Any], inventory: Inventory) -> str:
    """Why a package does not fit, as half a sentence; "" when it fits.

    A requirement that is not known is a misfit: it was asked for with a reason.
    """
    for name, wanted in requires.items():
        check = _CHECKS.get(name)
        if check is None:
            return f"it requires {name}, which this agent does not know"
        if wanted is not None and not _met(check, wanted, inventory):
            return f"it requires {name} {_told(wanted)}, the device has {_has(name, inventory)}"
    return ""


def satisfies(version: str, clauses: str) -> bool:
    """Whether a version lies in a range such as `>=1.20,<2`; numbers only, no pre-releases."""
    have = _numbers(re.sub(r"[^\d.].*", "", version))
    for clause in clauses.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None or not have:
            return False
        if not _compare(have, match[1], _numbers(match[2])):
            return False
    return True


def _newest_opset() -> int:
    command = [sys.executable, "-m", "slimline.measure.opset"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", "") or error).strip()[-200:]
        msg = f"ONNX Runtime does not start, so nothing can be run: {told}; install it again"
        raise TryLater(msg) from error


def _met(check: Callable[[Any, Inventory], bool], wanted: Any, inventory: Inventory) -> bool:
    """Whether a requirement is met; one that cannot be read is not."""
    try:
        return check(wanted, inventory)
    except (TypeError, ValueError, OverflowError):
        return False


def _compare(have: tuple[int, ...], operator: str, wanted: tuple[int, ...]) -> bool:
    length = max(len(have), len(wanted))
    a = have + (0,) * (length - len(have))
    b = wanted + (0,) * (length - len(wanted))
    return {
        ">=": a >= b,
        "<=": a <= b,
        "==": a == b,
        "!=": a != b,
        "<": a < b,
        ">": a > b,
    }[operator]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _told(wanted: Any) -> str:
    return ", ".join(map(str, wanted)) if isinstance(wanted, list | tuple) else str(wanted)


def _has(name: str, inventory: Inventory) -> str:
    return _told(getattr(inventory, name))


_CHECKS: dict[str, Callable[[Any, Inventory], bool]] = {
    "onnxruntime": lambda wanted, has: satisfies(has.onnxruntime, str(wanted)),
    "opset": lambda wanted, has: int(wanted) <= has.opset,
    "arch": lambda wanted, has: has.arch in wanted,
    "memory_mb": lambda wanted, has: float(wanted) <= has.memory_mb,
    "preprocessing": lambda wanted, has: int(wanted) in has.preprocessing,
}
