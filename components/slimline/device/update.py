"""One update on its way: FETCH, VERIFY, STAGE, TRIAL, HEALTH, then COMMIT or ROLLBACK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadData, Refused, TryLater, get_logger
from slimline.device.fetch import fetch_package
from slimline.device.slots import describe
from slimline.device.state import Trial
from slimline.fleet.documents import Running
from slimline.fleet.fit import misfit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slimline.device.disk import Disk
    from slimline.device.record import Record, Settings
    from slimline.device.slots import Slots
    from slimline.device.state import Slot
    from slimline.fleet.documents import Budget, Campaign, Descriptor, Status
    from slimline.fleet.fit import Inventory
    from slimline.fleet.objects import Objects
    from slimline.trust.keys import TrustedKeys

    Health = Callable[[Path, Budget], dict[str, float]]

log = get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """What a device has: its disk, its slots, its inventory, its keys, and its way to packages."""

    settings: Settings
    disk: Disk
    slots: Slots
    inventory: Inventory
    trusted: TrustedKeys
    opener: Callable[[str], Objects]
    health: Health


class Updater:
    """Takes a release to its end; each turn of the way is in the record before the next begins."""

    def __init__(self, place: Place, record: Record) -> None:
        self._place, self._record = place, record

    def install(self, campaign: Campaign, descriptor: Descriptor) -> Status:
        """Bring a release here and try it out; returns how that ended."""
        try:
            self._check_fit(descriptor)
            slot = self._record.state.holding(descriptor.package_digest)
            if slot is None or not self._place.slots.is_whole(slot, self._record.state.slots[slot]):
                fetched = self._fetch(descriptor)
                slot = self._verify_and_stage(campaign, descriptor, fetched)
        except BadData as error:
            return self._record.status(campaign, "refused", str(error))
        except TryLater as error:
            return self._record.status(campaign, "waiting", str(error))
        wave = campaign.wave_of(self._place.settings.device)
        trial = Trial(slot=slot, tries=0, campaign=campaign.id, wave=wave, budget=campaign.budget)
        self._record.save(self._record.state, trial=trial)
        return self.try_out(trial)

    def try_out(self, trial: Trial) -> Status:
        """TRIAL and HEALTH, then COMMIT or ROLLBACK."""
        if not self._place.slots.is_whole(trial.slot, self._record.state.slots[trial.slot]):
            return self._roll_back(trial, f"slot {trial.slot} was damaged before its trial")
        if trial.tries >= trial.budget.tries:
            return self._roll_back(trial, f"its trial was interrupted {trial.tries} times")
        self._record.save(
            self._record.state, trial=trial.model_copy(update={"tries": trial.tries + 1})
        )
        try:
            numbers = self._place.health(self._place.slots.path(trial.slot), trial.budget)
        except BadData as error:
            return self._roll_back(trial, str(error))
        return self._commit(trial, numbers)

    def _check_fit(self, descriptor: Descriptor) -> None:
        why = misfit(descriptor.requires, self._place.inventory)
        if why:
            msg = f"{descriptor.name} {descriptor.version} does not fit this device: {why}"
            raise Refused(msg)
        floor = self._record.state.security_floor
        if descriptor.security_version < floor:
            msg = (
                f"{descriptor.name} {descriptor.version} is a downgrade: its security version is "
                f"{descriptor.security_version}, this device has had {floor}"
            )
            raise Refused(msg)

    def _fetch(self, descriptor: Descriptor) -> Path:
        directory = self._place.settings.home / "download"
        target = directory / descriptor.package_digest
        self._place.disk.make_directory(directory)
        for other in sorted(directory.iterdir()):
            if other != target:
                self._place.disk.remove(other)
        home = self._place.settings.repository.rstrip("/")
        uri = descriptor.uri if "://" in descriptor.uri else f"{home}/{descriptor.uri}"
        fetch_package(self._place.disk, self._place.opener(uri), descriptor, target)
        return target

    def _verify_and_stage(self, campaign: Campaign, descriptor: Descriptor, fetched: Path) -> Slot:
        spare = self._record.state.spare
        try:
            found = describe(fetched, self._place.trusted)
            if found != _promised(descriptor):
                msg = f"release {descriptor.version} says other things than its package's manifest"
                raise Refused(msg)
            self._record.save(self._record.state.with_slot(spare, None))
            self._place.slots.put(fetched, spare, found.digest)
        except BadData as error:
            self._place.disk.remove(fetched)
            self._record.save(
                self._record.state, given_up=self._record.status(campaign, "refused", str(error))
            )
            raise Refused(str(error)) from error
        self._record.save(self._record.state.with_slot(spare, found))
        return spare

    def _commit(self, trial: Trial, numbers: dict[str, float]) -> Status:
        state = self._record.state
        after = state.slots[trial.slot]
        status = self._record.outcome(
            trial, "updated", "golden inputs, latency and memory are right"
        )
        status = status.model_copy(update={"after": after, "numbers": numbers})
        floor = max(state.security_floor, after.security_version if after else 0)
        self._record.save(
            state, active=trial.slot, trial=None, security_floor=floor, last=status, sent=False
        )
        self._place.slots.show(trial.slot)
        log.info("%s: runs %s", self._place.settings.device, after.version if after else "nothing")
        return status

    def _roll_back(self, trial: Trial, reason: str) -> Status:
        status = self._record.outcome(trial, "rolled_back", reason)
        self._record.save(self._record.state, trial=None, given_up=status, last=status, sent=False)
        log.warning("%s: stays what it was: %s", self._place.settings.device, reason)
        return status


def _promised(descriptor: Descriptor) -> Running:
    return Running(
        name=descriptor.name,
        version=descriptor.version,
        digest=descriptor.package_digest,
        security_version=descriptor.security_version,
    )
