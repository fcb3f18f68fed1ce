"""Bring a package from where it is stored, and verify it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from slimline.contract import BadParameters, Package
from slimline.contract.store import fetch_artifact
from slimline.trust.package import verify_package

if TYPE_CHECKING:
    from slimline.trust.keys import TrustedKeys
    from slimline.trust.manifest import PackageManifest


def fetch_package(uri: str, target: Path, trusted: TrustedKeys) -> PackageManifest:
    """Bring a package into a directory and verify it there.

    Args:
        uri: `s3://bucket/prefix/artifacts/<digest>`, its `file://` twin, or a local directory.
        target: directory that gets the files.
        trusted: the keys that may have signed it.

    Raises:
        BadParameters: when the URI names no package.
        BadData: when the store gives other bytes than the URI's digest names.
        Refused: when the package does not verify.
    """
    try:
        package = Package.model_validate(uri)
    except ValidationError as error:
        msg = f"{uri!r} names no package: give a URI that ends in its sha256, or a local directory"
        raise BadParameters(msg) from error
    target.mkdir(parents=True, exist_ok=True)
    return verify_package(fetch_artifact(package, target).path, trusted)


def verify_uri(uri: str, trusted: TrustedKeys) -> PackageManifest:
    """Verify a stored package without keeping a copy; its golden inputs are not run.

    See `fetch_package` for arguments and errors.
    """
    with tempfile.TemporaryDirectory(prefix="slimline-verify-") as scratch:
        return fetch_package(uri, Path(scratch) / "package", trusted)
