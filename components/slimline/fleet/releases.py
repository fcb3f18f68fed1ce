"""From a package to the release that a fleet may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.fleet.documents import Descriptor
from slimline.trust.manifest import hash_file
from slimline.trust.package import list_files

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.contract import Package
    from slimline.fleet.objects import Objects
    from slimline.trust.manifest import PackageManifest


def describe_release(
    root: Path, manifest: PackageManifest, package: Package, *, uri: str = ""
) -> Descriptor:
    """The descriptor of a verified package.

    Args:
        root: the package's files.
        manifest: what `verify_package` returned.
        package: its digest, and where it is stored.
        uri: where devices find the files; the package's own URI if not given.
    """
    return Descriptor(
        name=manifest.name,
        version=manifest.version,
        security_version=manifest.security_version,
        package_digest=package.digest,
        uri=uri or package.uri,
        files=tuple(hash_file(root, path) for path in list_files(root)),
        requires=manifest.requires.model_dump(mode="json"),
    )


def copy_package(objects: Objects, root: Path, digest: str) -> str:
    """Put a package's files into the fleet's own repository; returns their relative URI.

    Then devices need one place only, and a copy of the repository on a USB stick holds all.
    """
    for path in list_files(root):
        objects.put(f"packages/{digest}/{path}", (root / path).read_bytes(), if_absent=True)
    return f"packages/{digest}"
