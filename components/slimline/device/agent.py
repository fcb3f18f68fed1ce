"""One device: asks what it shall run, and takes it or stays what it was.

A round is `poll()`: ask the authority, obey, report. The record in `state.json` is replaced whole
at each turn of the way, so a round that is cut anywhere goes on from the last turn at the next
start. What is reported stands in the same record, so no outcome is lost on the way to the bucket.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters, Refused, TryLater, get_logger
from slimline.device.authority import ask
from slimline.device.disk import Disk, told
from slimline.device.fetch import fetch_package
from slimline.device.health import check_in_child
from slimline.device.slots import Slots, describe
from slimline.device.state import Damaged, State, Trial, load_state, save_state
from slimline.fleet.documents import Budget, Running, Status
from slimline.fleet.fit import misfit, read_inventory
from slimline.fleet.keys import generate_private_key
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import send
from slimline.trust.keys import load_trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slimline.device.authority import Order
    from slimline.device.state import Slot
    from slimline.fleet.documents import Campaign, Descriptor
    from slimline.fleet.documents import State as Outcome
    from slimline.fleet.fit import Inventory
    from slimline.fleet.objects import Objects

    Health = Callable[[Path, Budget], dict[str, float]]

log = get_logger(__name__)


@dataclass(frozen=True)
class Settings:
    """Who a device is, and what it was given at the factory."""

    home: Path
    repository: str
    device: str
    group: str
    root: Path
    """The TUF root metadata: the anchor of all trust."""
    trusted: Path | None = None
    """Directory of public keys that may sign packages; SLIMLINE_TRUSTED_KEYS if not given."""


class Agent:
    """A device. `start()` once, then `poll()` again and again, then `close()`."""

    def __init__(
        self,
        settings: Settings,
        *,
        disk: Disk | None = None,
        opener: Callable[[str], Objects] = open_objects,
        inventory: Inventory | None = None,
        health: Health = check_in_child,
    ) -> None:
        self.settings = settings
        self._disk = disk or Disk()
        self._opener, self._health = opener, health
        self._objects = opener(settings.repository)
        self._inventory = inventory or read_inventory()
        self._trusted = load_trusted(settings.trusted)
        self._slots = Slots(self._disk, settings.home)
        self._state = State()
        self._lock: int | None = None

    @property
    def state(self) -> State:
        """What it knows of itself."""
        return self._state

    def start(self) -> None:
        """Come up: one instance, a record, a whole active slot, no trial left open.

        Raises:
            BadParameters: when another agent has this home.
        """
        home = self.settings.home
        self._disk.make_directory(home)
        self._lock = _lock(home)
        self.key()
        self._state = self._remembered()
        self._leave_damaged_slot()
        if self._state.trial is not None:
            self._try_out(self._state.trial)
        self._slots.show(self._state.active)

    def poll(self) -> Status:
        """One round; returns what was reported.

        Raises:
            TryLater: when the repository does not answer; nothing was changed.
        """
        try:
            self._send_what_waits()
            status = self._obeyed(self._asked())
        except OSError as error:
            raise TryLater(told(error)) from error
        noted = self._note(status)
        self._send_what_waits()
        return noted

    def close(self) -> None:
        """Let another instance have this home."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def key(self) -> str:
        """The device's private key, PEM; made at the first start, never sent."""
        path = self.settings.home / "key.pem"
        if not path.is_file():
            self._disk.make_directory(path.parent)
            self._disk.replace(path, generate_private_key().encode(), 0o600)
        return path.read_text()

    def _remembered(self) -> State:
        path = self.settings.home / "state.json"
        try:
            found = load_state(path)
        except Damaged as error:
            log.warning("%s: the record is damaged, looking at the slots: %s", self._id, error)
            found = None
        if found is not None:
            return found
        made = self._slots.recover(self._trusted, lambda path: self._health(path, Budget()))
        save_state(self._disk, path, made)
        return made

    def _leave_damaged_slot(self) -> None:
        state = self._state
        if state.active is None or self._slots.is_whole(state.active, state.running):
            return
        damaged, other = state.active, state.spare
        usable = self._slots.is_whole(other, state.slots[other])
        log.warning("%s: slot %s is damaged", self._id, damaged)
        trial = None if state.trial and state.trial.slot == other else state.trial
        kept = state.with_slot(damaged, None)
        self._save(kept, active=other if usable else None, trial=trial)

    def _asked(self) -> Order | Status:
        """What to do, or why nothing can be trusted."""
        directory = self.settings.home / "tuf"
        root = self.settings.root.read_bytes()
        try:
            order = ask(self._disk, self._objects, directory, root, self.settings.group)
        except Refused as error:
            return self._status(None, "refused", str(error))
        if order is None:
            return self._status(None, "idle", f"group {self.settings.group} has no campaign")
        return order

    def _obeyed(self, order: Order | Status) -> Status:
        if isinstance(order, Status):
            return order
        campaign, last = order.campaign, self._state.last
        answered = last is not None and last.campaign == campaign.id
        given_up = self._state.given_up
        if given_up is not None and given_up.campaign == campaign.id:
            return self._again(given_up)
        if order.descriptor is None:
            return self._leave(campaign)
        running = self._state.running
        if running and running.digest == order.descriptor.package_digest:
            done = answered and last is not None and last.state == "updated"
            return last if done and last else self._status(campaign, "updated", "it runs already")
        if not campaign.is_open_for(self._id):
            return self._status(campaign, "waiting", "its wave is not open")
        return self._install(campaign, order.descriptor)

    def _install(self, campaign: Campaign, descriptor: Descriptor) -> Status:
        try:
            self._check_fit(descriptor)
            slot = self._state.holding(descriptor.package_digest)
            if slot is None or not self._slots.is_whole(slot, self._state.slots[slot]):
                fetched = self._fetch(descriptor)
                slot = self._verify_and_stage(campaign, descriptor, fetched)
        except Refused as error:
            return self._status(campaign, "refused", str(error))
        except TryLater as error:
            return self._status(campaign, "waiting", str(error))
        wave = campaign.wave_of(self._id)
        trial = Trial(slot=slot, tries=0, campaign=campaign.id, wave=wave, budget=campaign.budget)
        self._save(self._state, trial=trial)
        return self._try_out(trial)

    def _check_fit(self, descriptor: Descriptor) -> None:
        why = misfit(descriptor.requires, self._inventory)
        if why:
            msg = f"{descriptor.name} {descriptor.version} does not fit this device: {why}"
            raise Refused(msg)
        floor = self._state.security_floor
        if descriptor.security_version < floor:
            msg = (
                f"{descriptor.name} {descriptor.version} is a downgrade: its security version is "
                f"{descriptor.security_version}, this device has had {floor}"
            )
            raise Refused(msg)

    def _fetch(self, descriptor: Descriptor) -> Path:
        directory = self.settings.home / "download"
        target = directory / descriptor.package_digest
        self._disk.make_directory(directory)
        for other in sorted(directory.iterdir()):
            if other != target:
                self._disk.remove(other)
        uri = descriptor.uri if "://" in descriptor.uri else f"{self._objects.uri}/{descriptor.uri}"
        fetch_package(self._disk, self._opener(uri), descriptor, target)
        return target

    def _verify_and_stage(self, campaign: Campaign, descriptor: Descriptor, fetched: Path) -> Slot:
        spare = self._state.spare
        try:
            found = describe(fetched, self._trusted)
            if found != _promised(descriptor):
                msg = f"release {descriptor.version} says other things than its package's manifest"
                raise Refused(msg)
            self._save(self._state.with_slot(spare, None))
            self._slots.put(fetched, spare, found.digest)
        except BadData as error:
            self._disk.remove(fetched)
            self._save(self._state, given_up=self._status(campaign, "refused", str(error)))
            raise Refused(str(error)) from error
        self._save(self._state.with_slot(spare, found))
        return spare

    def _try_out(self, trial: Trial) -> Status:
        """TRIAL and HEALTH, then COMMIT or ROLLBACK."""
        if not self._slots.is_whole(trial.slot, self._state.slots[trial.slot]):
            return self._roll_back(trial, f"slot {trial.slot} was damaged before its trial")
        if trial.tries >= trial.budget.tries:
            return self._roll_back(trial, f"its trial was interrupted {trial.tries} times")
        self._save(self._state, trial=trial.model_copy(update={"tries": trial.tries + 1}))
        try:
            numbers = self._health(self._slots.path(trial.slot), trial.budget)
        except Refused as error:
            return self._roll_back(trial, str(error))
        return self._commit(trial, numbers)

    def _commit(self, trial: Trial, numbers: dict[str, float]) -> Status:
        state = self._state
        after = state.slots[trial.slot]
        status = self._outcome(trial, "updated", "golden inputs, latency and memory are right")
        status = status.model_copy(update={"after": after, "numbers": numbers})
        floor = max(state.security_floor, after.security_version if after else 0)
        self._save(
            state, active=trial.slot, trial=None, security_floor=floor, last=status, sent=False
        )
        self._slots.show(trial.slot)
        log.info("%s: runs %s", self._id, after.version if after else "nothing")
        return status

    def _roll_back(self, trial: Trial, reason: str) -> Status:
        status = self._outcome(trial, "rolled_back", reason)
        self._save(self._state, trial=None, given_up=status, last=status, sent=False)
        log.warning("%s: stays what it was: %s", self._id, reason)
        return status

    def _leave(self, campaign: Campaign) -> Status:
        """Go back to the other slot from a package that was taken back."""
        running, last = self._state.running, self._state.last
        if running is None or running.digest != campaign.leave:
            if last is not None and last.campaign == campaign.id:
                return last
            return self._status(campaign, "updated", "it does not run what was taken back")
        other = self._state.spare
        usable = self._slots.is_whole(other, self._state.slots[other])
        after = self._state.slots[other] if usable else None
        if after is not None and after.security_version < self._state.security_floor:
            return self._status(campaign, "refused", "the other slot holds a downgrade")
        status = self._status(campaign, "rolled_back", "the package was taken back")
        status = status.model_copy(update={"after": after})
        active = other if usable else None
        self._save(self._state, active=active, last=status, sent=False)
        self._slots.show(active)
        return status

    def _outcome(self, trial: Trial, outcome: Outcome, reason: str) -> Status:
        made = self._status(None, outcome, reason)
        return made.model_copy(update={"campaign": trial.campaign, "wave": trial.wave})

    def _status(self, campaign: Campaign | None, outcome: Outcome, reason: str) -> Status:
        return Status(
            device=self._id,
            group=self.settings.group,
            campaign=campaign.id if campaign else "",
            state=outcome,
            reason=reason,
            before=self._state.running,
            after=self._state.running,
            wave=campaign.wave_of(self._id) if campaign else None,
            counter=max(self._state.counter + 1, int(time.time() * 1000)),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _again(self, status: Status) -> Status:
        """The same report, as of now."""
        fresh = self._status(None, status.state, status.reason)
        return status.model_copy(update={"counter": fresh.counter, "time": fresh.time})

    def _note(self, status: Status) -> Status:
        """Keep a report for sending, unless it says what the last one said; returns what counts."""
        last = self._state.last
        if last is not None and _gist(last) == _gist(status):
            return last
        self._save(self._state, last=status, sent=False)
        return status

    def _send_what_waits(self) -> None:
        status = self._state.last
        if status is not None and not self._state.sent:
            send(self._objects, status, self.key())
            self._save(self._state, sent=True, counter=status.counter)

    def _save(self, state: State, **changes: Any) -> None:
        self._state = state.model_copy(update=changes)
        save_state(self._disk, self.settings.home / "state.json", self._state)

    @property
    def _id(self) -> str:
        return self.settings.device


def _promised(descriptor: Descriptor) -> Running:
    return Running(
        name=descriptor.name,
        version=descriptor.version,
        digest=descriptor.package_digest,
        security_version=descriptor.security_version,
    )


def _gist(status: Status) -> dict[str, Any]:
    return status.model_dump(exclude={"counter", "time"})


def _lock(home: Path) -> int:
    handle = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        msg = f"another agent runs in {home}: stop it, or give this one another home"
        raise BadParameters(msg) from error
    return handle
