"""One protocol for campaigns, and drivers behind it.

A driver says what runs where and hears what devices report. It does not decide anything: waves,
thresholds and rollback are in `rollout`, the same for all drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from slimline.contract import Refused, get_logger
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrolled, receive
from slimline.fleet.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.fleet.documents import Campaign, Descriptor, Device, Status

log = get_logger(__name__)


class Campaigns(Protocol):
    """How an authority speaks to a group of devices, whatever is in between."""

    def devices(self) -> tuple[str, ...]:
        """The ids of the group's devices, sorted."""

    def release(self, descriptor: Descriptor) -> None:
        """Let a package run somewhere; nothing happens when it may already."""

    def current(self) -> Campaign | None:
        """What the group was told last."""

    def announce(self, campaign: Campaign) -> None:
        """Tell the group what to run now; replaces what it was told before."""

    def reports(self) -> dict[str, Status]:
        """The last report of each device that sent one, proven to be its own."""


class SignedPoll:
    """No broker: a TUF repository in a bucket or directory, which devices poll."""

    def __init__(self, uri: str, group: str, keys: Mapping[str, str]) -> None:
        self._objects, self._group = open_objects(uri), group
        self._repository = Repository(self._objects, keys)
        self._devices: dict[str, Device] = enrolled(self._objects, group)
        self._heard: dict[str, Status] = {}

    def devices(self) -> tuple[str, ...]:
        """See `Campaigns.devices`."""
        return tuple(sorted(self._devices))

    def release(self, descriptor: Descriptor) -> None:
        """See `Campaigns.release`."""
        self._repository.publish_release(descriptor)

    def current(self) -> Campaign | None:
        """See `Campaigns.current`."""
        return self._repository.campaign(self._group)

    def announce(self, campaign: Campaign) -> None:
        """See `Campaigns.announce`."""
        self._repository.publish_campaign(campaign)

    def reports(self) -> dict[str, Status]:
        """See `Campaigns.reports`; an older report than one that was heard does not count."""
        for name, device in self._devices.items():
            try:
                status = receive(self._objects, device)
            except Refused as error:
                log.warning("%s", error)
                continue
            before = self._heard.get(name)
            if status is not None and (before is None or status.counter > before.counter):
                self._heard[name] = status
        return dict(self._heard)
