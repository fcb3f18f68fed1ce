"""Verify, deploy, prove, write the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.deploy import containers, local, sagemaker
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package
from slimline.trust.request import golden_request

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.deploy.spec import Deploy

_TARGETS = {"local": local.deploy, "docker": containers.deploy, "sagemaker": sagemaker.deploy}


def run(job: Deploy) -> Numbers:
    """Put the package behind the endpoint; nothing happens with one that does not verify."""
    manifest = verify_package(job.package.path, load_trusted())
    golden = golden_request(job.package.path, manifest)
    receipt = _TARGETS[job.target](job, manifest, golden)
    (job.receipt.path / "receipt.json").write_text(receipt.model_dump_json(indent=1))
    return {
        "address": receipt.address,
        "version": receipt.version,
        "before": receipt.before,
        "after": receipt.after,
        "changed": receipt.changed,
        "golden_difference": receipt.golden.difference,
        "answer": receipt.golden.label,
    }
