"""What a campaign did, device by device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.fleet.documents import Running, Status
    from slimline.ota.rollout import Result

Outcome = Literal["updated", "rolled_back", "refused", "unchanged", "silent"]


class DeviceRow(BaseModel):
    """One device: versions ("" for none) before and after, its wave (from 1), how it went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    wave: int | None
    before: str
    after: str
    state: Outcome
    reason: str
    failed: bool
    """Whether it could not take the package; it may be rolled back without having failed."""
    numbers: dict[str, float]
    """What its health check measured."""


class FleetReceipt(BaseModel):
    """The whole of `receipt.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    campaign: str
    rollback: str | None
    """Id of the campaign that took the package back."""
    package_digest: str
    version: str
    passed: bool
    reasons: tuple[str, ...]
    devices: tuple[DeviceRow, ...]


def make_receipt(result: Result, devices: tuple[str, ...], version: str) -> FleetReceipt:
    """Turn a result into rows."""
    return FleetReceipt(
        group=result.campaign.group,
        campaign=result.campaign.id,
        rollback=result.rollback.id if result.rollback else None,
        package_digest=result.campaign.package_digest or "",
        version=version,
        passed=not result.reasons,
        reasons=result.reasons,
        devices=tuple(_row(result, device) for device in devices),
    )


def numbers_of(receipt: FleetReceipt) -> Numbers:
    """The receipt in short."""
    states = [row.state for row in receipt.devices]
    return {
        "passed": receipt.passed,
        "reasons": list(receipt.reasons),
        "version": receipt.version,
        "devices": len(states),
        "updated": states.count("updated"),
        "unchanged": states.count("unchanged"),
        "failed": sum(row.failed for row in receipt.devices),
        "rolled_back": states.count("rolled_back"),
        "silent": states.count("silent"),
    }


def _row(result: Result, device: str) -> DeviceRow:
    answer, now = result.answers.get(device), result.now.get(device)
    wave = result.campaign.wave_of(device)
    before, after = _before(result, device), now.after if now else None
    state = _state(result, device, before, after)
    told = answer or now
    return DeviceRow(
        device=device,
        wave=None if wave is None else wave + 1,
        before=_version(before),
        after=_version(after),
        state=state,
        reason=told.reason if told else "it never reported",
        failed=answer is not None and answer.state in ("rolled_back", "refused"),
        numbers=answer.numbers if answer else {},
    )


def _state(result: Result, device: str, before: Running | None, after: Running | None) -> Outcome:
    answer, digest = result.answers.get(device), result.campaign.package_digest
    if after is not None and after.digest == digest:
        return "unchanged" if before == after else "updated"
    if _took(answer, digest) or _took_back(result, device):
        return "rolled_back"
    if answer is not None and answer.state in ("rolled_back", "refused"):
        return "refused" if answer.state == "refused" else "rolled_back"
    return "silent" if result.campaign.is_open_for(device) else "unchanged"


def _took(answer: Status | None, digest: str | None) -> bool:
    return answer is not None and answer.after is not None and answer.after.digest == digest


def _took_back(result: Result, device: str) -> bool:
    """Whether it took the package after the last look, and gave it back in the rollback."""
    now = result.now.get(device)
    if now is None or result.rollback is None or now.campaign != result.rollback.id:
        return False
    return now.before is not None and now.before.digest == result.campaign.package_digest


def _before(result: Result, device: str) -> Running | None:
    answer, first = result.answers.get(device), result.before.get(device)
    if first is not None and first.campaign != result.campaign.id:
        return first.after
    if answer is not None:
        return answer.before
    return first.after if first else None


def _version(running: Running | None) -> str:
    return running.version if running else ""
