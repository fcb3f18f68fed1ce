"""The janitor and containers of the real engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from slimline.adapters.runners.docker.container import container_name
from slimline.adapters.runners.docker.engine import LABEL, Engine
from slimline.adapters.runners.docker.sweep import sweep_containers
from slimline.contract import Resources

pytestmark = pytest.mark.docker
DAYS = timedelta(days=2)


def swept(bench, *, later: timedelta, dry_run: bool = False) -> dict[str, str]:
    """What goes of the bench's own containers when that much time has passed."""
    names = {f"container {container_name(i)}" for i in bench.identities}
    own = OnlyThese(names)
    found = sweep_containers(own, older_than=DAYS, dry_run=dry_run, now=datetime.now(UTC) + later)
    return {find.what: find.reason for find in found}


class OnlyThese(Engine):
    """An engine that lists the containers of a test alone: others may be at work."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        own, api = {name.removeprefix("container ") for name in names}, self.api
        everything = api.containers

        def listed(**kwargs):
            return [c for c in everything(**kwargs) if c["Names"][0][1:] in own]

        api.containers = listed


def test_what_ended_long_ago_goes_and_what_ended_today_stays_for_a_retry(docker_bench):
    bench = docker_bench()
    handle = bench.start(ending="data")
    handle.wait(bench.lines.append)
    name = container_name(handle.launch.identity)
    assert swept(bench, later=timedelta(days=1)) == {}
    expected = {f"container {name}": "ended with exit code 65, 3 days ago"}
    assert swept(bench, later=timedelta(days=3, hours=1), dry_run=True) == expected
    assert bench.inspect(handle.launch.identity) is not None
    assert swept(bench, later=timedelta(days=3, hours=1)) == expected
    assert bench.inspect(handle.launch.identity) is None


def test_what_runs_goes_on_until_its_tasks_limit_is_over_and_is_ended_then(docker_bench):
    bench = docker_bench()
    handle = bench.start(seconds=60, needs=Resources(timeout_minutes=30))
    assert swept(bench, later=timedelta(minutes=34)) == {}
    found = swept(bench, later=timedelta(minutes=36))
    assert "runs beyond" in next(iter(found.values()))
    assert bench.inspect(handle.launch.identity) is None


def test_what_was_never_started_goes_after_an_hour(docker_bench):
    bench = docker_bench()
    launch = bench.launch()
    image, name = bench.runner.lock.image("base").reference, container_name(launch.identity)
    Engine().api.create_container(image, name=name, labels={f"{LABEL}identity": launch.identity})
    assert swept(bench, later=timedelta(minutes=50)) == {}
    assert swept(bench, later=timedelta(minutes=70)) == {
        f"container {name}": "it was never started"
    }
    assert bench.inspect(launch.identity) is None


def test_a_container_without_our_labels_is_never_touched(docker_bench):
    bench = docker_bench()
    launch = bench.launch()
    name = container_name(launch.identity)
    Engine().api.create_container(bench.runner.lock.image("base").reference, name=name)
    assert swept(bench, later=timedelta(days=99)) == {}
    assert bench.inspect(launch.identity) is not None
