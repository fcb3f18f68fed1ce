"""Deployments to containers of a real engine: the story of processes, in containers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support import engine as engines
from support import web
from support.load import Load
from support.serving import wait_until

from slimline.contract import BadParameters, Package, Refused
from slimline.deploy.endpoints import address_of, list_endpoints, stop_endpoint
from slimline.deploy.record import read_record
from slimline.deploy.spec import Deploy, Docker, Local
from slimline.trust.package import load_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker
_KILL = """
import os, pathlib
for place in pathlib.Path("/proc").glob("[0-9]*"):
    words = (place / "cmdline").read_bytes().split(b"\\0")
    if b"slimline.serving" in words and words[0].endswith(b"python") and place.name != "1":
        os.kill(int(place.name), 9)
"""


@pytest.fixture(scope="module")
def engine() -> Any:
    return engines.engine()


@pytest.fixture(scope="module")
def network(engine: Any) -> Iterator[str]:
    made = engine.networks.create(f"slimline-test-{os.urandom(3).hex()}")
    yield made.name
    made.remove()


@dataclass(frozen=True)
class Place:
    """An engine, a network of it, and a directory for the endpoint `digits`."""

    engine: Any
    network: str
    state: Path
    work: Path

    @property
    def wanted(self) -> dict[str, Any]:
        root = self.state.resolve() / "digits"
        return {"label": f"dev.slimline.endpoint.directory={root}"}

    def job(self, package: Package, **changes: Any) -> Deploy:
        image = engines.images().image("serving").reference
        given = {"state_dir": str(self.state), "network": self.network, "image": image}
        settings = Docker(**{**given, **changes})
        return Deploy(package=package, endpoint="digits", target="docker", docker=settings)

    def deploy(self, package: Package, **changes: Any) -> dict[str, Any]:
        outcome = self.job(package, **changes).run(work_dir=self.work / os.urandom(4).hex())
        return json.loads((outcome["receipt"].path / "receipt.json").read_text())

    def containers(self) -> list[str]:
        found = self.engine.containers.list(all=True, filters=self.wanted, ignore_removed=True)
        return sorted(c.name for c in found)

    def volumes(self) -> list[str]:
        return [v.name for v in self.engine.volumes.list(filters=self.wanted)]

    def is_clean(self, containers: int = 0, volumes: int = 0) -> bool:
        return (len(self.containers()), len(self.volumes())) == (containers, volumes)


@pytest.fixture
def place(engine: Any, network: str, state: Path, tmp_path: Path) -> Iterator[Place]:
    """What a test started is stopped, and nothing may be left of it."""
    made = Place(engine, network, state, tmp_path)
    yield made
    for name in list_endpoints(state):
        stop_endpoint(state, name)
    assert made.is_clean()


def _serving(address: str) -> str:
    return web.get(f"{address}/readyz").json()["package_digest"]


def test_one_address_is_good_for_this_machine_and_for_containers_of_the_network(
    first: Package, place: Place
) -> None:
    receipt = place.deploy(first)
    assert (receipt["target"], receipt["before"], receipt["after"]) == ("docker", "", first.digest)
    assert receipt["golden"]["difference"] <= receipt["golden"]["tolerance"]
    address = receipt["address"]
    assert address == address_of(place.state, "digits")
    assert _serving(address) == first.digest
    code = f"import urllib.request as u; print(u.urlopen('{address}/readyz').read().decode())"
    answer = place.engine.containers.run(
        engines.images().image("serving").reference,
        ["-c", code],
        entrypoint=["python"],
        network=place.network,
        remove=True,
    )
    assert json.loads(answer)["package_digest"] == first.digest


def test_no_request_is_lost_in_switches_under_load_and_the_address_stays(
    first: Package, second: Package, place: Place
) -> None:
    address = place.deploy(first)["address"]
    with Load(address, lasting=2, fleeting=2) as load:
        wait_until(lambda: len(load.versions) > 50)
        for package in (second, first):
            receipt = place.deploy(package)
            assert (receipt["address"], receipt["changed"]) == (address, True)
            version, count = load_manifest(package.path).version, len(load.versions)
            wait_until(lambda n=count, v=version: v in load.versions[n:])
    assert load.failed == []
    assert set(load.versions) == {load_manifest(p.path).version for p in (first, second)}
    assert place.is_clean(containers=2, volumes=1)
    assert place.deploy(first)["changed"] is False


def test_a_server_that_refuses_its_package_leaves_the_old_one_and_nothing_else(
    first: Package, wrong: Package, place: Place
) -> None:
    with pytest.raises(Refused, match="ended with 65: refused to serve"):
        place.deploy(wrong)
    assert place.is_clean()
    address = place.deploy(first)["address"]
    before = read_record(place.state / "digits")
    there = (place.containers(), place.volumes())
    with pytest.raises(Refused, match="golden inputs"):
        place.deploy(wrong)
    assert _serving(address) == first.digest
    assert read_record(place.state / "digits") == before
    assert (place.containers(), place.volumes()) == there


def test_a_package_that_was_tampered_with_starts_no_container(first: Package, place: Place) -> None:
    copy = shutil.copytree(first.path, place.work / "copy")
    (copy / "card.md").write_text("# other\n")
    with pytest.raises(Refused, match=r"card\.md was changed"):
        place.deploy(Package.at(copy))
    assert not place.state.exists()


def test_a_deployment_that_is_killed_is_mended_by_the_next(
    first: Package, second: Package, place: Place
) -> None:
    address = place.deploy(first)["address"]
    job = place.job(second).parameter_values()
    arguments = {"package": second.model_dump(mode="json"), **job}
    code = (
        "import json, sys; from slimline.deploy.spec import Deploy\n"
        "Deploy.parse(json.loads(sys.argv[1])).run()"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, json.dumps(arguments)])
    wait_until(lambda: len(place.engine.containers.list(filters=place.wanted)) > 2, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert _serving(address) == first.digest
    assert len(place.containers()) > 2
    receipt = place.deploy(second)
    assert (receipt["address"], receipt["before"]) == (address, first.digest)
    assert place.is_clean(containers=2, volumes=1)
    assert _serving(address) == second.digest


def test_a_container_is_hardened_and_sees_no_secret(
    first: Package,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-7c1f")
    monkeypatch.setenv("SLIMLINE_SECRET_SIGNING", "planted-7c1f")
    place.deploy(first)
    for name in place.containers():
        told = place.engine.containers.get(name).attrs
        host = told["HostConfig"]
        assert "planted-7c1f" not in json.dumps(told)
        assert told["Config"]["User"] == "65532:65532"
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert told["Config"]["Healthcheck"]["Test"]
        assert [m["Destination"] for m in told["Mounts"] if m["RW"]] == []
        assert "docker.sock" not in json.dumps(told)


def test_a_server_that_dies_is_started_again_behind_the_same_address(
    first: Package, place: Place
) -> None:
    address = place.deploy(first)["address"]
    name = read_record(place.state / "digits").current.process.name
    place.engine.containers.get(name).exec_run(["python", "-c", _KILL])
    wait_until(lambda: place.engine.containers.get(name).attrs["RestartCount"] == 1)
    wait_until(lambda: web.get(f"{address}/readyz").status_code == 200)
    assert _serving(address) == first.digest
    assert place.deploy(first)["changed"] is False


def test_a_front_that_is_gone_comes_back_at_the_same_port_and_so_does_a_stopped_endpoint(
    first: Package, place: Place
) -> None:
    address = place.deploy(first)["address"]
    front = read_record(place.state / "digits").front.process
    place.engine.containers.get(front.id).stop(timeout=5)
    assert address_of(place.state, "digits") == ""
    assert place.deploy(first)["address"] == address
    assert stop_endpoint(place.state, "digits") is True
    assert place.is_clean()
    assert place.deploy(first)["address"] == address


def test_a_taken_port_is_passed_over_unless_it_is_asked_for(first: Package, place: Place) -> None:
    address = place.deploy(first)["address"]
    stop_endpoint(place.state, "digits")
    (place.state / "digits" / "endpoint.json").unlink()
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, int(port)))
        taken.listen()
        with pytest.raises(BadParameters, match=rf"docker\.port {port}"):
            place.deploy(first, port=int(port))
        assert place.is_clean()
        assert place.deploy(first)["address"] == f"http://{host}:{int(port) + 1}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network": "bridge"}, "docker network create"),
        ({"network": "slimline-nowhere"}, "no network 'slimline-nowhere'"),
        ({"image": "sha256:" + "0" * 64}, "make images"),
        ({"memory": "16Mi"}, "more memory than docker.memory 16Mi"),
    ],
)
def test_what_cannot_be_started_is_told_with_its_cure_and_leaves_nothing(
    first: Package, place: Place, changes: Any, told: str
) -> None:
    with pytest.raises(Exception, match=told):
        place.deploy(first, **changes)


def test_an_endpoint_of_processes_is_not_taken_over_by_containers(
    first: Package, place: Place
) -> None:
    local = Local(state_dir=str(place.state))
    Deploy(package=first, endpoint="digits", local=local).run(work_dir=place.work / "local")
    with pytest.raises(BadParameters, match="runs as process"):
        place.deploy(first)


def test_only_a_job_whose_target_is_the_engine_asks_for_it(first: Package, place: Place) -> None:
    assert place.job(first).resources().engine is True
    assert Deploy(package=first).resources().engine is False
