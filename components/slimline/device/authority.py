"""Who may tell a device what to run: TUF metadata, checked by python-tuf's own client.

Ours are the network (objects, so a USB stick works like a bucket) and the disk: python-tuf renames
without fsync. The root comes with the device, never from the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import ValidationError

from slimline.contract import BadParameters, Refused, TryLater
from slimline.contract.store import Missing
from slimline.fleet.documents import Campaign, Descriptor, campaign_target
from slimline.fleet.repository import METADATA, TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slimline.device.disk import Disk
    from slimline.fleet.objects import Objects


@dataclass(frozen=True)
class Order:
    """What a device was told: the campaign, and the release that it and `releases` both name."""

    campaign: Campaign
    descriptor: Descriptor | None


def ask(disk: Disk, objects: Objects, directory: Path, root: bytes, group: str) -> Order | None:
    """Read what a group shall run now; None when nothing was ever said.

    Args:
        disk: what writes.
        objects: the fleet's repository.
        directory: where metadata is kept, against rollback.
        root: the root metadata that came with the device.
        group: the device's group.

    Raises:
        Refused: when signature, version, expiry or content do not prove it.
        TryLater: when the repository does not answer.
    """
    from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError

    disk.make_directory(directory / "root_history")
    try:
        client = _client()(disk, objects, directory, root)
        return _order(client, objects, group)
    except DownloadHTTPError as error:
        msg = f"the fleet's repository is incomplete: {error}"
        raise TryLater(msg) from error
    except RepositoryError as error:
        msg = f"the fleet's metadata is refused: {_told(error)}"
        raise Refused(msg) from error
    except DownloadError as error:
        if isinstance(error.__cause__, TryLater):
            raise error.__cause__ from error
        msg = f"the fleet's metadata is refused: {error}"
        raise Refused(msg) from error


def _order(client: Any, objects: Objects, group: str) -> Order | None:
    data = _target(client, objects, campaign_target(group))
    if data is None:
        return None
    campaign = _parsed(Campaign, data)
    if campaign.group != group:
        msg = f"campaign {campaign.id} is for group {campaign.group}, this device is in {group}"
        raise Refused(msg)
    if campaign.release is None:
        return Order(campaign, None)
    released = _target(client, objects, campaign.release)
    if released is None:
        msg = f"campaign {campaign.id} names {campaign.release}, which role releases does not"
        raise Refused(msg)
    descriptor = _parsed(Descriptor, released)
    if (descriptor.target, descriptor.package_digest) != (
        campaign.release,
        campaign.package_digest,
    ):
        msg = f"campaign {campaign.id} and release {campaign.release} name different packages"
        raise Refused(msg)
    return Order(campaign, descriptor)


def _target(client: Any, objects: Objects, path: str) -> bytes | None:
    """The bytes of a target, in memory: they are small, and are asked for at each poll."""
    info = client.get_targetinfo(path)
    if info is None:
        return None
    directory, _, name = path.rpartition("/")
    data = objects.get(f"{TARGETS}{directory}/{info.hashes['sha256']}.{name}", 0, info.length + 1)
    info.verify_length_and_hashes(data)
    return data


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"]
        msg = f"a signed {kind.__name__.lower()} is malformed: {told}"
        raise Refused(msg) from error


def _told(error: Exception) -> str:
    from tuf.api.exceptions import (
        BadVersionNumberError,
        ExpiredMetadataError,
        LengthOrHashMismatchError,
        UnsignedMetadataError,
    )

    kinds: dict[type[Exception], str] = {
        ExpiredMetadataError: "it has expired",
        BadVersionNumberError: "it is older than what was seen before",
        UnsignedMetadataError: "it is not signed by whom it should be",
        LengthOrHashMismatchError: "its bytes are not those that were signed",
    }
    return f"{kinds.get(type(error), 'it is malformed')} ({error})"


@cache
def _fetcher() -> type:
    """Python-tuf's network on objects; made late, so that imports stay light."""
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class Fetcher(FetcherInterface):
        """Reads metadata from objects; the URL is the key."""

        def __init__(self, objects: Objects) -> None:
            self._objects = objects

        def _fetch(self, url: str) -> Iterator[bytes]:
            try:
                return iter([self._objects.get(url)])
            except Missing as error:
                raise DownloadHTTPError(str(error), 404) from error
            except BadParameters as error:  # S3 denies what is not there to who may not list
                raise DownloadHTTPError(str(error), 403) from error

    return Fetcher


@cache
def _client() -> type:
    """Python-tuf's client with our network and our disk."""
    from tuf.ngclient import Updater

    class Client(Updater):
        """Keeps metadata durably."""

        def __init__(self, disk: Disk, objects: Objects, directory: Path, root: bytes) -> None:
            self._disk, self._home = disk, directory
            fetcher = _fetcher()(objects)
            super().__init__(str(directory), METADATA, fetcher=fetcher, bootstrap=root)

        def _persist_root(self, version: int, data: bytes) -> None:
            self._keep(f"root_history/{version}.root.json", data)

        def _persist_metadata(self, rolename: str, data: bytes) -> None:
            self._keep(f"{quote(rolename, '')}.json", data)

        def _keep(self, name: str, data: bytes) -> None:
            path = self._home / name
            if not path.is_file() or path.read_bytes() != data:
                self._disk.replace(path, data)

        def _update_root_symlink(self) -> None:
            """Not used: the trusted root is the embedded one, never the cached one."""

    return Client
