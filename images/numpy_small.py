"""NumPy without BLAS, for the device image: compiled once from the locked version, then kept.

The index's wheel carries OpenBLAS, 28 MB that nothing on a device calls; without it NumPy has loops
of its own. The compiler is Zig's, a wheel too: so no machine needs one, all take the same, and what
it makes runs on the C library of TARGET or newer, whatever this machine has.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from base64 import urlsafe_b64encode
from collections import deque
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import ZipFile

from images.wheels import CONTEXT, HOUSE
from slimline.contract import TryLater, digest_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TOOLS = (
    *("ziglang==0.17.1", "meson-python==0.22.1", "pyproject-metadata==0.12.1"),
    *("packaging==26.3", "cython==3.3.1", "ninja==1.13.2"),
)
TARGET = f"{platform.machine()}-linux-gnu.2.28"
SETUP = (
    *("allow-noblas=true", "blas=none", "lapack=none"),
    # Of one variant for each function, the one for the least processor; small, which halves
    # the time to compile. What a device computes with NumPy takes a hundredth of an inference.
    *("cpu-dispatch=none", "disable-svml=true", "disable-intel-sort=true"),
    *("optimization=s", "b_ndebug=true"),
)
# /usr/include, after all else, as Debian keeps half of Python's headers there; and small from the
# first trial on, or Zig compiles its C++ library twice.
_OPTIONS = f"-target {TARGET} -Os -idirafter /usr/include"
_VARIABLES = {
    "CC": f"zig cc {_OPTIONS}",
    "CXX": f"zig c++ {_OPTIONS}",
    "AR": "zig ar",
    "LDFLAGS": "-s",
    "SOURCE_DATE_EPOCH": "315532800",
}
_NOT_OURS = {"CFLAGS", "CXXFLAGS", "CPPFLAGS"}
RECIPE = digest_json([TOOLS, SETUP, sorted(_VARIABLES.items()), sys.implementation.cache_tag])
"""Hex sha256 over all that decides what is compiled, NumPy's version apart."""

_CONFIG = "numpy/__config__.py"
_STEP = re.compile(r"\[(\d+)/(\d+)\] ")
_TOLD = 8
"""How often a build says how far it is."""


def small_numpy(version: str, tell: Callable[[str], None]) -> Path:
    """The wheel; compiled when it is not in the wheelhouse yet: some minutes, once.

    Args:
        version: of NumPy.
        tell: hears how far it is.

    Raises:
        TryLater: when it cannot be compiled here; says why.
    """
    place = HOUSE / "small" / digest_json([version, RECIPE])[:12]
    if found := next(place.glob("numpy-*.whl"), None):
        return found
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise TryLater("Python's headers are missing: apt-get install python3-dev")
    place.mkdir(parents=True, exist_ok=True)
    CONTEXT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="numpy-", dir=CONTEXT.parent) as scratch:
        made = _compile(version, Path(scratch), tell)
        return _without_paths(made).replace(place / made.name)


def _compile(version: str, scratch: Path, tell: Callable[[str], None]) -> Path:
    tell(f"NumPy {version} is compiled without BLAS, some minutes, once: fetching a compiler")
    tools = scratch / "tools"
    _pip("install", "--no-deps", "--no-compile", "--target", str(tools), *TOOLS)
    settings = [f"-Csetup-args=-D{option}" for option in SETUP]
    source = ["--no-deps", "--no-binary", "numpy", f"numpy=={version}"]
    options = ["--verbose", "--no-cache-dir", "--no-build-isolation", "--wheel-dir", str(scratch)]
    _pip("wheel", *options, *settings, *source, variables=_variables(tools), tell=tell)
    return next(scratch.glob("numpy-*.whl"))


def _variables(tools: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    path = f"{tools / 'bin'}:{tools / 'ziglang'}:{inherited.get('PATH', '')}"
    own = {"PATH": path, "PYTHONPATH": str(tools), "ZIG_GLOBAL_CACHE_DIR": str(tools / "cache")}
    return {**inherited, **_VARIABLES, **own}


def _pip(
    *arguments: str,
    variables: dict[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    with subprocess.Popen(
        command,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        last = _follow(running.stdout or (), tell or (lambda _: None))
    if running.returncode:
        raise TryLater(f"pip {arguments[0]} failed:\n" + "\n".join(last))


def _follow(lines: Iterable[str], tell: Callable[[str], None]) -> deque[str]:
    """Tell about every eighth of the steps that a build counts; returns its last lines."""
    last, said = deque[str](maxlen=40), 0
    for line in lines:
        last.append(line.rstrip())
        if found := _STEP.search(line):
            step, steps = map(int, found.groups())
            if step * _TOLD // steps > said:
                said = step * _TOLD // steps
                tell(f"NumPy: {step} of {steps} steps")
    return last


def _without_paths(wheel: Path) -> Path:
    """The same wheel without the path of the Python that made it: then it is so on any machine."""
    settled = wheel.with_suffix(".settled")
    with ZipFile(wheel) as old, ZipFile(settled, "w") as new:
        config = old.read(_CONFIG).replace(sys.executable.encode(), b"python")
        digest = urlsafe_b64encode(sha256(config).digest()).rstrip(b"=").decode()
        record = f"{_CONFIG},sha256={digest},{len(config)}"
        for item in old.infolist():
            content = config if item.filename == _CONFIG else old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                content = re.sub(rf"(?m)^{_CONFIG},.*$", record, content.decode()).encode()
            new.writestr(item, content)
    return settled
