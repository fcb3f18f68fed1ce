"""`make images`: build the images, write what they hold, and the lock that runs read.

Each image is three things on top of each other: the base image, layers of wheels that change with
requirements.lock, and Slimline itself, which changes with each commit and takes seconds. What is
there under its tag is not built again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

from images import base as base_image
from images import table
from images.engine import Engine, Target, find_engine
from images.inventory import Inventory, take_inventory
from images.numpy_small import small_numpy
from images.plan import FOLDER, NAMES, Layer, code_tag, final_tag, plan_layers
from images.sbom import write_sbom
from images.signing import sign_files
from images.wheels import CONTEXT, alone, fetch, stage, stage_code, stage_tools
from slimline.adapters.images import Image, ImageLock
from slimline.contract import BadParameters, SlimlineError, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOCK = FOLDER / "lock.json"
_CHOSEN = CONTEXT / "chosen.json"
_AT_ONCE = 2
_ANNOTATION = "org.opencontainers.image"
_WITH_BLAS = "larger by OpenBLAS, as NumPy could not be compiled here"


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        names: which images; all if empty.
        base: the base image; empty for the default.
        torch: `cpu` or `cuda`; empty for what is installed here.
        index: where torch's CPU build is found.
        push: a registry and prefix to push to; empty for none.
        code_only: put today's Slimline on layers that must be there.
    """

    names: tuple[str, ...] = ()
    base: str = ""
    torch: str = ""
    index: str = ""
    push: str = ""
    code_only: bool = False


@dataclass(frozen=True)
class Built:
    """One finished image, for the lock and for the table."""

    name: str
    image: Image
    shared: int
    seconds: float
    note: str = ""


class Build:
    """One run of `make images`."""

    def __init__(self, engine: Engine, options: Options, tell: Callable[[str], None]) -> None:
        self.engine = engine
        self.options = options
        self.tell = tell
        self.base = base_image.find_base(engine, options.base, tell)
        self.base_id = self._id(self.base)
        with alone():
            stage_tools()
            self.source = stage_code()
        self.code = code_tag(self.base_id, self.source)
        self.layers = plan_layers(options.names or NAMES, self.base_id, options.torch)

    def run(self) -> list[Built]:
        """Build what is missing; returns all images that were asked for."""
        names = self.options.names or NAMES
        for name in ("base", "runtime", "numpy"):
            self._ensure_layer(self.layers[name])
        self._ensure_code()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._image, names))

    def _image(self, name: str) -> Built:
        started = time.monotonic()
        layer = self._settle(self.layers[name])
        self._ensure_layer(layer)
        tag = final_tag(layer, self.source)
        if not self.engine.inspect(tag):
            arguments = {
                "PARENT": layer.parent.tag if layer.parent else "",
                "CODE": self.code,
                "DEPENDENCIES": layer.tag,
            }
            self._build(layer, "final", tag, {k: v for k, v in arguments.items() if v})
        image = self._describe(name, layer, tag)
        below = layer.parent.tag if layer.parent else layer.tag
        seconds = time.monotonic() - started
        self.tell(f"{name}: {seconds:.0f} s")
        note = "" if layer == self.layers[name] else _WITH_BLAS
        return Built(name, image, self._size(below), seconds, note)

    def _settle(self, layer: Layer) -> Layer:
        """The layer as it is planned, or with the index's NumPy where none can be compiled."""
        if not layer.compiled or self.engine.inspect(layer.tag):
            return layer
        if not self.options.code_only:
            try:
                small_numpy(layer.pins["numpy"], self.tell)
            except TryLater as error:
                self.tell(f"{layer.image}: {_WITH_BLAS}: {error}")
            else:
                return layer
        return plan_layers([layer.image], self.base_id, small=False)[layer.image]

    def _ensure_layer(self, layer: Layer) -> None:
        if self.engine.inspect(layer.tag):
            return
        if self.options.code_only:
            msg = f"what image {layer.image!r} depends on has changed: run `make images`"
            raise BadParameters(msg)
        self.tell(f"{layer.image}: {layer.stage}, {len(layer.pins)} distributions")
        with alone():
            self._stage(layer)
        parent = {"PARENT": layer.parent.tag} if layer.image != "base" and layer.parent else {}
        self._build(layer, layer.stage, layer.tag, parent)

    def _stage(self, layer: Layer) -> None:
        """Lay out the wheels of a layer, and of those below it that its Dockerfile makes too."""
        if layer.parent and layer.parent.image == layer.image:
            self._stage(layer.parent)
        pins, wheels = dict(layer.pins), []
        if layer.compiled:
            wheels.append(small_numpy(pins.pop("numpy"), self.tell))
        stage(layer.wheels, [*wheels, *fetch(pins, self.options.index)])

    def _ensure_code(self) -> None:
        if not self.engine.inspect(self.code):
            self._build(self.layers["base"], "code", self.code, {})

    def _build(self, layer: Layer, stage_name: str, tag: str, arguments: dict[str, str]) -> None:
        labels = {
            f"{_ANNOTATION}.version": metadata.version("slimline"),
            f"{_ANNOTATION}.licenses": "Apache-2.0",
            f"{_ANNOTATION}.base.name": self.base,
            f"{_ANNOTATION}.base.digest": self.base_id,
        }
        target = Target(
            dockerfile=FOLDER / layer.image / "Dockerfile",
            stage=stage_name,
            tag=tag,
            arguments={"BASE_IMAGE": self.base, **arguments},
            labels=labels if stage_name == "final" else {},
        )
        self.engine.build(target, CONTEXT)

    def _describe(self, name: str, layer: Layer, tag: str) -> Image:
        image_id, held = self._id(tag), self._inventory(layer)
        document = FOLDER / "sbom" / f"{name}.cdx.json"
        if not _tells_of(document, image_id):
            document.parent.mkdir(exist_ok=True)
            document.write_text(write_sbom(name, image_id, held.with_slimline()))
        reference = self._push(name, tag) if self.options.push else image_id
        return Image(
            reference=reference,
            digest=reference.rpartition("@")[2],
            environment=held.environment,
            size=self._size(tag),
            sbom=f"sbom/{document.name}",
        )

    def _inventory(self, layer: Layer) -> Inventory:
        """What a layer holds; asked once."""
        file = CONTEXT / "inventory" / f"{layer.image}-{layer.digest}.json"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            file.write_text(take_inventory(self.engine, layer.tag).model_dump_json())
        return Inventory.model_validate_json(file.read_bytes())

    def _push(self, name: str, tag: str) -> str:
        """Push an image; returns its name with the digest that the registry gave it."""
        repository = f"{self.options.push.rstrip('/')}/slimline-{name}"
        pushed = f"{repository}:{tag.rpartition(':')[2]}"
        self.engine.run("tag", tag, pushed)
        self.tell(f"{name}: pushing to {repository}")
        self.engine.run("push", "--quiet", pushed)
        known = self.engine.inspect(pushed) or {}
        for reference in known.get("RepoDigests", ()):
            if reference.startswith(f"{repository}@"):
                return str(reference)
        msg = f"{repository}: the registry gave no digest for {pushed}: push again"
        raise TryLater(msg)

    def _id(self, tag: str) -> str:
        return str((self.engine.inspect(tag) or {}).get("Id", ""))

    def _size(self, tag: str) -> int:
        return int((self.engine.inspect(tag) or {}).get("Size", 0))


def build_images(options: Options, tell: Callable[[str], None]) -> list[Built]:
    """Build, and write lock, bills of materials and signatures.

    Raises:
        SlimlineError: says what is missing, and how to get it.
    """
    settled = chosen(options)
    built = Build(find_engine(), settled, tell).run()
    with alone():
        _write(built)
        _CHOSEN.write_text(json.dumps({"base": settled.base, "torch": settled.torch}))
    return built


def read_lock() -> ImageLock:
    """The lock as it is now; one without images when there is none."""
    if not LOCK.is_file():
        return ImageLock(images={})
    return ImageLock.model_validate_json(LOCK.read_bytes())


def _tells_of(document: Path, image: str) -> bool:
    """Whether a bill of materials is that of this very image: then it need not be written again."""
    if not document.is_file():
        return False
    return bool(json.loads(document.read_bytes())["metadata"]["component"]["version"] == image)


def chosen(options: Options) -> Options:
    """With `code_only`, the base image and torch of the build before."""
    if not options.code_only:
        return options
    if not _CHOSEN.is_file():
        raise BadParameters("no images are built here: run `make images`")
    return replace(options, **json.loads(_CHOSEN.read_bytes()))


def _write(built: Sequence[Built]) -> None:
    """Write the lock, in one step; images that were not asked for stay in it as they were."""
    kept = {n: i for n, i in read_lock().images.items() if n in NAMES}
    lock = ImageLock(images=dict(sorted({**kept, **{b.name: b.image for b in built}}.items())))
    fresh = LOCK.with_name("lock.json.new")
    fresh.write_text(lock.model_dump_json(indent=1) + "\n")
    fresh.replace(LOCK)
    sign_files([LOCK, *(FOLDER / image.sbom for image in lock.images.values())])


def main(argv: Sequence[str] | None = None) -> int:
    """Build what the command line names; returns the exit code (sysexits)."""
    started = time.monotonic()

    def tell(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:4.0f} s] {line}\n")

    try:
        built = build_images(_options(argv), tell)
    except SlimlineError as error:
        sys.stderr.write(f"images: {error}\n")
        return error.exit_code
    sys.stdout.write(table.render(built))
    return 0


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m images.build", description="Build the images.")
    say = parser.add_argument
    say("names", nargs="*", metavar="NAME", help=f"which images, all if none: {', '.join(NAMES)}")
    say("--base", default=os.environ.get("BASE_IMAGE", ""), help="base image (BASE_IMAGE)")
    say(
        "--torch",
        default="",
        choices=["cpu", "cuda"],
        help="which torch; the installed one if not given",
    )
    say(
        "--index",
        default=os.environ.get("TORCH_INDEX", ""),
        help="address or folder of torch's CPU build",
    )
    say("--push", default=os.environ.get("PUSH", ""), help="registry and prefix to push to (PUSH)")
    say(
        "--code-only",
        action="store_true",
        help="only put today's Slimline on layers that are there",
    )
    given = vars(parser.parse_args(argv))
    return Options(**{**given, "names": tuple(given["names"])})


if __name__ == "__main__":
    sys.exit(main())
