"""What a job did, written last: no manifest, nothing happened."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from slimline.contract.artifact import digest_json


class Ref(BaseModel):
    """A stored artifact as a manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    digest: str


class Identity(BaseModel):
    """Everything that decides what a job makes: no URI, tag, time or secret is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str
    code: str
    image: str
    parameters: dict[str, Any]
    inputs: dict[str, tuple[str, ...]]

    @property
    def digest(self) -> str:
        """The job's identity: sha256 over canonical JSON."""
        return digest_json(self.model_dump(mode="json"))

    def difference(self, other: Identity) -> str:
        """Why this job is another one than `other`, as half a sentence; "" when it is the same."""
        if self.component != other.component:
            return f"the component was {other.component}"
        for what in ("parameters", "inputs"):
            mine, theirs = getattr(self, what), getattr(other, what)
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    return _changed(what, name, theirs.get(name), mine.get(name))
        if self.code != other.code:
            return "the component's code changed"
        if self.image != other.image:
            return "the image digest changed"
        return ""


class Manifest(BaseModel):
    """The record of one job that was done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    identity: Identity
    outputs: dict[str, Ref]
    numbers: dict[str, Any]
    reason: str
    seconds: float
    started: str
    versions: dict[str, str]

    @property
    def job(self) -> str:
        """The job's identity."""
        return self.identity.digest


def _changed(what: str, name: str, old: Any, new: Any) -> str:
    if what == "inputs":
        return f"input {name} has other bytes"
    return f"parameter {name} changed from {old!r} to {new!r}"
