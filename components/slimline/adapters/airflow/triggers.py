"""Watches an alias of a registered model: a promotion by a person starts a release.

Each version that the alias comes to stand for is one event, by polling, so a promotion made while
Airflow or the registry was down is seen later. The version is noted in the asset's own state after
the event was stored: a crash between the two gives the event again, never loses it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from slimline.adapters.airflow.connections import mask, mlflow_environment
from slimline.adapters.airflow.registry import fetch_aliases
from slimline.contract import SlimlineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LONGEST_PAUSE = 60.0
_HANDED_OVER = 2.0
"""Seconds after which the triggerer, which collects events each second, has an event stored."""


class AliasTrigger(BaseEventTrigger):
    """Fires when an alias of a model stands for another version than the last one seen."""

    def __init__(self, model: str, alias: str = "champion", poll_seconds: float = 10.0) -> None:
        """Watch `model@alias`, asking every `poll_seconds`."""
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's
        self.model, self.alias, self.poll_seconds = model, alias, poll_seconds
        self._seen: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger.serialize`."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        kwargs = {"model": self.model, "alias": self.alias, "poll_seconds": self.poll_seconds}
        return path, kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask for ever; a registry that is away is asked again after a growing pause."""
        pause = self.poll_seconds
        while True:
            try:
                version = await self._version()
            except SlimlineError as error:
                self.log.warning("%s; asking again in %.0f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, max(_LONGEST_PAUSE, self.poll_seconds))
                continue
            pause = self.poll_seconds
            if version is not None and version != await self._last_seen():
                seen = {"model": self.model, "alias": self.alias, "version": version}
                yield TriggerEvent(seen)  # type: ignore[no-untyped-call] # Airflow's
                await asyncio.sleep(max(pause, _HANDED_OVER))
                await self._note(version)
            await asyncio.sleep(pause)

    async def _version(self) -> str | None:
        return (await fetch_aliases(await _settings(), self.model)).get(self.alias)

    @property
    def _key(self) -> str:
        return f"{self.model}@{self.alias}"

    async def _last_seen(self) -> str | None:
        if self._seen is None and self.asset_state_store is not None:
            found = await self.asset_state_store.aget(self._key)
            self._seen = str(found) if found is not None else None
        return self._seen

    async def _note(self, version: str) -> None:
        self._seen = version
        if self.asset_state_store is not None:
            await self.asset_state_store.aset(self._key, version)


async def _settings() -> dict[str, str]:
    """Address and credentials of the registry: the connection's win, as in every task."""
    settings = dict(os.environ)
    with suppress(AirflowNotFoundException):
        found = mlflow_environment(await Connection.async_get("slimline_mlflow"))
        mask(found)
        settings |= found
    return settings
