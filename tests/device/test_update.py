"""A device takes what it should, in order, and says so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.fleet import make_fleet

from slimline.contract import BadParameters, Refused
from slimline.device.disk import Disk
from slimline.device.fetch import fetch_package
from slimline.device.health import check_in_child
from slimline.fleet.documents import Budget, Wave
from slimline.fleet.keys import public_pem
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrolled, receive
from slimline.trust.manifest import CHUNK_BYTES


@pytest.fixture
def fleet(tmp_path):
    return make_fleet(tmp_path)


class Counting:
    """Objects that remember which ranges were read, and can break the line."""

    def __init__(self, uri, reads, cut_after=10**9):
        self._inner, self._reads, self._left = open_objects(uri), reads, cut_after
        self.uri = self._inner.uri

    def get(self, key, start=0, size=8 << 20):
        if self._left <= 0:
            message = "the line is cut"
            raise ConnectionError(message)
        self._left -= 1
        self._reads.append((key, start))
        return self._inner.get(key, start, size)

    def put(self, key, data, *, if_absent=False):
        return self._inner.put(key, data, if_absent=if_absent)

    def keys(self, prefix):
        return self._inner.keys(prefix)


def test_a_device_goes_from_nothing_to_the_first_package_and_on_to_the_second(fleet):
    agent = fleet.agent()
    assert agent.poll().state == "idle"
    first = fleet.tell(fleet.package(1))
    status = agent.poll()
    assert (status.state, status.before, status.after.version) == ("updated", None, first.version)
    second = fleet.tell(fleet.package(2))
    status = agent.poll()
    assert (status.before.version, status.after.version) == (first.version, second.version)
    current = fleet.settings().home / "current"
    assert (current / "manifest.json").is_file()
    assert second.version in (current / "manifest.json").read_text()


def test_the_report_in_the_repository_is_the_device_s_own_and_signed(fleet):
    agent = fleet.agent()
    fleet.tell(fleet.package(1))
    sent = agent.poll()
    device = enrolled(fleet.objects, "gate")["d1"]
    assert receive(fleet.objects, device) == sent
    foreign = fleet.agent("d2")
    impostor = device.model_copy(update={"public_key": _public(foreign)})
    with pytest.raises(Refused, match="did not sign"):
        receive(fleet.objects, impostor)


def test_a_device_that_has_the_package_already_does_not_fetch_it_again(fleet):
    reads = []
    agent = fleet.agent(opener=lambda uri: Counting(uri, reads))
    fleet.tell(fleet.package(1))
    agent.poll()
    reads.clear()
    status = agent.poll()
    assert status.state == "updated"
    assert not [key for key, _ in reads if "packages" in key or key.startswith("model")]


def test_a_device_waits_until_its_wave_is_open(fleet):
    agent = fleet.agent()
    descriptor = fleet.release(fleet.package(1))
    waves = (Wave(devices=("other",)), Wave(threshold=10_000))
    campaign = fleet.campaign(descriptor, waves=waves, open_waves=1)
    assert agent.poll().state == "waiting"
    assert agent.state.running is None
    fleet.repository.publish_campaign(campaign.model_copy(update={"open_waves": 2}))
    assert agent.poll().state == "updated"


def test_a_package_whose_golden_outputs_do_not_reproduce_is_rolled_back(fleet):
    agent = fleet.agent()
    good = fleet.tell(fleet.package(1))
    agent.poll()
    fleet.tell(fleet.package(2, broken_golden=True))
    status = agent.poll()
    assert status.state == "rolled_back"
    assert "golden inputs" in status.reason
    assert status.after.digest == good.package_digest
    assert agent.poll() == status


def test_a_package_that_is_too_slow_for_the_device_is_rolled_back(fleet):
    agent = fleet.agent()
    fleet.tell(fleet.package(1), budget=Budget(max_latency_ms=1e-6))
    status = agent.poll()
    assert status.state == "rolled_back"
    assert "1e-06 ms are allowed" in status.reason
    assert agent.state.active is None


def test_memory_is_measured_in_the_child_and_held_against_the_budget(fleet):
    package = fleet.package(1, payload_bytes=40 * CHUNK_BYTES)
    _parent_is_larger = b"x" * (200 * CHUNK_BYTES)
    taken = check_in_child(package, Budget())["memory_mb"]
    assert 40 < taken < 400
    with pytest.raises(Refused, match="20 MB are allowed"):
        check_in_child(package, Budget(max_memory_mb=20))


def test_a_campaign_that_takes_a_package_back_brings_the_other_slot_back(fleet):
    agent = fleet.agent()
    first = fleet.tell(fleet.package(1))
    agent.poll()
    second = fleet.tell(fleet.package(2))
    agent.poll()
    fleet.campaign(None, kind="rollback", leave=second.package_digest)
    status = agent.poll()
    assert (status.state, status.after.digest) == ("rolled_back", first.package_digest)
    assert agent.poll() == status


def test_going_back_to_the_previous_package_needs_no_download(fleet):
    reads = []
    agent = fleet.agent(opener=lambda uri: Counting(uri, reads))
    first = fleet.tell(fleet.package(1))
    agent.poll()
    fleet.tell(fleet.package(2))
    agent.poll()
    reads.clear()
    fleet.campaign(first, kind="rollback")
    assert agent.poll().after.digest == first.package_digest
    assert not [key for key, _ in reads if key.startswith(("model", "golden"))]


def test_resuming_asks_for_no_verified_chunk_again(fleet, tmp_path):
    descriptor = fleet.release(fleet.package(1, payload_bytes=5 * CHUNK_BYTES))
    uri = f"{fleet.objects.uri}/{descriptor.uri}"
    all_chunks = {(f.path, n * CHUNK_BYTES) for f in descriptor.files for n in range(len(f.chunks))}
    for cut in range(len(all_chunks)):
        target, reads = tmp_path / f"cut{cut}", []
        with pytest.raises(ConnectionError):
            fetch_package(Disk(), Counting(uri, reads, cut), descriptor, target)
        fetch_package(Disk(), Counting(uri, reads), descriptor, target)
        assert len(reads) == len(set(reads)) == len(all_chunks)


def test_a_wrong_chunk_is_refused_at_once_and_asked_for_again_later(fleet):
    agent = fleet.agent()
    descriptor = fleet.tell(fleet.package(1, payload_bytes=3 * CHUNK_BYTES))
    model = fleet.home / "repository" / descriptor.uri / "model" / "model.onnx"
    right = model.read_bytes()
    wrong = bytearray(right)
    wrong[CHUNK_BYTES + 5] ^= 1
    model.write_bytes(wrong)
    status = agent.poll()
    assert status.state == "refused"
    assert "chunk 1 of model/model.onnx" in status.reason
    part = fleet.settings().home / "download" / descriptor.package_digest / "model" / "model.onnx"
    assert part.stat().st_size == CHUNK_BYTES
    model.write_bytes(right)
    assert agent.poll().state == "updated"


def test_a_torn_chunk_on_the_disk_is_found_and_replaced(fleet, tmp_path):
    descriptor = fleet.release(fleet.package(1, payload_bytes=2 * CHUNK_BYTES))
    objects = open_objects(f"{fleet.objects.uri}/{descriptor.uri}")
    fetch_package(Disk(), objects, descriptor, tmp_path / "t")
    torn = tmp_path / "t" / "model" / "model.onnx"
    whole = torn.read_bytes()
    torn.write_bytes(whole[: CHUNK_BYTES + 10] + b"\0" * 20)
    fetch_package(Disk(), objects, descriptor, tmp_path / "t")
    assert torn.read_bytes() == whole


def test_two_agents_cannot_have_one_home(fleet):
    fleet.agent()
    with pytest.raises(BadParameters, match="another agent runs"):
        fleet.agent()


def test_a_model_that_kills_its_process_does_not_kill_the_agent(fleet, monkeypatch, tmp_path):
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    agent = fleet.agent(health=check_in_child)
    good = fleet.tell(fleet.package(1))
    assert agent.poll().numbers["difference"] < 1e-3
    fleet.tell(fleet.package(2))
    monkeypatch.setattr(sys, "executable", str(crashing))
    status = agent.poll()
    assert status.state == "rolled_back"
    assert "took its process down (exit -11)" in status.reason
    assert status.after.digest == good.package_digest


def test_the_device_imports_no_heavy_module():
    code = (
        "import sys, slimline.device.fleet, slimline.device.__main__;"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "slimline" in loaded
    assert not loaded & {"torch", "boto3", "botocore", "airflow", "mlflow", "onnx", "pandas"}


def test_the_program_polls_once_and_prints_its_report(fleet):
    fleet.tell(fleet.package(1))
    settings = fleet.settings("d7")
    command = [
        *(sys.executable, "-m", "slimline.device", "--once", "--enrol"),
        *("--home", settings.home, "--repository", fleet.uri, "--device-id", "d7"),
        *("--group", "gate", "--root", fleet.root, "--trusted", fleet.trusted),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["state"] == "updated"
    assert "d7" in enrolled(fleet.objects, "gate")


def _public(agent):
    return public_pem(agent.key())
