"""Verify, release, then campaign wave by wave; the outcome is a verdict and a receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData, Refused, get_logger, secret
from slimline.fleet.documents import Budget, Coded
from slimline.fleet.keys import parse_fleet_keys
from slimline.fleet.objects import open_objects
from slimline.fleet.releases import copy_package, describe_release
from slimline.ota.campaigns import Campaigns, SignedPoll
from slimline.ota.receipt import make_receipt, numbers_of
from slimline.ota.rollout import Plan, Rollout
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package

if TYPE_CHECKING:
    from slimline.contract import Numbers, Package
    from slimline.fleet.documents import Descriptor
    from slimline.ota.spec import Ota

log = get_logger(__name__)


def run(job: Ota) -> Numbers:
    """Update the group; a campaign that fails is a verdict, not a crash."""
    campaigns = _driver(job)
    devices = campaigns.devices()
    if not devices:
        msg = f"group {job.group} has no enrolled device in {job.repository}: enrol one first"
        raise BadData(msg)
    release = _release(job, campaigns, job.package)
    previous = _release(job, campaigns, job.previous) if job.previous else None
    _can_go_back(release, previous)
    result = Rollout(campaigns, _plan(job, release, previous)).run()
    receipt = make_receipt(result, devices, release.version)
    (job.receipt.path / "receipt.json").write_text(receipt.model_dump_json(indent=1))
    for row in receipt.devices:
        told = f"{row.before or 'nothing'} -> {row.after or 'nothing'}"
        log.info("%s: %s %s (%s)", row.device, row.state, told, row.reason)
    return numbers_of(receipt)


def _driver(job: Ota) -> Campaigns:
    keys = parse_fleet_keys(secret("tuf"))
    return SignedPoll(job.repository, job.group, keys)


def _release(job: Ota, campaigns: Campaigns, package: Package) -> Descriptor:
    manifest = verify_package(package.path, load_trusted())
    uri, coded = "", tuple[Coded, ...]()
    if job.copy_package:
        objects = open_objects(job.repository)
        uri, coded = copy_package(objects, package.path, package.digest)
    descriptor = describe_release(package.path, manifest, package, uri=uri, coded=coded)
    for form in descriptor.coded:
        whole = next(file.size for file in descriptor.files if file.path == form.path)
        log.info("devices fetch %d bytes for %s, not %d", form.file.size, form.path, whole)
    campaigns.release(descriptor)
    return descriptor


def _can_go_back(release: Descriptor, previous: Descriptor | None) -> None:
    """No device goes below a security version that it has run: such a way back is none."""
    if previous is not None and previous.security_version < release.security_version:
        msg = (
            f"previous {previous.version} has security version {previous.security_version}, "
            f"below the package's {release.security_version}: devices would refuse to go back; "
            f"leave previous out, or build it anew with security version "
            f"{release.security_version}"
        )
        raise Refused(msg)


def _plan(job: Ota, release: Descriptor, previous: Descriptor | None) -> Plan:
    budget = Budget(
        max_latency_ms=job.max_latency_ms, max_memory_mb=job.max_memory_mb, tries=job.tries
    )
    same = previous is not None and previous.package_digest == release.package_digest
    return Plan(
        group=job.group,
        release=release,
        previous=None if same else previous,
        canaries=job.canaries,
        percents=job.waves,
        failure_threshold=job.failure_threshold,
        min_reports=job.min_reports,
        timeout=job.wave_timeout_seconds,
        poll=job.poll_seconds,
        budget=budget,
    )
