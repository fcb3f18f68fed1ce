"""The part of MLflow's model registry that a release needs, by its REST API.

MLflow's own client takes seconds to import, which each task and the triggerer would pay.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from slimline.contract import BadData, BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS = "MLFLOW_TRACKING_URI"
_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - a name
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

    def __init__(self, address: str, environment: Mapping[str, str] | None = None) -> None:
        """Use the tracking server at `address` (http or https).

        Args:
            address: where it is.
            environment: has MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN, where it asks.
        """
        self.address = checked(address)
        self._headers = authorization(environment or {})

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
        """Let an alias stand for a version.

        Raises:
            BadData: when the registry knows no such model or version.
        """
        wish = {"name": model, "alias": alias, "version": version}
        self._call("POST", "/registered-models/alias", must_exist=True, json=wish)

    def _call(
        self, method: str, path: str, *, must_exist: bool = False, **how: Any
    ) -> dict[str, Any]:
        url = self.address + _API + path
        try:
            answer = httpx.request(method, url, timeout=_TIMEOUT, headers=self._headers, **how)
        except httpx.HTTPError as error:
            raise _away(self.address, error) from error
        return read(answer, must_exist=must_exist)


async def fetch_aliases(environment: Mapping[str, str], model: str) -> dict[str, str]:
    """As `Registry.aliases`, without blocking the triggerer's loop."""
    address = checked(environment.get(ADDRESS, ""))
    url, headers = address + _API + "/registered-models/get", authorization(environment)
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            answer = await client.get(url, params={"name": model}, headers=headers)
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


def authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """The header that lets us in, by the variables that MLflow's own clients read."""
    user, password = environment.get(_USER), environment.get(_PASSWORD)
    if user and password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    token = environment.get(_TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def read(answer: httpx.Response, *, must_exist: bool = False) -> dict[str, Any]:
    """The JSON of an answer; empty when the registry does not know the thing.

    Raises:
        TryLater: when it cannot answer now.
        BadParameters: when it does not let us in.
        BadData: when it refuses, or does not know the thing and `must_exist`.
    """
    told = f"the registry answered {answer.status_code}: {answer.text:.200}"
    if answer.is_success:
        return _json(answer, told)
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise TryLater(told)
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        msg = f"{told}; give login and password in the connection slimline_mlflow, or {_USER}"
        raise BadParameters(msg)
    if _UNKNOWN in answer.text and not must_exist:
        return {}
    raise BadData(told)


def read_aliases(found: dict[str, Any]) -> dict[str, str]:
    """The aliases in a registered model's JSON."""
    listed = found.get("registered_model", {}).get("aliases", ())
    return {entry["alias"]: str(entry["version"]) for entry in listed}


def _json(answer: httpx.Response, told: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = answer.json()
    except ValueError as error:  # a proxy's page in its place
        raise TryLater(told) from error
    return found


def _version(found: dict[str, Any]) -> Version:
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", ())}
    return Version(found["name"], str(found["version"]), tags)


def _away(address: str, error: httpx.HTTPError) -> TryLater:
    return TryLater(f"the registry at {address} does not answer: {error}")
