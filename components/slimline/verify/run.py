"""Verify with the trusted keys of this machine, then run the golden inputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slimline.contract import get_logger
from slimline.trust.golden import check_golden
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.verify.spec import Verify

log = get_logger(__name__)


def run(job: Verify) -> Numbers:
    """Refuse, with the reason, or write a receipt."""
    trusted = load_trusted()
    manifest = verify_package(job.package.path, trusted)
    difference = check_golden(job.package.path, manifest, job.threads)
    numbers = {
        "name": manifest.name,
        "version": manifest.version,
        "security_version": manifest.security_version,
        "digest": job.package.digest,
        "model_digest": manifest.model_digest,
        "golden_difference": difference,
    }
    receipt = {**numbers, "trusted_keys": sorted(key.keyid for key in trusted.keys)}
    (job.receipt.path / "receipt.json").write_text(json.dumps(receipt, indent=1))
    log.info("%s %s verifies", manifest.name, manifest.version)
    return numbers
