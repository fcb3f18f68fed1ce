"""The package: one signed tree that leaves the pipeline, checked whole wherever it arrives.

Push, deploy, endpoint and device each call `verify_package` themselves. It parses nothing but the
signature before every file's hash was found in it, hashes again what it then reads, and each cause
of a refusal has a sentence of its own. It needs pydantic, cryptography and numpy.
"""

from __future__ import annotations

import re
import stat
from itertools import islice
from typing import TYPE_CHECKING

from slimline.contract import Refused
from slimline.measure.evaluation import EvaluationRecord
from slimline.models.info import ModelInfo
from slimline.trust import golden, manifest, signature, verdict
from slimline.trust.dsse import M, check_form
from slimline.trust.golden import load_golden
from slimline.trust.manifest import (
    PackageFile,
    PackageManifest,
    hash_file,
    model_digest,
    read_file,
)
from slimline.trust.signature import sign_tree, signed_files
from slimline.trust.strict import MAX_BYTES, read_object

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.trust.keys import TrustedKeys
    from slimline.trust.manifest import Golden, Requires
    from slimline.trust.verdict import VerdictRecord

SUFFIXES = (".onnx", ".safetensors", ".json", ".npz", ".md", ".html")
"""Data formats that hold no code; nothing else is in a package."""

REQUIRED = (
    manifest.FILE,
    "model/model.onnx",
    "model/model.json",
    golden.FILE,
    verdict.FILE,
    "evaluation.json",
    "report.html",
    "card.md",
    "sbom.cdx.json",
    "provenance.json",
)
_MAX_FILES, _MAX_ENTRIES = 1000, 2000
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")


def verify_package(root: Path, trusted: TrustedKeys) -> PackageManifest:
    """Check a package: its files, signature, manifest, verdict, model description, golden inputs.

    Args:
        root: directory that holds the unpacked tree.
        trusted: the keys that may have signed the package and its verdict.

    Raises:
        Refused: one sentence that names the file and what is wrong with it.
    """
    paths = list_files(root)
    if signature.FILE not in paths:
        msg = f"{signature.FILE} is missing: this package is not signed"
        raise Refused(msg)
    signed = signed_files(_read(root, signature.FILE), trusted)
    found = {path: hash_file(root, path) for path in paths if path != signature.FILE}
    _same_files({path: file.sha256 for path, file in found.items()}, signed)
    _complete(paths)
    read = _verified(root, found[manifest.FILE], PackageManifest)
    _as_listed(read, found)
    judged = _small(root, found[verdict.FILE])
    _same_model(root, read, verdict.require_passed(judged, read.model_digest, trusted))
    return read


def load_manifest(root: Path) -> PackageManifest:
    """Read `manifest.json`; proves nothing about the files.

    Raises:
        Refused: when it is missing or malformed.
    """
    content = read_object(_read(root, manifest.FILE), manifest.FILE)
    return check_form(PackageManifest, content, manifest.FILE)


def seal_package(
    root: Path,
    *,
    name: str,
    version: str = "",
    security_version: int,
    requires: Requires,
    golden: Golden,
    private_pem: str,
) -> PackageManifest:
    """Write `manifest.json` and `signature.json` over a tree that holds everything else.

    Args:
        root: the tree.
        name: of the recipe.
        version: for people; the first 12 digits of the model's digest if not given.
        security_version: see `PackageManifest`.
        requires: what a place must have.
        golden: how many golden inputs there are, and their tolerance.
        private_pem: the signing key.
    """
    own = (manifest.FILE, signature.FILE)
    files = tuple(hash_file(root, path) for path in list_files(root) if path not in own)
    digest = model_digest(files)
    made = PackageManifest(
        name=name,
        version=version or digest[:12],
        security_version=security_version,
        model_digest=digest,
        files=files,
        requires=requires,
        golden=golden,
    )
    (root / manifest.FILE).write_text(made.model_dump_json(indent=1))
    sign_tree(root, private_pem)
    return made


def list_files(root: Path) -> tuple[str, ...]:
    """The files of a tree, sorted.

    Raises:
        Refused: on a link or special file, a name that is not plain, a suffix that is not allowed,
            or too many files.
    """
    if not root.is_dir():
        msg = f"{root} is no directory, so no package"
        raise Refused(msg)
    found: list[str] = []
    entries = list(islice(root.rglob("*"), _MAX_ENTRIES + 1))
    if len(entries) > _MAX_ENTRIES:
        msg = f"package has more than {_MAX_ENTRIES} files and folders"
        raise Refused(msg)
    for path in sorted(entries):
        name, mode = path.relative_to(root).as_posix(), path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            msg = f"{name} is a link or special file: a package holds plain files only"
            raise Refused(msg)
        if not _PLAIN.fullmatch(path.name):
            msg = f"{name!r} is no plain file name: letters, digits and ._+- make one"
            raise Refused(msg)
        if stat.S_ISREG(mode):
            _allowed(name)
            found.append(name)
        if len(found) > _MAX_FILES:
            msg = f"package has more than {_MAX_FILES} files"
            raise Refused(msg)
    return tuple(sorted(found))


def _allowed(name: str) -> None:
    if not name.endswith(SUFFIXES):
        msg = f"{name} may not be in a package: only {' '.join(SUFFIXES)} are allowed"
        raise Refused(msg)


def _same_files(found: dict[str, str], signed: dict[str, str]) -> None:
    for path in sorted(signed.keys() - found.keys()):
        msg = f"{path!r} is missing: the signature names it"
        raise Refused(msg)
    for path in sorted(found.keys() - signed.keys()):
        msg = f"{path} is extra: the signature does not name it"
        raise Refused(msg)
    for path in sorted(found):
        if found[path] != signed[path]:
            msg = f"{path} was changed after it was signed: its sha256 is {found[path][:12]}"
            raise Refused(msg)


def _complete(paths: tuple[str, ...]) -> None:
    for path in REQUIRED:
        if path not in paths:
            cure = "nobody judged this model" if path == verdict.FILE else "a package has one"
            msg = f"{path} is missing: {cure}"
            raise Refused(msg)


def _as_listed(read: PackageManifest, found: dict[str, PackageFile]) -> None:
    due = tuple(found[path] for path in sorted(found) if path != manifest.FILE)
    if tuple(sorted(read.files, key=lambda f: f.path)) != due:
        msg = f"{manifest.FILE} is malformed: its list of files is not that of the package"
        raise Refused(msg)
    digest = model_digest(due)
    if read.model_digest != digest:
        msg = f"{manifest.FILE} is malformed: model_digest is not that of model/, {digest[:12]}"
        raise Refused(msg)


def _same_model(root: Path, read: PackageManifest, judged: VerdictRecord) -> None:
    info = _verified(root, read.named("model/model.json"), ModelInfo)
    if info.format != "onnx" or info.preprocessing.version != read.requires.preprocessing:
        msg = (
            "model/model.json is malformed: it must describe an ONNX model with preprocessing "
            f"version {read.requires.preprocessing}"
        )
        raise Refused(msg)
    record = _verified(root, read.named("evaluation.json"), EvaluationRecord)
    if record.candidate_digest != read.model_digest:
        msg = f"evaluation.json is for other bytes: it measured {record.candidate_digest[:12]}"
        raise Refused(msg)
    if record.dataset_digest != judged.dataset_digest:
        msg = f"evaluation.json is not the one that was judged: data {record.dataset_digest[:12]}"
        raise Refused(msg)
    load_golden(root, read, info)


def _verified(root: Path, file: PackageFile, model: type[M]) -> M:
    return check_form(model, read_object(_small(root, file), file.path), file.path)


def _small(root: Path, file: PackageFile) -> bytes:
    if file.size > MAX_BYTES:
        msg = f"{file.path} is malformed: it has {file.size} bytes, at most {MAX_BYTES} are read"
        raise Refused(msg)
    return read_file(root, file)


def _read(root: Path, name: str) -> bytes:
    try:
        with (root / name).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        msg = f"{name} is missing: a package has one ({error.strerror})"
        raise Refused(msg) from error
