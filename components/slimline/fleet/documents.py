"""The documents of a fleet: what may run, who runs what now, and what a device says of itself."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slimline.contract.artifact import FileEntry, digest_entries
from slimline.trust.manifest import CHUNK_BYTES, PackageFile

WHOLE = 10_000
"""Waves are counted in hundredths of a percent."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
_HEX = r"^[0-9a-f]{64}$"
State = Literal["waiting", "updated", "rolled_back", "refused", "idle"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Coded(_Document):
    """A smaller form of a package's file, which `slimline.coding` restores bit for bit."""

    path: str
    """The file that it makes."""
    file: PackageFile
    """What is fetched for it; it lies beside the package's files and is none of them."""


class Descriptor(_Document):
    """What a release is: the TUF target `releases/<name>/<version>.json`."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=_NAME)
    version: str = Field(pattern=_NAME)
    security_version: int = Field(ge=0)
    package_digest: str = Field(pattern=_HEX)
    uri: str
    """Where the files lie: `<uri>/<path>`; relative to the fleet's repository without a scheme."""
    files: tuple[PackageFile, ...]
    """Every file of the package, with the sha256 of each of its 1 MiB chunks."""
    requires: dict[str, Any]
    coded: tuple[Coded, ...] = ()
    """Files that need not be fetched as they are."""

    @model_validator(mode="after")
    def _files_are_the_package(self) -> Self:
        listed = tuple(FileEntry(path=f.path, sha256=f.sha256, size=f.size) for f in self.files)
        if digest_entries(listed) != self.package_digest:
            msg = f"release {self.name} {self.version}: its files are not those of its digest"
            raise ValueError(msg)
        for file in (*self.files, *(coded.file for coded in self.coded)):
            if len(file.chunks) != -(-file.size // CHUNK_BYTES):
                msg = f"{file.path}: {len(file.chunks)} chunk hashes for {file.size} bytes"
                raise ValueError(msg)
        paths = {file.path for file in self.files}
        for coded in self.coded:
            if coded.path not in paths or coded.file.path in paths:
                msg = f"{coded.file.path} is no coded form of a file of {self.name} {self.version}"
                raise ValueError(msg)
        return self

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def target(self) -> str:
        """The path of the TUF target."""
        return release_target(self.name, self.version)


class Wave(_Document):
    """A part of the fleet: devices by name, and devices whose bucket lies below a threshold."""

    devices: tuple[str, ...] = ()
    threshold: int = Field(0, ge=0, le=WHOLE)


class Budget(_Document):
    """What a package may cost a device; None is no limit."""

    max_latency_ms: float | None = Field(None, gt=0)
    max_memory_mb: float | None = Field(None, gt=0)
    tries: int = Field(3, ge=1, le=10)


class Campaign(_Document):
    """Who runs what now: the TUF target `campaigns/<group>.json`.

    `release` None takes a package away: devices that run `leave` go back to their other slot.
    """

    schema_version: Literal[1] = 1
    id: str = Field(pattern=_NAME)
    group: str = Field(pattern=_NAME)
    kind: Literal["update", "rollback"]
    release: str | None
    package_digest: str | None
    leave: str | None = None
    salt: str
    waves: tuple[Wave, ...] = Field(min_length=1)
    open_waves: int = Field(ge=0)
    failure_threshold: float = Field(ge=0, le=1)
    budget: Budget = Budget()

    def wave_of(self, device: str) -> int | None:
        """The first wave that a device is in, None when it is in none."""
        place = bucket(self.salt, device)
        for number, wave in enumerate(self.waves):
            if device in wave.devices or place < wave.threshold:
                return number
        return None

    def is_open_for(self, device: str) -> bool:
        """Whether it is the device's turn."""
        wave = self.wave_of(device)
        return wave is not None and wave < self.open_waves


class Device(_Document):
    """What `devices/<id>.json` says: who a device is, and the key that signs its reports."""

    id: str = Field(pattern=_NAME)
    group: str = Field(pattern=_NAME)
    public_key: str


class Running(_Document):
    """A package on a device."""

    name: str
    version: str
    digest: str
    security_version: int


class Status(_Document):
    """What a device says of itself, signed with its key, under `status/<group>/<id>.json`."""

    device: str
    group: str
    campaign: str
    """Id of the campaign that it answers; "" when it could trust none."""
    state: State
    reason: str
    before: Running | None
    after: Running | None
    wave: int | None
    counter: int
    """Grows with every report, so an old one cannot be shown again."""
    time: str
    numbers: dict[str, float] = Field(default_factory=dict)


def bucket(salt: str, device: str) -> int:
    """Where a device stands among 10,000: the same on authority and device, with no message.

    A new salt makes a new order, so that it is not always the same devices that go first.
    """
    digest = hashlib.sha256(f"{salt}|{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % WHOLE


def release_target(name: str, version: str) -> str:
    """The TUF target path of a release."""
    return f"releases/{name}/{version}.json"


def campaign_target(group: str) -> str:
    """The TUF target path of a group's campaign."""
    return f"campaigns/{group}.json"


def campaign_role(group: str) -> str:
    """The TUF role that says what a group runs."""
    return f"campaigns/{group}"
