"""Removes pods that have ended and that nobody came back for.

A pod that still runs needs no sweep: Kubernetes ends it at its deadline (`activeDeadlineSeconds`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from slimline.adapters.janitor import Find
from slimline.adapters.runners.pod.spec import JOBS
from slimline.adapters.runners.pod.state import ended

if TYPE_CHECKING:
    from slimline.adapters.runners.pod.api import PodApi


def sweep_pods(
    api: PodApi, *, older_than: timedelta, dry_run: bool, now: datetime | None = None
) -> tuple[Find, ...]:
    """Remove pods that ended a while ago.

    Args:
        api: where to look.
        older_than: how long a pod that has ended is left for a retry to find.
        dry_run: only tell.
        now: the present moment.
    """
    found = []
    for pod in api.list(JOBS):
        end = ended(pod)
        age = (now or datetime.now(UTC)) - pod.metadata.creation_timestamp
        if end is None or age < older_than:
            continue
        told = f"ended with exit code {end.code}, started {age.days} days ago"
        found.append(Find(f"pod {pod.metadata.name}", told))
        if not dry_run:
            api.delete(pod.metadata.name, pod.metadata.uid, 0)
    return tuple(found)
