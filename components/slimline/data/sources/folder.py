"""Image folders: one folder per class, the folder's name is the class name."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slimline.contract import BadData, progress
from slimline.data.sources.classes import from_names, names_found
from slimline.data.sources.files import Files
from slimline.data.sources.images import ImageArray
from slimline.data.sources.raw import Part, Raw, join, whole

if TYPE_CHECKING:
    from slimline.data.spec import FolderSource


def read_folder(spec: FolderSource) -> Raw:
    """Read every image, in the order of the sorted paths."""
    files = Files(spec.max_bytes)
    places = {"path": spec.path} | ({"test_path": spec.test_path} if spec.test_path else {})
    names = {parameter: files.names(base, parameter) for parameter, base in places.items()}
    classes = {p: [_class_of(n, places[p], p) for n in found] for p, found in names.items()}
    labels = spec.labels or names_found(c for found in classes.values() for c in found)
    parts = [
        _part(spec, files, (parameter, base), names[parameter], (classes[parameter], labels))
        for parameter, base in places.items()
    ]
    return join(parts[0], parts[1] if len(parts) > 1 else None, labels, files.digest)


def _part(
    spec: FolderSource,
    files: Files,
    place: tuple[str, str],
    names: list[str],
    classes: tuple[list[str], tuple[str, ...]],
) -> Part:
    parameter, base = place
    y = from_names(classes[0], classes[1], base)
    images = ImageArray(spec, len(names))
    for name in progress(names, len(names), f"check_data: images of {parameter}"):
        images.add(files.read(base, name, parameter), f"{base.rstrip('/')}/{name}")
    return whole(images.array(), y)


def _class_of(name: str, base: str, parameter: str) -> str:
    parents = PurePosixPath(name).parts[:-1]
    if not parents:
        msg = (
            f"source.{parameter}: {name!r} lies in {base!r} itself: put every image into a "
            "folder that is named for its class"
        )
        raise BadData(msg)
    return parents[0]
