"""Removes containers that nobody came back for.

Whether the run that asked for a container has ended is not asked of Airflow: it may be away, and
another Airflow than the one that sweeps may use the same engine. Each container carries the moment
after which it has had its time (`dev.slimline.deadline`: its start, the limit of its job, and some
minutes), so the engine alone is asked. A retry that attached shares what was left of that time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from slimline.adapters.janitor import Find
from slimline.adapters.runners.docker.container import GRACE_SECONDS
from slimline.adapters.runners.docker.engine import LABEL, Engine, Gone

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARTING = timedelta(hours=1)
"""Longer than any container waits between its making and its start."""


def sweep_containers(
    engine: Engine, *, older_than: timedelta, dry_run: bool, now: datetime | None = None
) -> tuple[Find, ...]:
    """Remove containers that ended a while ago, and those that run beyond their deadline.

    Args:
        engine: where to look.
        older_than: how long a container that has ended is left for a retry to find.
        dry_run: only tell.
        now: the present moment.
    """
    found = []
    for container in _containers(engine):
        reason = _reason(container, older_than, now or datetime.now(UTC))
        if not reason:
            continue
        found.append(Find(f"container {container['Name'][1:]}", reason))
        if not dry_run:
            _end(engine, container["Id"])
    return tuple(found)


def _containers(engine: Engine) -> Iterator[dict[str, Any]]:
    with engine.told():
        listed = engine.api.containers(all=True, filters={"label": f"{LABEL}identity"})
    for entry in listed:
        try:
            yield engine.inspect(entry["Id"])
        except Gone:  # its task took the result meanwhile
            continue


def _reason(container: dict[str, Any], older_than: timedelta, now: datetime) -> str:
    """Why a container goes, as half a sentence; "" for one that stays."""
    state, labels = container["State"], container["Config"]["Labels"]
    if state["Status"] == "created":
        age = now - _moment(container["Created"])
        return "it was never started" if age > _STARTING else ""
    if state["Status"] in ("exited", "dead"):
        age = now - _moment(state["FinishedAt"])
        code = state["ExitCode"]
        return f"ended with exit code {code}, {age.days} days ago" if age > older_than else ""
    deadline = _moment(labels.get(f"{LABEL}deadline", "9999-12-31T00:00:00+00:00"))
    over = f"runs beyond {deadline:%Y-%m-%d %H:%M} UTC, when its task gave up at the latest"
    return over if now > deadline else ""


def _end(engine: Engine, container: str) -> None:
    try:
        with engine.told():
            engine.api.stop(container, timeout=GRACE_SECONDS)
    except Gone:
        return
    engine.remove(container)


def _moment(text: str) -> datetime:
    """A moment as the engine writes it, with up to nine digits of a second."""
    return datetime.fromisoformat(f"{text[:19]}+00:00")
