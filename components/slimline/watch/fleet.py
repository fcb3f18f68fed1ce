"""How a fleet does: do its devices run what they should, by their own signed word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import Refused
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrolled, receive

if TYPE_CHECKING:
    from slimline.fleet.documents import Status


def look_at_fleet(repository: str, group: str, digest: str, min_devices: float) -> tuple[str, int]:
    """What is wrong with a group now.

    Returns:
        Half a sentence, "" when all is well; and the number of devices that do well.
    """
    objects = open_objects(repository)
    devices = enrolled(objects, group)
    wrong: dict[str, str] = {}
    for name, device in sorted(devices.items()):
        try:
            found = _wrong(receive(objects, device), digest)
        except Refused as error:
            found = str(error)
        if found:
            wrong[name] = found
    well = len(devices) - len(wrong)
    if not devices:
        return "no device is enrolled", 0
    if well < min_devices * len(devices):
        name = min(wrong)
        return f"{well} of {len(devices)} devices do well; {name} {wrong[name]}", well
    return "", well


def _wrong(status: Status | None, digest: str) -> str:
    if status is None:
        return "never reported"
    if digest and (status.after is None or status.after.digest != digest):
        runs = status.after.version if status.after else "nothing"
        return f"runs {runs} ({status.state}: {status.reason})"
    if not digest and status.state in ("rolled_back", "refused"):
        return f"is {status.state}: {status.reason}"
    return ""
