"""What a device knows of itself over a loss of power: one JSON record and its sha256."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import BadData, canonical_json
from slimline.fleet.documents import Budget, Running, Status

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.device.disk import Disk

Slot = Literal["A", "B"]
SLOTS: tuple[Slot, ...] = ("A", "B")


class Damaged(BadData):
    """The record is not what was written; the device looks at its slots instead."""


class Trial(BaseModel):
    """A package that waits for its proof, and how often it was started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slot: Slot
    tries: int
    campaign: str
    wave: int | None
    budget: Budget


class State(BaseModel):
    """The record. A slot that is None may hold anything; it is not used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: Slot | None = None
    slots: dict[Slot, Running | None] = {"A": None, "B": None}
    trial: Trial | None = None
    security_floor: int = 0
    given_up: Status | None = None
    """How the campaign ended that was tried in vain; it is not tried again."""
    counter: int = 0
    last: Status | None = None
    """The last report, sent or not."""
    sent: bool = True

    @property
    def running(self) -> Running | None:
        """The package that the device runs."""
        return self.slots[self.active] if self.active else None

    @property
    def spare(self) -> Slot:
        """The slot that may be written to."""
        return "B" if self.active == "A" else "A"

    def holding(self, digest: str) -> Slot | None:
        """The slot that holds a package."""
        return next((s for s, r in self.slots.items() if r and r.digest == digest), None)

    def with_slot(self, slot: Slot, running: Running | None) -> State:
        """The same, with something else in a slot."""
        return self.model_copy(update={"slots": {**self.slots, slot: running}})


def save_state(disk: Disk, path: Path, state: State) -> None:
    """Replace the record, durably."""
    record = state.model_dump(mode="json")
    sha256 = hashlib.sha256(canonical_json(record)).hexdigest()
    disk.replace(path, json.dumps({"record": record, "sha256": sha256}, indent=1).encode())


def load_state(path: Path) -> State | None:
    """Read the record; None when there is none.

    Raises:
        Damaged: when it is not what was written.
    """
    try:
        kept = json.loads(path.read_bytes())
        record = kept["record"]
        if hashlib.sha256(canonical_json(record)).hexdigest() != kept["sha256"]:
            msg = f"{path}: its sha256 is wrong"
            raise Damaged(msg)
        return State.model_validate(record)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, ValidationError, OSError) as error:
        msg = f"{path} cannot be read: {error}"
        raise Damaged(msg) from error
