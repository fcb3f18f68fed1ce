"""Which image runs a component: `images/lock.json`, written by `make images`.

A run never builds and never pulls by a tag: `reference` is an image's id, or a registry's name with
the digest of what was pushed. Where public keys are configured, a lock whose signature does not
verify is refused.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slimline.contract import BadParameters, Refused
from slimline.contract.component import explain

LOCK_VARIABLE = "SLIMLINE_IMAGES"
KEYS_VARIABLE = "SLIMLINE_IMAGE_KEYS"
DEFAULT_PATH = Path("images", "lock.json")

_SIGNATURE = ".sig"
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Image(BaseModel):
    """One image as it was built.

    Attributes:
        reference: what is run: `sha256:<id>`, or `<registry>/<name>@sha256:<digest>`.
        digest: the id, or the digest that the registry gave.
        environment: hex sha256 over all that is installed besides Slimline's own code. Part of a
            job's identity: an image that was built again with the same dependencies gives the same.
        size: bytes, unpacked.
        sbom: its bill of materials (CycloneDX), relative to the lock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str = Field(pattern=r"sha256:[0-9a-f]{64}$")
    digest: Digest
    environment: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0)
    sbom: str


class ImageLock(BaseModel):
    """All images of one build, by the name of their folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: dict[str, Image]

    def image(self, name: str) -> Image:
        """The image of that name.

        Raises:
            BadParameters: when the lock has none.
        """
        if name not in self.images:
            there = ", ".join(sorted(self.images)) or "none"
            msg = f"image {name!r} is not in the lock (there: {there}): run `make images`"
            raise BadParameters(msg)
        return self.images[name]


def load_lock(path: Path | None = None) -> ImageLock:
    """Read a lock, and verify it where SLIMLINE_IMAGE_KEYS names a directory of public keys.

    Args:
        path: the file; SLIMLINE_IMAGES if not given, else `images/lock.json` below the current
            directory.

    Raises:
        BadParameters: when there is none, or it cannot be read.
        Refused: when its signature is missing or made by none of the configured keys.
    """
    file = path or Path(os.environ.get(LOCK_VARIABLE) or DEFAULT_PATH)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        msg = f"{file}: no images are built here: run `make images`, or set {LOCK_VARIABLE}"
        raise BadParameters(msg) from None
    if os.environ.get(KEYS_VARIABLE):
        _verify(file, content, Path(os.environ[KEYS_VARIABLE]))
    try:
        return ImageLock.model_validate_json(content)
    except ValidationError as error:
        raise BadParameters(f"{explain(str(file), error)}\nrun `make images`") from error


def signature_path(file: Path) -> Path:
    """Where the detached signature of a lock or bill of materials lies."""
    return file.with_name(file.name + _SIGNATURE)


def _verify(file: Path, content: bytes, keys: Path) -> None:
    from slimline.trust.keys import load_trusted  # noqa: PLC0415 - needs `cryptography`

    try:
        signature = base64.b64decode(signature_path(file).read_text().strip(), validate=True)
    except (FileNotFoundError, binascii.Error) as error:
        msg = (
            f"{file} is not signed, but {KEYS_VARIABLE} asks for it: build with SLIMLINE_IMAGE_KEY"
        )
        raise Refused(msg) from error
    if load_trusted(keys).signer_of(signature, content) is None:
        msg = (
            f"{file} was changed after it was signed, or signed by none of the keys in {keys}: "
            "run `make images`"
        )
        raise Refused(msg)
