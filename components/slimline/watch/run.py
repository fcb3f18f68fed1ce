"""Look at endpoint and fleet again and again; what is wrong at any look is a reason."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from slimline.contract import Meter, get_logger
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package
from slimline.trust.request import golden_request
from slimline.watch.endpoint import Endpoint, Traffic
from slimline.watch.fleet import look_at_fleet

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.trust.request import GoldenRequest
    from slimline.watch.spec import Watch

log = get_logger(__name__)


def run(job: Watch) -> Numbers:
    """Watch for `seconds`; ends early when something is wrong, for then something is to be done."""
    golden = _golden(job)
    endpoint = Endpoint(job.address) if job.address else None
    before = endpoint.traffic() if endpoint else None
    begun = time.monotonic()
    meter, looks = Meter(round(job.seconds), "watch"), list[dict[str, Any]]()
    reasons: list[str] = []
    while not reasons:
        passed = time.monotonic() - begun
        seen, reasons = _look(job, endpoint, golden, before)
        looks.append({"seconds": round(passed, 1), **seen, "reasons": reasons})
        meter.show(min(round(passed), round(job.seconds)))
        if passed >= job.seconds:
            break
        time.sleep(min(job.poll_seconds, job.seconds - passed))
    for reason in reasons:
        log.warning("%s", reason)
    summary = {"passed": not reasons, "reasons": reasons, "looks": looks}
    (job.receipt.path / "receipt.json").write_text(json.dumps(summary, indent=1))
    return {**summary, "looks": len(looks), **{k: v for k, v in looks[-1].items() if k in _KEPT}}


_KEPT = ("devices_well", "answers", "error_rate")


def _golden(job: Watch) -> GoldenRequest | None:
    if job.package is None:
        return None
    manifest = verify_package(job.package.path, load_trusted())
    return golden_request(job.package.path, manifest) if job.address else None


def _look(
    job: Watch, endpoint: Endpoint | None, golden: GoldenRequest | None, before: Traffic | None
) -> tuple[dict[str, Any], list[str]]:
    """One look: what was seen, and what is wrong."""
    digest = job.package.digest if job.package else ""
    seen: dict[str, Any] = {}
    reasons: list[str] = []
    if endpoint is not None:
        wrong = endpoint.look(digest, golden)
        reasons += [f"endpoint {job.address}: {wrong}"] if wrong else []
        traffic = endpoint.traffic()
        if traffic is not None and not wrong:
            now = traffic.since(before) if before else traffic
            rate = now.errors / now.answers if now.answers else 0.0
            seen |= {"answers": now.answers, "error_rate": rate}
            if rate > job.max_error_rate:
                told = f"{now.errors} of {now.answers} answers are errors"
                reasons.append(f"endpoint {job.address}: {told}")
    if job.repository:
        wrong, well = look_at_fleet(job.repository, job.group, digest, job.min_devices)
        seen["devices_well"] = well
        reasons += [f"group {job.group}: {wrong}"] if wrong else []
    return seen, reasons
