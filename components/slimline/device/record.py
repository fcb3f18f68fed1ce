"""The record of a device: what it knows of itself, and the reports that are made from it.

`state.json` is replaced whole at each turn of the way. What is reported stands in the same record,
so no outcome is lost on the way to the bucket.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slimline.contract import get_logger
from slimline.device.state import Damaged, State, load_state, save_state
from slimline.fleet.documents import Status
from slimline.fleet.reports import send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slimline.device.disk import Disk
    from slimline.device.state import Trial
    from slimline.fleet.documents import Campaign
    from slimline.fleet.documents import State as Outcome
    from slimline.fleet.objects import Objects

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


class Record:
    """A device's state, durable, and its reports."""

    def __init__(self, disk: Disk, settings: Settings) -> None:
        self._disk, self._settings = disk, settings
        self._path = settings.home / "state.json"
        self.state = State()

    def load(self, recover: Callable[[], State]) -> None:
        """Read the record; what `recover` finds in the slots takes the place of a lost one."""
        try:
            found = load_state(self._path)
        except Damaged as error:
            log.warning("%s: the record is damaged, looking at the slots: %s", self._id, error)
            found = None
        if found is None:
            self.save(recover())
        else:
            self.state = found

    def save(self, state: State, **changes: Any) -> None:
        """Replace the record, durably, by a state with changes."""
        self.state = state.model_copy(update=changes)
        save_state(self._disk, self._path, self.state)

    def status(self, campaign: Campaign | None, outcome: Outcome, reason: str) -> Status:
        """A report as of now, about what runs."""
        return Status(
            device=self._id,
            group=self._settings.group,
            campaign=campaign.id if campaign else "",
            state=outcome,
            reason=reason,
            before=self.state.running,
            after=self.state.running,
            wave=campaign.wave_of(self._id) if campaign else None,
            counter=max(self.state.counter + 1, int(time.time() * 1000)),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def outcome(self, trial: Trial, outcome: Outcome, reason: str) -> Status:
        """A report of how a trial ended."""
        made = self.status(None, outcome, reason)
        return made.model_copy(update={"campaign": trial.campaign, "wave": trial.wave})

    def again(self, status: Status) -> Status:
        """The same report, as of now."""
        fresh = self.status(None, status.state, status.reason)
        return status.model_copy(update={"counter": fresh.counter, "time": fresh.time})

    def note(self, status: Status) -> Status:
        """Keep a report for sending, unless it says what the last one said; returns what counts."""
        last = self.state.last
        if last is not None and _gist(last) == _gist(status):
            return last
        self.save(self.state, last=status, sent=False)
        return status

    def send_what_waits(self, objects: Objects, private_pem: str) -> None:
        """Send the last report, unless it is sent."""
        status = self.state.last
        if status is not None and not self.state.sent:
            send(objects, status, private_pem)
            self.save(self.state, sent=True, counter=status.counter)

    @property
    def _id(self) -> str:
        return self._settings.device


def _gist(status: Status) -> dict[str, Any]:
    return status.model_dump(exclude={"counter", "time"})
