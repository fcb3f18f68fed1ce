"""Verify, store, read back, write the receipt."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from slimline.contract import BadData, get_logger, open_store
from slimline.contract.store import artifact_files, artifact_is_whole, fetch_artifact, save_artifact
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package

if TYPE_CHECKING:
    from slimline.contract import Numbers, Package, Store
    from slimline.push.spec import Push

log = get_logger(__name__)


def run(job: Push) -> Numbers:
    """Push a package that verifies with the trusted keys of this machine."""
    manifest = verify_package(job.package.path, load_trusted())
    store = open_store(job.destination)
    there = not artifact_is_whole(store, job.package.digest)
    kept = _store_checked(store, job.package, there=there)
    files = artifact_files(store, kept.digest)
    receipt = {
        "uri": kept.uri,
        "digest": kept.digest,
        "model_digest": manifest.model_digest,
        "bytes": sum(file.size for file in files),
        "files": len(files),
    }
    (job.receipt.path / "receipt.json").write_text(json.dumps(receipt, indent=1))
    log.info("%s %s is at %s", manifest.name, manifest.version, kept.uri)
    return {**receipt, "uploaded": not there}


def _store_checked(store: Store, package: Package, *, there: bool) -> Package:
    """Store a package and read it back; one that was there already and is damaged is replaced."""
    kept = save_artifact(store, package)
    try:
        _read_back(kept)
    except BadData as error:
        if not there:
            raise
        log.warning("what lay there already is damaged and is replaced: %s", error)
        store.delete(f"artifacts/{kept.digest}.json")
        kept = save_artifact(store, package)
        _read_back(kept)
    return kept


def _read_back(package: Package) -> None:
    with TemporaryDirectory(prefix="slimline-push-") as folder:
        fetch_artifact(package, Path(folder))
