"""From a package to the release that a fleet may run."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from slimline.coding import encode_model
from slimline.fleet.documents import Coded, Descriptor
from slimline.trust.manifest import hash_file, hash_stream
from slimline.trust.package import list_files

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.contract import Package
    from slimline.fleet.objects import Objects
    from slimline.trust.manifest import PackageManifest

_MODEL = "model/model.onnx"
_MOST_CODED = 2**28
"""Bytes; a device holds a model twice while it restores it."""
_WORTH_IT = 0.9
_DIGITS = 12


def describe_release(
    root: Path,
    manifest: PackageManifest,
    package: Package,
    *,
    uri: str = "",
    coded: tuple[Coded, ...] = (),
) -> Descriptor:
    """The descriptor of a verified package.

    Args:
        root: the package's files.
        manifest: what `verify_package` returned.
        package: its digest, and where it is stored.
        uri: where devices find the files; the package's own URI if not given.
        coded: what `copy_package` put there besides.
    """
    return Descriptor(
        name=manifest.name,
        version=manifest.version,
        security_version=manifest.security_version,
        package_digest=package.digest,
        uri=uri or package.uri,
        files=tuple(hash_file(root, path) for path in list_files(root)),
        requires=manifest.requires.model_dump(mode="json"),
        coded=coded,
    )


def copy_package(objects: Objects, root: Path, digest: str) -> tuple[str, tuple[Coded, ...]]:
    """Put a package's files into the fleet's own repository, the model in its coded form too.

    Then devices need one place only, and a copy of the repository on a USB stick holds all.

    Returns:
        The files' relative URI, and what a device may fetch in the place of some of them.
    """
    uri = f"packages/{digest}"
    for path in list_files(root):
        objects.put(f"{uri}/{path}", (root / path).read_bytes(), if_absent=True)
    coded = []
    for path, data in _code(root).items():
        file = hash_stream(io.BytesIO(data), path)
        file = file.model_copy(update={"path": f"{path}.{file.sha256[:_DIGITS]}.coded"})
        objects.put(f"{uri}/{file.path}", data, if_absent=True)
        coded.append(Coded(path=path, file=file))
    return uri, tuple(coded)


def _code(root: Path) -> dict[str, bytes]:
    """The coded form of each file that is much smaller in it."""
    model = (root / _MODEL).read_bytes()
    if len(model) > _MOST_CODED:
        return {}
    data = encode_model(model)
    return {_MODEL: data} if len(data) < _WORTH_IT * len(model) else {}
