"""One device: asks what it shall run, and takes it or stays what it was.

A round is `poll()`: ask the authority, obey, report. The record is replaced whole at each turn of
the way, so a round that is cut anywhere goes on from the last turn at the next start.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, Refused, TryLater, get_logger
from slimline.device.authority import ask
from slimline.device.disk import Disk, told
from slimline.device.health import check_in_child
from slimline.device.record import Record, Settings
from slimline.device.slots import Slots
from slimline.device.update import Place, Updater
from slimline.fleet.documents import Budget, Status
from slimline.fleet.fit import read_inventory
from slimline.fleet.keys import generate_private_key
from slimline.fleet.objects import open_objects
from slimline.trust.keys import load_trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slimline.device.authority import Order
    from slimline.device.state import State
    from slimline.device.update import Health
    from slimline.fleet.documents import Campaign
    from slimline.fleet.fit import Inventory
    from slimline.fleet.objects import Objects

__all__ = ["Agent", "Settings"]

log = get_logger(__name__)


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
        self._health = health
        self._objects = opener(settings.repository)
        self._trusted = load_trusted(settings.trusted)
        self._slots = Slots(self._disk, settings.home)
        self._record = Record(self._disk, settings)
        place = Place(
            settings,
            self._disk,
            self._slots,
            inventory or read_inventory(),
            self._trusted,
            opener,
            health,
        )
        self._updater = Updater(place, self._record)
        self._lock: int | None = None

    @property
    def state(self) -> State:
        """What it knows of itself."""
        return self._record.state

    def start(self) -> None:
        """Come up: one instance, a record, a whole active slot, no trial left open.

        Raises:
            BadParameters: when another agent has this home.
        """
        home = self.settings.home
        self._disk.make_directory(home)
        self._lock = _lock(home)
        self.key()
        self._record.load(
            lambda: self._slots.recover(self._trusted, lambda path: self._health(path, Budget()))
        )
        self._leave_damaged_slot()
        if self._record.state.trial is not None:
            self._updater.try_out(self._record.state.trial)
        self._slots.show(self._record.state.active)

    def poll(self) -> Status:
        """One round; returns what was reported.

        Raises:
            TryLater: when the repository does not answer; nothing was changed.
        """
        try:
            self._record.send_what_waits(self._objects, self.key())
            status = self._obeyed(self._asked())
        except OSError as error:
            raise TryLater(told(error)) from error
        noted = self._record.note(status)
        self._record.send_what_waits(self._objects, self.key())
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

    def _leave_damaged_slot(self) -> None:
        state = self._record.state
        if state.active is None or self._slots.is_whole(state.active, state.running):
            return
        damaged, other = state.active, state.spare
        spared = state.slots[other]
        usable = self._slots.is_whole(other, spared)
        if usable and spared is not None and spared.security_version < state.security_floor:
            log.warning(
                "%s: slot %s holds a downgrade and is not used", self.settings.device, other
            )
            usable = False
        log.warning("%s: slot %s is damaged", self.settings.device, damaged)
        trial = None if state.trial and state.trial.slot == other else state.trial
        kept = state.with_slot(damaged, None)
        self._record.save(kept, active=other if usable else None, trial=trial)

    def _asked(self) -> Order | Status:
        """What to do, or why nothing can be trusted."""
        directory = self.settings.home / "tuf"
        root = self.settings.root.read_bytes()
        try:
            order = ask(self._disk, self._objects, directory, root, self.settings.group)
        except Refused as error:
            return self._record.status(None, "refused", str(error))
        if order is None:
            return self._record.status(None, "idle", f"group {self.settings.group} has no campaign")
        return order

    def _obeyed(self, order: Order | Status) -> Status:
        if isinstance(order, Status):
            return order
        campaign, last = order.campaign, self._record.state.last
        answered = last is not None and last.campaign == campaign.id
        given_up = self._record.state.given_up
        if given_up is not None and given_up.campaign == campaign.id:
            return self._record.again(given_up)
        if order.descriptor is None:
            return self._leave(campaign)
        running = self._record.state.running
        if running and running.digest == order.descriptor.package_digest:
            done = answered and last is not None and last.state == "updated"
            return (
                last
                if done and last
                else self._record.status(campaign, "updated", "it runs already")
            )
        if not campaign.is_open_for(self.settings.device):
            return self._record.status(campaign, "waiting", "its wave is not open")
        return self._updater.install(campaign, order.descriptor)

    def _leave(self, campaign: Campaign) -> Status:
        """Go back to the other slot from a package that was taken back."""
        running, last = self._record.state.running, self._record.state.last
        if running is None or running.digest != campaign.leave:
            if last is not None and last.campaign == campaign.id:
                return last
            return self._record.status(campaign, "updated", "it does not run what was taken back")
        other = self._record.state.spare
        usable = self._slots.is_whole(other, self._record.state.slots[other])
        after = self._record.state.slots[other] if usable else None
        if after is not None and after.security_version < self._record.state.security_floor:
            return self._record.status(campaign, "refused", "the other slot holds a downgrade")
        status = self._record.status(campaign, "rolled_back", "the package was taken back")
        status = status.model_copy(update={"after": after})
        active = other if usable else None
        self._record.save(self._record.state, active=active, last=status, sent=False)
        self._slots.show(active)
        return status


def _lock(home: Path) -> int:
    handle = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        msg = f"another agent runs in {home}: stop it, or give this one another home"
        raise BadParameters(msg) from error
    return handle
