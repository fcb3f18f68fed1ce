"""What `manifest.json` of a package says: its files, hashed whole and in chunks, and its needs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field

from slimline.contract import Refused
from slimline.contract.artifact import FileEntry, digest_entries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "manifest.json"
CHUNK_BYTES = 2**20
"""A download is checked and resumed in pieces of this size."""

_FORM = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
_SHA256 = r"^[0-9a-f]{64}$"


class PackageFile(BaseModel):
    """One file: POSIX path, sha256 of the whole, bytes, and sha256 of each 1 MiB."""

    model_config = _FORM

    path: str
    sha256: str = Field(pattern=_SHA256)
    size: int = Field(ge=0)
    chunks: tuple[str, ...]


class Requires(BaseModel):
    """What a place must have to run the package."""

    model_config = _FORM

    onnxruntime: str = ">=1.20,<2"
    """Version specifier of ONNX Runtime, as pip writes it."""
    opset: int = Field(ge=1)
    arch: tuple[str, ...] = ("x86_64", "aarch64")
    """Machine names as `platform.machine()` gives them."""
    memory_mb: float = Field(ge=0)
    """Growth of resident memory when the model is loaded and run, in MB of 10**6 bytes."""
    preprocessing: int = 1
    """Version of the preprocessing specification."""


class Golden(BaseModel):
    """How many golden inputs there are, and how far a logit may be from the expected one."""

    model_config = _FORM

    count: int = Field(ge=1)
    tolerance: float = Field(gt=0)


class PackageManifest(BaseModel):
    """The whole of `manifest.json`; nothing in it changes between equal builds."""

    model_config = _FORM

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
    security_version: int = Field(ge=0)
    """Never goes down on a device: a package with a lower one is a downgrade."""
    model_digest: str = Field(pattern=_SHA256)
    """Digest of the `Model` artifact in `model/`."""
    files: tuple[PackageFile, ...]
    """Every file but `manifest.json` and `signature.json`."""
    requires: Requires
    golden: Golden

    def named(self, path: str) -> PackageFile:
        """What is said of one file.

        Raises:
            Refused: when it is not listed.
        """
        for file in self.files:
            if file.path == path:
                return file
        msg = f"{path} is missing: {FILE} does not list it"
        raise Refused(msg)


def hash_file(root: Path, relative: str) -> PackageFile:
    """Hash a file of a package, whole and in chunks, in one pass."""
    with (root / relative).open("rb") as file:
        return hash_stream(file, relative)


def hash_stream(file: BinaryIO, path: str) -> PackageFile:
    """Hash what can be read, whole and in chunks, as the file of that path."""
    whole, size, chunks = hashlib.sha256(), 0, []
    while piece := file.read(CHUNK_BYTES):
        whole.update(piece)
        size += len(piece)
        chunks.append(hashlib.sha256(piece).hexdigest())
    return PackageFile(path=path, sha256=whole.hexdigest(), size=size, chunks=tuple(chunks))


def read_file(root: Path, file: PackageFile) -> bytes:
    """The bytes of one file, hashed as they are read, so that what is used is what was verified.

    Raises:
        Refused: when it is gone, or was changed since.
    """
    try:
        with (root / file.path).open("rb") as source:
            data = source.read(file.size + 1)
    except OSError as error:
        msg = f"{file.path} is missing: a package has one ({error.strerror})"
        raise Refused(msg) from error
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        msg = f"{file.path} was changed after it was verified: its sha256 is {found[:12]}"
        raise Refused(msg)
    return data


def model_digest(files: Iterable[PackageFile]) -> str:
    """The digest that the `Model` artifact has whose files lie under `model/`."""
    return digest_entries(
        tuple(
            FileEntry(path=file.path.removeprefix("model/"), sha256=file.sha256, size=file.size)
            for file in files
            if file.path.startswith("model/")
        )
    )
