"""Reports of devices: written with the device's own key, read with the key it enrolled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from slimline.contract import BadData, Refused
from slimline.contract.store import Missing
from slimline.fleet.documents import Device, Status
from slimline.fleet.keys import public_key, public_pem, signer

if TYPE_CHECKING:
    from slimline.fleet.objects import Objects

_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
PAYLOAD_TYPE = "application/vnd.slimline.status+json"


def enrol(objects: Objects, device: str, group: str, private_pem: str) -> Device:
    """Put a device's public key where the authority looks for it.

    This is for whoever makes the fleet: afterwards no device may write under `devices/`.
    """
    made = Device(id=device, group=group, public_key=public_pem(private_pem))
    objects.put(f"devices/{device}.json", made.model_dump_json(indent=1).encode())
    return made


def enrolled(objects: Objects, group: str) -> dict[str, Device]:
    """All devices of a group by id.

    Raises:
        BadData: on a document that describes no device.
    """
    found: dict[str, Device] = {}
    for key in objects.keys("devices/"):
        try:
            device = Device.model_validate_json(objects.get(key))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]["msg"]
            msg = f"{key} describes no device ({first}): enrol the device again, or remove it"
            raise BadData(msg) from error
        if device.group == group and key == f"devices/{device.id}.json":
            found[device.id] = device
    return found


def send(objects: Objects, status: Status, private_pem: str) -> None:
    """Sign a report and put it into the repository."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(status.model_dump_json().encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer(private_pem))
    objects.put(status_key(status.group, status.device), json.dumps(envelope.to_dict()).encode())


def receive(objects: Objects, device: Device) -> Status | None:
    """The last report of a device, None when it has sent none.

    Raises:
        Refused: when the device's key did not sign it, or it speaks for another device.
    """
    try:
        data = objects.get(status_key(device.group, device.id))
    except Missing:
        return None
    return open_report(data, device)


def open_report(data: bytes, device: Device) -> Status:
    """Verify a report. See `receive`."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    try:
        envelope = Envelope.from_dict(json.loads(data))
        envelope.verify([public_key(device.public_key)], 1)
        status = Status.model_validate_json(envelope.payload)
    except (*_MALFORMED, VerificationError, ValidationError) as error:
        msg = f"report of {device.id}: the device's key did not sign it ({type(error).__name__})"
        raise Refused(msg) from error
    if (status.device, status.group) != (device.id, device.group):
        msg = f"report of {device.id}: it speaks for {status.group}/{status.device}"
        raise Refused(msg)
    return status


def status_key(group: str, device: str) -> str:
    """Where a device's report lies."""
    return f"status/{group}/{device}.json"
