"""An artifact is a directory, a type and a digest.

The digest is sha256 over the sorted (relative path, sha256 of file) pairs of the directory, so two
directories with the same files are the same artifact, wherever they lie. An artifact is stored
under its digest and never changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from slimline.contract.errors import BadData, BadParameters

_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileEntry(BaseModel):
    """One file of an artifact: POSIX path relative to its root, sha256 in hex, size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    size: int


class Artifact(BaseModel):
    """A reference to an immutable directory, by digest, with the place it is stored.

    In a command line or a form it is written as a URI: the URI of a stored artifact ends in its
    digest (`s3://bucket/prefix/artifacts/<digest>`); any other path is a local directory whose
    digest is computed when it is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    digest: str

    _path: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str):
            return value
        tail = value.rstrip("/").rsplit("/", 1)[-1]
        if _DIGEST.fullmatch(tail):
            return {"uri": value.rstrip("/"), "digest": tail}
        path = local_path(value)
        if "://" in value.removeprefix("file://") or not path.is_dir():
            msg = (
                f"{value!r} is no stored artifact (its URI ends in a sha256) and no local directory"
            )
            raise ValueError(msg)
        return {"uri": path.resolve().as_uri(), "digest": digest_tree(path)}

    @classmethod
    def at(cls, path: Path) -> Self:
        """Take a local directory as an artifact; hashes it.

        Raises:
            BadData: when the directory is empty or holds something else than plain files.
        """
        made = cls(uri=path.resolve().as_uri(), digest=digest_tree(path))
        return made.located(path)

    def located(self, path: Path) -> Self:
        """The same artifact, with the local directory where its files can be read or written."""
        twin = self.model_copy()
        twin._path = path  # noqa: SLF001 - the one place that fills it
        return twin

    @property
    def path(self) -> Path:
        """The local directory that holds the files; only a job that was staged has one."""
        if self._path is None:
            msg = f"{self.uri} is not on this machine: run the component through execute()"
            raise BadParameters(msg)
        return self._path


class Dataset(Artifact):
    """Examples with labels: `dataset.json` and `examples.npz` (see `slimline.data.dataset`)."""


class Model(Artifact):
    """A network: `model.json` beside `model.onnx` or `model.safetensors`; never a pickle."""


class Report(Artifact):
    """Something for people: `index.html` and what it shows."""


class Evaluation(Artifact):
    """Numbers about a model on data it has not seen: `evaluation.json`."""


class Verdict(Artifact):
    """A signed yes or no about exact bytes: `verdict.dsse.json`."""


class Package(Artifact):
    """What leaves the pipeline: one signed tree, the same for an endpoint and a device."""


class Receipt(Artifact):
    """What was done outside, in words and numbers: `receipt.json`."""


def local_path(uri: str) -> Path:
    """The path that `file:///...` names, or a plain path as it is."""
    return Path(unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_tree(root: Path) -> tuple[FileEntry, ...]:
    """All files under `root`, sorted by path, each hashed.

    Raises:
        BadData: on a symbolic link or special file, or when there is no file at all.
    """
    entries: list[FileEntry] = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            msg = f"{path} is not a plain file: an artifact holds plain files only; remove it"
            raise BadData(msg)
        if path.is_file():
            relative = PurePosixPath(path.relative_to(root)).as_posix()
            entries.append(
                FileEntry(path=relative, sha256=sha256_file(path), size=path.stat().st_size)
            )
    if not entries:
        msg = f"{root} holds no file: an artifact has at least one"
        raise BadData(msg)
    return tuple(sorted(entries, key=lambda e: e.path))


def digest_entries(entries: tuple[FileEntry, ...]) -> str:
    """The artifact digest of a listing: sha256 over its sorted (path, sha256) pairs."""
    return digest_json([[e.path, e.sha256] for e in sorted(entries, key=lambda e: e.path)])


def digest_tree(root: Path) -> str:
    """The artifact digest of a directory."""
    return digest_entries(list_tree(root))


def canonical_json(value: Any) -> bytes:
    """JSON that is the same for equal values: sorted keys, no blanks, no NaN, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_json(value: Any) -> str:
    """Hex sha256 over canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
