"""Which distributions an image holds: the extra of its name, as exact pins.

Nothing is resolved here. The virtual environment was made from requirements.lock, so its metadata
tells which distributions an extra needs, and the lock their versions: stated once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
RUNTIME = ("onnxruntime", "cryptography")
"""What five images share as one layer, all that these need but NumPy: the target `runtime` of
base/Dockerfile. NumPy is the layer above it, and the device image's own another one."""
_CUDA_ONLY = ("nvidia-", "cuda-", "triton")

Pins = dict[str, str]
"""Normalized name -> version; torch's with its local part: 2.13.0+cpu."""


def pins_of(extras: Iterable[str], *further: str) -> Pins:
    """Everything that the package with these extras needs, and `further` requirements with it.

    Raises:
        BadParameters: when a distribution is not installed, or in another version than locked.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = {"": project["dependencies"], **project["optional-dependencies"]}
    waiting = [Requirement(text) for extra in ("", *extras) for text in own[extra]]
    waiting += [Requirement(text) for text in further]
    locked, seen, found = _locked(), set[tuple[str, str]](), Pins()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            if name == project["name"]:
                waiting += [Requirement(text) for text in own[extra]]
            else:
                found[name] = _version(name, locked)
                waiting += _requirements(name, extra)
    return found


def _requirements(name: str, extra: str) -> list[Requirement]:
    given = _installed(name)[1]
    return [r for r in given if r.marker is None or r.marker.evaluate({"extra": extra})]


def _version(name: str, locked: Pins) -> str:
    """The locked version; the installed one of what `pip freeze` never lists, as setuptools."""
    installed = _installed(name)[0]
    if installed.public != Version(locked.get(name, str(installed))).public:
        msg = (
            f"{name} {installed} is installed, requirements.lock says {locked[name]}: "
            "run `make clean`, then again"
        )
        raise BadParameters(msg)
    return str(installed)


@cache
def _installed(name: str) -> tuple[Version, tuple[Requirement, ...]]:
    """An installed distribution: its version and what it asks for; read once, that is slow."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError as error:
        msg = f"{name} is not installed here: run `make clean`, then `make images`"
        raise BadParameters(msg) from error
    needs = found.get_all("Requires-Dist") or ()
    return Version(found["Version"]), tuple(Requirement(text) for text in needs)


def _locked() -> Pins:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    given = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in given}


def torch_pins(variant: str = "") -> Pins:
    """The extra `torch` with torch built for `cpu` or `cuda`; as it is installed here if empty.

    Raises:
        BadParameters: when pip finds no such build.
    """
    pins = pins_of(["torch"])
    if variant in ("", _variant_of(pins["torch"])):
        return pins
    public = Version(pins["torch"]).public
    if variant == "cpu":
        kept = {n: v for n, v in pins.items() if not n.startswith(_CUDA_ONLY)}
        return {**kept, "torch": f"{public}+cpu"}
    return {**pins, **_resolve(f"torch==={public}")}


def _variant_of(version: str) -> str:
    return "cpu" if Version(version).local == "cpu" else "cuda"


def _resolve(requirement: str) -> Pins:
    """What pip would install for a requirement, under the lock's constraints."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
    command += ["--ignore-installed", "--only-binary", ":all:", "--disable-pip-version-check"]
    lock = str(ROOT / "requirements.lock")
    done = subprocess.run(
        [*command, "--constraint", lock, requirement], check=False, capture_output=True, text=True
    )
    if done.returncode:
        msg = f"pip finds no {requirement}: {done.stderr.strip()}"
        raise BadParameters(msg)
    found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return {canonicalize_name(item["name"]): item["version"] for item in found}
