"""The authority's side: a TUF repository on object storage, made with python-tuf.

Layout below the fleet's URI::

    tuf/metadata/N.role.json, timestamp.json    signed metadata, each role with its own key
    tuf/targets/<dir>/<sha256>.<name>           release descriptors and campaigns
    devices/<id>.json                           who the devices are
    status/<group>/<id>.json                    what they report

What is published is written in the order targets, role, snapshot, timestamp: until the timestamp
is there, devices see the old state whole. Versioned files are never written twice, so a publisher
that was killed leaves files that nobody names and no damage.

It does **not** arbitrate between publishers: one at a time per fleet. The timestamp is read before
it is written and read back, so that of two at once at least one is told to try again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from slimline.contract import BadData, TryLater
from slimline.contract.store import Missing
from slimline.fleet.documents import (
    Campaign,
    Descriptor,
    campaign_role,
    campaign_target,
    release_target,
)
from slimline.fleet.keys import role_signer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securesystemslib.signer import Key
    from tuf.api.metadata import Metadata, MetaFile, TargetFile

    from slimline.fleet.objects import Objects

METADATA, TARGETS = "tuf/metadata/", "tuf/targets/"
_TOP = ("root", "targets", "snapshot", "timestamp")
_TIMESTAMP = f"{METADATA}timestamp.json"


@dataclass(frozen=True)
class Lifetimes:
    """How long each role's word counts, in days."""

    root: float = 730
    targets: float = 365
    releases: float = 365
    campaigns: float = 30
    snapshot: float = 14
    timestamp: float = 7

    def expiry(self, role: str) -> datetime:
        """When a role's metadata that is signed now ends; whole seconds, as TUF writes them."""
        days: float = getattr(self, role)
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


class Repository:
    """Publishes to a fleet. `keys` are private PEM keys by role; not every act needs all."""

    def __init__(
        self, objects: Objects, keys: Mapping[str, str], lifetimes: Lifetimes | None = None
    ) -> None:
        self.objects = objects
        self._keys = keys
        self._lifetimes = lifetimes or Lifetimes()

    def create(self, groups: tuple[str, ...]) -> bytes:
        """Make a new repository whose roles are delegated; needs all keys.

        Args:
            groups: the fleet's groups, each with its role `campaigns/<group>`.

        Returns:
            The root metadata, which devices carry from the factory.

        Raises:
            BadData: when there is a repository already.
        """
        from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp

        if self._exists():
            msg = f"{self.objects.uri} holds a fleet repository already; give another prefix"
            raise BadData(msg)
        root = Root(expires=self._lifetimes.expiry("root"), consistent_snapshot=True)
        for role in _TOP:
            root.add_key(role_signer(self._keys, role).public_key, role)
        data = self._write("root", Metadata(root))
        targets = Metadata(self._delegating(groups))
        self._write("targets", targets)
        snapshot = Metadata(Snapshot())
        self._name(snapshot, "targets", targets)
        for role in ("releases", *map(campaign_role, groups)):
            self._name(snapshot, role, self._empty(role))
        self._finish(snapshot, Metadata(Timestamp()))
        return data

    def publish_release(self, descriptor: Descriptor) -> bool:
        """Say that a package may run; False when it was said before, word for word."""
        return self._publish("releases", descriptor.target, _json(descriptor))

    def publish_campaign(self, campaign: Campaign) -> bool:
        """Say what a group runs now; False when it was said before, word for word."""
        target = campaign_target(campaign.group)
        return self._publish(campaign_role(campaign.group), target, _json(campaign))

    def refresh(self) -> dict[str, datetime]:
        """Sign anew, so that nothing expires while nothing happens.

        Snapshot and timestamp are signed each time; other roles whose key is at hand are when half
        of their time is over. A role whose key lies elsewhere, and root, stay as they are.

        Returns:
            When each role that could be read with the keys at hand ends.
        """
        timestamp = self._timestamp()
        snapshot = self._snapshot(timestamp)
        ends: dict[str, datetime] = {}
        for role in sorted(name.removesuffix(".json") for name in snapshot.signed.meta):
            if role.partition("/")[0] in self._keys:
                metadata = self._role(role, snapshot)
                if self._is_due(role, metadata):
                    self._write(role, metadata)
                    self._name(snapshot, role, metadata)
                ends[role] = metadata.signed.expires
        self._finish(snapshot, timestamp)
        return {**ends, "snapshot": snapshot.signed.expires, "timestamp": timestamp.signed.expires}

    def release(self, name: str, version: str) -> Descriptor | None:
        """A published release."""
        data = self._target("releases", release_target(name, version))
        return None if data is None else Descriptor.model_validate_json(data)

    def campaign(self, group: str) -> Campaign | None:
        """What a group was told last."""
        data = self._target(campaign_role(group), campaign_target(group))
        return None if data is None else Campaign.model_validate_json(data)

    def _publish(self, role: str, path: str, data: bytes) -> bool:
        from tuf.api.metadata import TargetFile

        timestamp = self._timestamp()
        snapshot = self._snapshot(timestamp)
        metadata = self._role(role, snapshot)
        file = TargetFile.from_data(path, data, ["sha256"])
        before = metadata.signed.targets.get(path)
        if before is not None and before.hashes == file.hashes:
            return False
        self.objects.put(_target_key(file), data)
        metadata.signed.targets[path] = file
        self._write(role, metadata)
        self._name(snapshot, role, metadata)
        self._finish(snapshot, timestamp)
        return True

    def _finish(self, snapshot: Metadata[Any], timestamp: Metadata[Any]) -> None:
        from tuf.api.metadata import MetaFile

        msg = f"another publisher wrote to {self.objects.uri} at the same time: run it again"
        data = self._write("snapshot", snapshot)
        hashed = MetaFile.from_data(snapshot.signed.version, data, ["sha256"])
        timestamp.signed.snapshot_meta = hashed
        timestamp.signed.version += 1
        signed = self._sign("timestamp", timestamp)
        if self._exists() and self._timestamp().signed.version >= timestamp.signed.version:
            raise TryLater(msg)
        self.objects.put(_TIMESTAMP, signed)
        if self.objects.get(_TIMESTAMP) != signed:
            raise TryLater(msg)

    def _write(self, role: str, metadata: Metadata[Any]) -> bytes:
        """Sign a role and write it under the next version that is free."""
        first = role == "root"
        while True:
            metadata.signed.version += 0 if first else 1
            data = self._sign(role, metadata)
            key = f"{METADATA}{metadata.signed.version}.{quote(role, '')}.json"
            if self.objects.put(key, data, if_absent=True):
                return data
            first = False

    def _is_due(self, role: str, metadata: Metadata[Any]) -> bool:
        expires: datetime = metadata.signed.expires
        lifetime = self._lifetimes.expiry(role.partition("/")[0]) - datetime.now(UTC)
        return expires - datetime.now(UTC) < lifetime / 2

    def _sign(self, role: str, metadata: Metadata[Any]) -> bytes:
        key = role.partition("/")[0]
        metadata.signed.expires = self._lifetimes.expiry(key)
        metadata.sign(role_signer(self._keys, key))
        return metadata.to_bytes()

    def _name(self, snapshot: Metadata[Any], role: str, metadata: Metadata[Any]) -> None:
        from tuf.api.metadata import MetaFile

        hashed = MetaFile.from_data(metadata.signed.version, metadata.to_bytes(), ["sha256"])
        snapshot.signed.meta[f"{role}.json"] = hashed

    def _empty(self, role: str) -> Metadata[Any]:
        from tuf.api.metadata import Metadata, Targets

        made: Metadata[Any] = Metadata(Targets())
        self._write(role, made)
        return made

    def _delegating(self, groups: tuple[str, ...]) -> Any:
        from tuf.api.metadata import DelegatedRole, Delegations, Targets

        releases = role_signer(self._keys, "releases").public_key
        campaigns = role_signer(self._keys, "campaigns").public_key
        roles = {
            "releases": DelegatedRole(
                "releases", [releases.keyid], 1, terminating=True, paths=["releases/*/*.json"]
            )
        }
        for group in groups:
            role, path = campaign_role(group), campaign_target(group)
            roles[role] = DelegatedRole(role, [campaigns.keyid], 1, terminating=True, paths=[path])
        keys: dict[str, Key] = {releases.keyid: releases, campaigns.keyid: campaigns}
        return Targets(delegations=Delegations(keys, roles))

    def _exists(self) -> bool:
        try:
            self.objects.get(_TIMESTAMP)
        except Missing:
            return False
        return True

    def _timestamp(self) -> Metadata[Any]:
        try:
            return self._read(_TIMESTAMP)
        except Missing as error:
            msg = f"{self.objects.uri} holds no fleet repository: make one (Repository.create)"
            raise BadData(msg) from error

    def _snapshot(self, timestamp: Metadata[Any]) -> Metadata[Any]:
        named = timestamp.signed.snapshot_meta
        return self._read(f"{METADATA}{named.version}.snapshot.json", named)

    def _role(self, role: str, snapshot: Metadata[Any]) -> Metadata[Any]:
        named = snapshot.signed.meta.get(f"{role}.json")
        if named is None:
            there = sorted(n.removesuffix(".json") for n in snapshot.signed.meta)
            msg = f"{self.objects.uri} has no role {role!r}; there are: {', '.join(there)}"
            raise BadData(msg)
        return self._read(f"{METADATA}{named.version}.{quote(role, '')}.json", named)

    def _read(self, key: str, named: MetaFile | None = None) -> Metadata[Any]:
        """Read metadata that is to be signed again, checked with the role's own key.

        Whoever can write to the bucket must not get his lines signed by us.
        """
        from securesystemslib.exceptions import UnverifiedSignatureError
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata

        try:
            data = self.objects.get(key)
            if named is not None:
                named.verify_length_and_hashes(data)
            metadata: Metadata[Any] = Metadata.from_bytes(data)
            role = _role_of(key)
            public = role_signer(self._keys, role).public_key
            public.verify_signature(metadata.signatures[public.keyid], metadata.signed_bytes)
        except (RepositoryError, UnverifiedSignatureError, KeyError) as error:
            msg = f"{self.objects.uri}/{key}: not signed with the key at hand; refusing to go on"
            raise BadData(msg) from error
        return metadata

    def _target(self, role: str, path: str) -> bytes | None:
        metadata = self._role(role, self._snapshot(self._timestamp()))
        file: TargetFile | None = metadata.signed.targets.get(path)
        if file is None:
            return None
        data = self.objects.get(_target_key(file))
        file.verify_length_and_hashes(data)
        return data


def _role_of(key: str) -> str:
    """`tuf/metadata/7.campaigns%2Fgate.json` -> `campaigns`, `.../timestamp.json` -> its name."""
    name = key.removeprefix(METADATA).removesuffix(".json")
    return name.partition(".")[2].partition("%2F")[0] or name


def _target_key(file: TargetFile) -> str:
    directory, _, name = file.path.rpartition("/")
    return f"{TARGETS}{directory}/{file.hashes['sha256']}.{name}"


def _json(document: Descriptor | Campaign) -> bytes:
    return document.model_dump_json(indent=1).encode()
