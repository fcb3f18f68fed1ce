"""What is installed in an image, told by the image itself."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from slimline.contract.artifact import digest_json

if TYPE_CHECKING:
    from images.engine import Engine

_OPTIONS = ("--rm", "--interactive", "--pull=never", "--network=none", "--read-only")
_SCRIPT = r"""
import email.parser, importlib.metadata, json, pathlib, platform, re, sys
def distribution(d):
    m = d.metadata
    return {"name": re.sub(r"[-_.]+", "-", m["Name"]).lower(), "version": d.version,
            "licence": m.get("License-Expression") or m.get("License") or "",
            "compiled": "-linux_" in (d.read_text("WHEEL") or ""),
            "requires": d.requires or []}
def packages():
    file = pathlib.Path("/var/lib/dpkg/status")
    stanzas = file.read_text(errors="replace").split("\n\n") if file.is_file() else []
    for m in map(email.parser.HeaderParser().parsestr, stanzas):
        if "installed" in (m["Status"] or "").split():
            yield {"name": m["Package"], "version": m["Version"], "architecture": m["Architecture"]}
release = [l.rstrip().split("=", 1) for l in open("/etc/os-release") if "=" in l]
told = {"python": platform.python_version(), "system": {k: v.strip('"') for k, v in release},
        "distributions": sorted(map(distribution, importlib.metadata.distributions()),
                                key=lambda d: d["name"]),
        "packages": sorted(packages(), key=lambda p: p["name"])}
json.dump(told, sys.stdout)
"""


class Distribution(BaseModel):
    """An installed Python distribution.

    Attributes:
        name: normalized.
        version: of it.
        licence: as it tells itself.
        requires: other distributions.
        compiled: from source, not the index's wheel: its tag is of no system that an index takes.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    licence: str
    requires: tuple[str, ...]
    compiled: bool = False


class Package(BaseModel):
    """An installed package of the operating system."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    architecture: str


class Inventory(BaseModel):
    """Everything that is installed; lists sorted by name.

    Attributes:
        python: the version of Python.
        system: what /etc/os-release says.
        distributions: of Python.
        packages: of the operating system.
    """

    model_config = ConfigDict(frozen=True)

    python: str
    system: dict[str, str]
    distributions: tuple[Distribution, ...]
    packages: tuple[Package, ...]

    @property
    def environment(self) -> str:
        """Hex sha256 over all of it; of the distributions and packages, over name and version.

        A distribution that was compiled is another one than the index's of the same version.
        """
        python = [
            [d.name, d.version, *(["compiled"] if d.compiled else [])]
            for d in self.distributions
            if d.name != "slimline"
        ]
        system = [[p.name, p.version, p.architecture] for p in self.packages]
        return digest_json([self.python, self.system.get("VERSION_ID", ""), python, system])

    def with_slimline(self) -> Inventory:
        """The same with Slimline on top: what a finished image holds."""
        version = metadata.version("slimline")
        own = Distribution(name="slimline", version=version, licence="Apache-2.0", requires=())
        return self.model_copy(update={"distributions": (*self.distributions, own)})


def take_inventory(engine: Engine, image: str) -> Inventory:
    """Ask an image; it runs without a network, and read-only."""
    told = engine.run("run", *_OPTIONS, "--entrypoint=python", image, "-I", "-", stdin=_SCRIPT)
    return Inventory.model_validate_json(told)
