"""The demo in docker mode, by Airflow's real scheduler: jobs, endpoint, devices in containers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support import engine as engines
from support.stack import DEVICES, family, left, small_stack

from slimline.adapters.images import load_lock
from slimline.contract import load_component, open_store
from slimline.contract.cache import read_manifest
from slimline.embedded.demo.stack import GROUP, stop_stack
from slimline.embedded.demo.story import MODEL
from slimline.embedded.demo.summary import release_figures, time_figures
from slimline.embedded.network import network_name
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrolled, receive

pytestmark = [pytest.mark.system, pytest.mark.docker]


@pytest.fixture(scope="module")
def engine():
    return engines.engine()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    engines.images()
    with small_stack(tmp_path_factory.mktemp("system"), "docker") as found:
        found.story.unpause()
        yield found


@pytest.fixture(scope="module")
def first(system):
    return system.story.compress("the first version", {})


@pytest.fixture(scope="module")
def released(system, first):
    return system.story.promote(str(first.numbers("register")["version"]))


@pytest.fixture(scope="module")
def undone(system, released):
    """A second version, and its release that no device can pass."""
    assert released.run.state == "success"
    return system.story.bad_release()


def on_network(engine, system):
    name = network_name(system.stack.state_dir)
    return engine.containers.list(all=True, filters={"network": name}, ignore_removed=True)


def running(system):
    objects = open_objects(system.stack.environment["SLIMLINE_FLEET"])
    reports = [receive(objects, device) for device in enrolled(objects, GROUP).values()]
    return [report.after.digest for report in reports]


def test_every_job_runs_in_its_image_and_its_container_goes_when_its_result_was_taken(
    engine, system, first
):
    lock = load_lock(Path(system.stack.environment["SLIMLINE_IMAGES"]))
    store = open_store(system.stack.store)
    for name, step in first.steps.items():
        manifest = read_manifest(store, step["job"])
        image = lock.image(load_component(step["component"]).image)
        assert manifest.versions["image"] == image.digest, name
        assert manifest.identity.image == image.environment, name
    assert len(first.executed) == len(first.steps) == 9
    assert [
        c.name for c in on_network(engine, system) if "dev.slimline.component" in c.labels
    ] == []
    assert time_figures(first)["seconds_beyond_work"] > 0


def test_a_promotion_reaches_an_endpoint_and_devices_that_are_containers(engine, system, released):
    digest = released.numbers("deploy")["after"]
    address = released.numbers("deploy")["address"]
    assert httpx.get(f"{address}/readyz").json()["package_digest"] == digest
    assert running(system) == [digest] * DEVICES
    labels = [container.labels for container in on_network(engine, system)]
    assert sum("dev.slimline.device" in found for found in labels) == DEVICES
    assert sum("dev.slimline.endpoint" in found for found in labels) == 2
    states = {container.status for container in on_network(engine, system)}
    assert states == {"running"}


def test_a_bad_release_is_undone_on_devices_and_endpoint(system, released, undone):
    _, bad = undone
    before, figures = released.numbers("deploy")["after"], release_figures(bad)
    assert bad.run.state == "failed"
    assert figures["endpoint"]["after"] == before
    assert any("inference takes" in d["reason"] for d in figures["devices"].values())
    address = released.numbers("deploy")["address"]
    assert httpx.get(f"{address}/readyz").json()["package_digest"] == before
    assert running(system) == [before] * DEVICES
    assert system.story.registry.aliases(MODEL)["deployed"] == "1"


@pytest.mark.usefixtures("undone")
def test_only_deploy_was_given_the_engine_and_no_command_line_a_secret(engine, system):
    secret = system.stack.environment["AWS_SECRET_ACCESS_KEY"]
    for container in on_network(engine, system):
        told = container.attrs
        assert "docker.sock" not in json.dumps(told["HostConfig"])
        words = (*(told["Config"]["Entrypoint"] or ()), *(told["Config"]["Cmd"] or ()))
        assert secret not in " ".join(words)
    assert not [line for line in system.lookout.command_lines if secret in line]


@pytest.mark.usefixtures("undone")
def test_stopping_leaves_no_container_no_network_and_no_volume(engine, system):
    there = on_network(engine, system)
    volumes = {m["Name"] for c in there for m in c.attrs["Mounts"] if m["Type"] == "volume"}
    assert len(volumes) == DEVICES + 1
    stopped = stop_stack(system.stack.state_dir)
    assert {container.name for container in there} <= set(stopped)
    assert _left(engine, system.stack.state_dir) == []
    assert volumes & {volume.name for volume in engine.volumes.list()} == set()


def _left(engine, state_dir):
    name = network_name(state_dir)
    containers = engine.containers.list(all=True, filters={"name": name}, ignore_removed=True)
    return [*containers, *engine.networks.list(names=[name])]


def test_an_interrupted_demo_leaves_no_container(engine, tmp_path):
    state = tmp_path / "demo"
    command = [sys.executable, "-m", "slimline.embedded.demo", "--state-dir", str(state)]
    demo = subprocess.Popen(
        [*command, "--runner", "docker"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while len(_left(engine, state)) < DEVICES:  # some devices run, others are being started
        assert time.monotonic() < deadline
        time.sleep(0.2)
    there = family(state)
    demo.send_signal(signal.SIGINT)
    told, _ = demo.communicate(timeout=90)
    assert demo.returncode == 130
    assert "interrupted" in told
    assert _left(engine, state) == []
    assert left(state, there) == []


def test_a_demo_without_an_engine_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere")
    command = [sys.executable, "-m", "slimline.embedded.demo", "--runner", "docker"]
    done = subprocess.run(
        [*command, "--state-dir", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 75
    assert "infra/engine.sh start" in done.stdout
