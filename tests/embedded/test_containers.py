"""Containers beside the embedded servers: a network of their own, and devices on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import engine as engines
from support.fleet import GROUP, make_fleet
from support.s3 import s3_server
from support.serving import wait_until

from slimline.embedded.devices import Fleet, start_devices
from slimline.embedded.network import make_network, network_name, remove_network
from slimline.fleet.reports import enrolled, receive

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine():
    return engines.engine()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def network(home):
    yield make_network(home)
    remove_network(home)


@pytest.fixture(scope="module")
def bucket(home, network):
    """An S3 server that listens on the network's gateway."""
    with s3_server(home / "s3", network.gateway) as s3:
        yield s3


@pytest.fixture(scope="module")
def fleet(home, bucket):
    return make_fleet(home, bucket.new_prefix())


@pytest.fixture(scope="module")
def devices(fleet, bucket, network):
    """Two devices, each in a container."""
    described = Fleet(
        image=engines.images().image("device").reference,
        repository=fleet.uri,
        group=GROUP,
        root=fleet.root,
        trusted=fleet.trusted,
        environment=bucket.environment,
        interval=0.5,
    )
    return start_devices(described, network, 2)


def reports(fleet):
    known = enrolled(fleet.objects, GROUP)
    return {name: receive(fleet.objects, device) for name, device in known.items()}


def versions(fleet):
    return {n: r.after.version if r and r.after else "" for n, r in reports(fleet).items()}


def everyone_runs(fleet, descriptor):
    both = dict.fromkeys(("device-01", "device-02"), descriptor.version)
    wait_until(lambda: versions(fleet) == both)


def test_devices_in_containers_are_updated_and_a_restarted_one_keeps_key_and_state(
    engine, fleet, devices
):
    keys = {name: device.public_key for name, device in enrolled(fleet.objects, GROUP).items()}
    first = fleet.tell(fleet.package(1))
    everyone_runs(fleet, first)
    before = reports(fleet)["device-01"]
    engine.containers.get(devices[0]).restart(timeout=10)
    second = fleet.tell(fleet.package(2))
    everyone_runs(fleet, second)
    after = reports(fleet)["device-01"]
    assert after.before == before.after
    assert after.counter > before.counter
    assert {n: d.public_key for n, d in enrolled(fleet.objects, GROUP).items()} == keys
    assert len(set(keys.values())) == 2


def test_a_device_in_a_container_is_hardened_and_only_its_volume_can_be_written(engine, devices):
    told = engine.containers.get(devices[0]).attrs
    host = told["HostConfig"]
    assert told["Config"]["User"] == "65532:65532"
    assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert [m["Name"] for m in told["Mounts"] if m["RW"]] == [devices[0]]
    words = [*told["Config"]["Entrypoint"], *told["Config"]["Cmd"]]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in json.dumps(words)


def test_nothing_is_left_of_a_network_not_even_what_was_created_and_never_started(engine, tmp_path):
    network = make_network(tmp_path)
    image = engines.images().image("device").reference
    sleep = {"entrypoint": ["sleep", "60"], "network": network.name, "init": True}
    running = engine.containers.run(image, volumes=["/work"], detach=True, **sleep)
    created = engine.containers.create(image, **sleep)
    volume = engine.containers.get(running.id).attrs["Mounts"][0]["Name"]
    assert set(remove_network(tmp_path)) == {running.name, created.name}
    assert engine.networks.list(names=[network_name(tmp_path)]) == []
    assert volume not in [v.name for v in engine.volumes.list()]
    assert remove_network(tmp_path) == ()


def test_a_network_whose_directory_was_removed_is_made_anew(tmp_path):
    make_network(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    assert make_network(tmp_path).name == network_name(tmp_path)
    remove_network(tmp_path)


def test_a_directory_without_a_network_asks_for_no_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere")
    assert remove_network(Path(tmp_path)) == ()
