"""Wheels: fetched once by the host's own pip, then handed to builds that need no network."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, parse_wheel_filename

from images.pins import ROOT
from slimline.contract import TryLater, digest_json, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from images.pins import Pins

HOUSE = ROOT / "images" / "wheelhouse"
CONTEXT = ROOT / "build" / "images"
"""The build context: a folder of wheels for each layer, and `tools`."""

SCRIPTS = (ROOT / "images" / "install.py", ROOT / "images" / "drop.txt")


def fetch(pins: Pins, index: str = "") -> list[Path]:
    """The wheels of some pins; those that are not in the wheelhouse yet are fetched.

    Args:
        pins: what is needed.
        index: an address or a folder that holds torch's CPU build, as for `make demo`.

    Raises:
        TryLater: when pip cannot get them.
    """
    here = _wheels()
    missing = [_exactly(n, v) for n, v in pins.items() if (n, v) not in here]
    if missing:
        given = ["--find-links" if Path(index).is_dir() else "--extra-index-url", index]
        _pip("wheel", "--no-deps", "--wheel-dir", str(HOUSE), *(given if index else []), *missing)
        here = _wheels()
    return [here[pin] for pin in pins.items()]


def stage(folder: str, wheels: Iterable[Path]) -> None:
    """Make a folder of the build context hold exactly these wheels, touching none that is there."""
    wanted = {wheel.name: wheel for wheel in wheels}
    directory = CONTEXT / folder
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        if old.name not in wanted or not old.samefile(wanted[old.name]):
            old.unlink()
    for name, wheel in wanted.items():
        if not (directory / name).exists():
            _link(wheel, directory / name)


def stage_tools() -> None:
    """What runs in a build container: pip as a wheel, and our script with its rules."""
    (pip,) = fetch({"pip": metadata.version("pip")})
    stage("tools", [pip, *SCRIPTS])


def stage_code() -> str:
    """Slimline's own wheel, built again only when its source changed; returns the source's digest.

    Raises:
        TryLater: when the source changes meanwhile.
    """
    folder, stamp = CONTEXT / "code", CONTEXT / "code.sha256"
    digest = source_digest()
    if stamp.is_file() and stamp.read_text() == digest and list(folder.glob("*.whl")):
        return digest
    shutil.rmtree(folder, ignore_errors=True)
    backend = HOUSE / "backend"
    if not backend.is_dir():
        _pip("download", "--dest", str(backend), "hatchling>=1.27")
    offline = ["--no-deps", "--no-index", "--find-links", str(backend)]
    _pip("wheel", *offline, "--wheel-dir", str(folder), str(ROOT))
    if source_digest() != digest:
        raise TryLater("components/slimline changed while it was packed: run `make images` again")
    stamp.write_text(digest)
    return digest


def source_digest() -> str:
    """Hex sha256 over the files that Slimline's wheel is made of."""
    package = ROOT / "components" / "slimline"
    files = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    files += [ROOT / "pyproject.toml", ROOT / "README.md"]
    return digest_json(sorted((str(p.relative_to(ROOT)), sha256_file(p)) for p in files))


@contextmanager
def alone() -> Iterator[None]:
    """Hold this checkout's lock on what builds share: wheels, their context, the lock file."""
    CONTEXT.mkdir(parents=True, exist_ok=True)
    with (CONTEXT / "held").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wheels() -> dict[tuple[str, str], Path]:
    found = {}
    for path in HOUSE.glob("*.whl"):
        name, version, _, _ = parse_wheel_filename(path.name)
        found[str(canonicalize_name(name)), str(version)] = path
    return found


def _exactly(name: str, version: str) -> str:
    """`torch==2.13.0` would take 2.13.0+cpu too; three signs compare the text."""
    return f"{name}{'===' if name == 'torch' else '=='}{version}"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _pip(command: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--disable-pip-version-check", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        msg = (
            f"pip {command} failed: is the package index there, and has it torch's CPU build "
            f"(make images TORCH_INDEX=<url or directory>)?\n{done.stderr.strip()}"
        )
        raise TryLater(msg)
