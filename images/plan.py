"""What is to be built: layers of wheels, each under a tag that is made of all that decides it.

So what is there already is found by its tag, nothing is ever overwritten, and two checkouts on one
engine do not disturb each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images import numpy_small
from images.pins import ROOT, RUNTIME, pins_of, torch_pins
from images.wheels import SCRIPTS
from slimline.contract import BadParameters, digest_json, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from images.pins import Pins

FOLDER = ROOT / "images"
NAMES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/Dockerfile")))
WITHOUT_BLAS = ("device",)
"""Images whose NumPy is compiled without it, as they must be small."""
_PARENT = re.compile(r"^ARG PARENT=slimline-base:(dependencies|runtime|numpy)$", re.MULTILINE)
_LAST_STAGE = "FROM ${DEPENDENCIES}"
_TAG_DIGITS = 12


@dataclass(frozen=True)
class Layer:
    """A stage of a Dockerfile that adds wheels to its parent.

    Attributes:
        image: the folder of its Dockerfile.
        stage: `dependencies`, or `runtime` or `numpy` of base/Dockerfile.
        wheels: the folder of the build context that holds its wheels.
        pins: what it adds.
        parent: what it stands on; None for the first, which stands on BASE_IMAGE.
        digest: hex sha256 over all that decides what it holds.
        compiled: how its NumPy is compiled; empty for the index's wheel.
    """

    image: str
    stage: str
    wheels: str
    pins: Pins
    parent: Layer | None
    digest: str
    compiled: str = ""

    @property
    def tag(self) -> str:
        """Its name in the engine."""
        return f"slimline-{self.image}:{self.stage}-{self.digest[:_TAG_DIGITS]}"

    @property
    def all_pins(self) -> Pins:
        """What it holds, its parents' included."""
        return {**(self.parent.all_pins if self.parent else {}), **self.pins}


def plan_layers(
    names: Iterable[str], base: str, torch: str = "", *, small: bool = True
) -> dict[str, Layer]:
    """The layer of each image, by the image's name; `runtime` and `numpy` are those they share.

    Args:
        names: of the images.
        base: id of the base image.
        torch: `cpu` or `cuda`; as it is installed here if empty.
        small: compile the NumPy of images that need no BLAS.

    Raises:
        BadParameters: when there is no such image, or the environment is not the locked one.
    """
    for name in set(names) - set(NAMES):
        msg = f"image {name!r} has no folder in images/; there are: {', '.join(NAMES)}"
        raise BadParameters(msg)
    first = _layer(("base", "dependencies", "core"), pins_of([]), base=base)
    shared = pins_of([], *RUNTIME)
    above = {"numpy": shared.pop("numpy")}
    runtime = _layer(("base", "runtime", "runtime"), shared, first, base=base)
    numpy = _layer(("base", "numpy", "numpy"), above, runtime, base=base)
    layers = {"base": first, "runtime": runtime, "numpy": numpy}
    for name in sorted(set(names) - {"base"}):
        pins = torch_pins(torch) if name == "torch" else pins_of([name])
        parent = {"dependencies": first, **layers}[_parent_of(name)]
        compiled = numpy_small.RECIPE if small and name in WITHOUT_BLAS else ""
        layers[name] = _layer((name, "dependencies", name), pins, parent, compiled, base=base)
    return layers


def code_tag(base: str, source: str) -> str:
    """The name of the image that holds Slimline alone, for a digest of its source."""
    return f"slimline-base:code-{digest_json([base, *_scripts('base'), source])[:_TAG_DIGITS]}"


def final_tag(layer: Layer, source: str) -> str:
    """The name of the finished image."""
    whole = sha256_file(FOLDER / layer.image / "Dockerfile")
    return f"slimline-{layer.image}:{digest_json([layer.digest, whole, source])[:_TAG_DIGITS]}"


def _layer(
    place: tuple[str, str, str],
    pins: Pins,
    parent: Layer | None = None,
    compiled: str = "",
    *,
    base: str,
) -> Layer:
    """A layer, `place` being its image, stage and folder of wheels."""
    image, stage, wheels = place
    own = {n: v for n, v in pins.items() if parent is None or n not in parent.all_pins}
    below = parent.digest if parent else base
    digest = digest_json([below, stage, *_scripts(image), sorted(own.items()), compiled])
    return Layer(image, stage, wheels, own, parent, digest, compiled)


def _scripts(image: str) -> list[str]:
    """Digests of what makes an image's layers: its Dockerfile without the last stage, scripts."""
    stages = (FOLDER / image / "Dockerfile").read_text().partition(_LAST_STAGE)[0]
    return [digest_json(stages), *(sha256_file(script) for script in SCRIPTS)]


def _parent_of(name: str) -> str:
    found = _PARENT.search((FOLDER / name / "Dockerfile").read_text())
    if not found:
        msg = f"images/{name}/Dockerfile names no parent: ARG PARENT=slimline-base:dependencies"
        raise BadParameters(msg)
    return found[1]
