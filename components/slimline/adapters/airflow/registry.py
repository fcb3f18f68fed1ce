"""The part of MLflow's model registry that a release needs, by its REST API.

MLflow's own client takes seconds to import, which each task and the triggerer would pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from slimline.contract import BadData, BadParameters, TryLater

_TIMEOUT = 10.0
_UNKNOWN = "RESOURCE_DOES_NOT_EXIST"
_API = "/api/2.0/mlflow"


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its number, and its tags."""

    model: str
    version: str
    tags: dict[str, str]

    @property
    def package(self) -> dict[str, str]:
        """The package that the version stands for, as an artifact.

        Raises:
            BadData: when the version was not registered by a compress run.
        """
        uri = self.tags.get("slimline.package.uri")
        digest = self.tags.get("slimline.package.digest")
        if not uri or not digest:
            msg = (
                f"version {self.version} of {self.model} has no tags slimline.package.uri and "
                "slimline.package.digest: register it by a run of its compress DAG"
            )
            raise BadData(msg)
        return {"uri": uri, "digest": digest}


class Registry:
    """A registry at an address."""

    def __init__(self, address: str) -> None:
        """Use the tracking server at `address` (http or https)."""
        self.address = checked(address)

    def aliases(self, model: str) -> dict[str, str]:
        """The versions that a model's aliases stand for; empty when there is no such model."""
        return read_aliases(self._call("GET", "/registered-models/get", params={"name": model}))

    def version(self, model: str, version: str) -> Version:
        """One version of a model.

        Raises:
            BadData: when there is none of that number.
        """
        query = {"name": model, "version": version}
        found = self._call("GET", "/model-versions/get", params=query).get("model_version")
        if not found:
            msg = f"the registry has no version {version} of {model}; see its list of versions"
            raise BadData(msg)
        return _version(found)

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, the newest first."""
        found: list[Version] = []
        query = {"filter": f"name='{model}'", "max_results": "1000"}
        while True:
            page = self._call("GET", "/model-versions/search", params=query)
            found += [_version(entry) for entry in page.get("model_versions", ())]
            if not page.get("next_page_token"):
                return tuple(found)
            query["page_token"] = page["next_page_token"]

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Let an alias stand for a version."""
        wish = {"name": model, "alias": alias, "version": version}
        self._call("POST", "/registered-models/alias", json=wish)

    def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        try:
            answer = httpx.request(method, self.address + _API + path, timeout=_TIMEOUT, **how)
        except httpx.HTTPError as error:
            raise _away(self.address, error) from error
        return read(answer)


async def fetch_aliases(address: str, model: str) -> dict[str, str]:
    """As `Registry.aliases`, without blocking the triggerer's loop."""
    url = checked(address) + _API + "/registered-models/get"
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            answer = await client.get(url, params={"name": model})
    except httpx.HTTPError as error:
        raise _away(address, error) from error
    return read_aliases(read(answer))


def checked(address: str) -> str:
    """The address without its last slash.

    Raises:
        BadParameters: when it is none of a server.
    """
    if not address.startswith(("http://", "https://")):
        msg = (
            f"MLFLOW_TRACKING_URI is {address!r}: releases need a registry server; set it, or the "
            "connection slimline_mlflow, to an http(s) address"
        )
        raise BadParameters(msg)
    return address.rstrip("/")


def read(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer; empty when the registry does not know the thing."""
    if answer.is_success:
        found: dict[str, Any] = answer.json()
        return found
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        msg = f"the registry answered {answer.status_code}: {answer.text:.200}"
        raise TryLater(msg)
    if _UNKNOWN in answer.text:
        return {}
    msg = f"the registry answered {answer.status_code}: {answer.text:.200}"
    raise BadData(msg)


def read_aliases(found: dict[str, Any]) -> dict[str, str]:
    """The aliases in a registered model's JSON."""
    listed = found.get("registered_model", {}).get("aliases", ())
    return {entry["alias"]: str(entry["version"]) for entry in listed}


def _version(found: dict[str, Any]) -> Version:
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", ())}
    return Version(found["name"], str(found["version"]), tags)


def _away(address: str, error: httpx.HTTPError) -> TryLater:
    return TryLater(f"the registry at {address} does not answer: {error}")
