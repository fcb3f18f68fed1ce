"""A device that loses power at any step of an update is the old or the new one, whole."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
from support.fleet import copy_of, make_fleet

from slimline.device.agent import Agent
from slimline.device.disk import Disk
from slimline.device.health import check
from slimline.fleet.fit import read_inventory


class PowerCutError(BaseException):
    """The lights went out."""


class Saw:
    """Cuts the power before the n-th step; what was written and not synced is half lost."""

    def __init__(self, at=0):
        self.at, self.steps = at, 0

    def __call__(self, step, path):
        self.steps += 1
        if self.steps != self.at:
            return
        if step == "fsync" and path.is_file():
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
        raise PowerCutError


@pytest.fixture
def updating(tmp_path):
    """A device with both slots full, running `first` while its fleet is told to run `second`."""
    fleet = make_fleet(tmp_path)
    agent = fleet.agent()
    fleet.tell(fleet.package(0))
    agent.poll()
    first = fleet.tell(fleet.package(1))
    agent.poll()
    agent.close()
    second = fleet.tell(fleet.package(2))
    return fleet, first, second


def _device(fleet, saw=None):
    return Agent(
        fleet.settings(), disk=Disk(saw), health=check, inventory=read_inventory()
    )


def _whole(agent):
    state = agent.state
    return state.running and agent._slots.is_whole(state.active, state.running)


def test_a_power_cut_before_every_single_step_leaves_the_old_or_the_new_version(
    updating, monkeypatch
):
    monkeypatch.setattr("os.fsync", lambda _handle: None)  # the saw decides what is lost
    fleet, first, second = updating
    home = fleet.settings().home
    spare = copy_of(home, fleet.home / "spare")
    saw = Saw()
    agent = _device(fleet, saw)
    agent.start()
    agent.poll()
    agent.close()
    assert saw.steps > 100
    for cut in range(1, saw.steps + 1):
        shutil.rmtree(home)
        copy_of(spare, home)
        sawn = _device(fleet, Saw(cut))
        with pytest.raises(PowerCutError):
            _live(sawn)
        sawn.close()
        agent = _device(fleet)
        agent.start()
        assert _whole(agent), cut
        running = agent.state.running.digest
        assert running in {first.package_digest, second.package_digest}, cut
        status = agent.poll()
        assert (status.state, status.after.digest) == ("updated", second.package_digest), cut
        assert _whole(agent), cut
        agent.close()


def test_a_killed_process_leaves_the_old_or_the_new_version(updating):
    fleet, first, second = updating
    code = """
import os, signal, sys
from pathlib import Path
from slimline.device.agent import Agent, Settings
from slimline.device.disk import Disk
steps = 0
def saw(step, path):
    global steps
    steps += 1
    if steps == int(sys.argv[6]):
        os.kill(os.getpid(), signal.SIGKILL)
home, repository, device, root, trusted = sys.argv[1:6]
settings = Settings(Path(home), repository, device, "gate", Path(root), Path(trusted))
agent = Agent(settings, disk=Disk(saw))
agent.start()
agent.poll()
"""
    settings = fleet.settings()
    given = [settings.home, fleet.uri, "d1", fleet.root, fleet.trusted]
    spare = copy_of(settings.home, fleet.home / "spare")
    for step in (15, 60, 85, 105):
        shutil.rmtree(settings.home)
        copy_of(spare, settings.home)
        done = subprocess.run([sys.executable, "-c", code, *given, str(step)], check=False)
        assert done.returncode == -signal.SIGKILL
        agent = _device(fleet)
        agent.start()
        assert _whole(agent)
        assert agent.state.running.digest in {first.package_digest, second.package_digest}
        agent.close()
    agent = _device(fleet)
    agent.start()
    agent.poll()
    assert agent.state.running.digest == second.package_digest


def test_a_trial_that_is_cut_again_and_again_is_given_up(updating):
    fleet, first, _ = updating

    def dies(_package, _budget):
        raise PowerCutError

    for _ in range(3):
        agent = Agent(fleet.settings(), health=dies, inventory=read_inventory())
        with pytest.raises(PowerCutError):
            _live(agent)
        agent.close()
    agent = _device(fleet)
    agent.start()
    status = agent.poll()
    assert (status.state, status.after.digest) == ("rolled_back", first.package_digest)
    assert "interrupted 3 times" in status.reason


def test_restarts_without_a_pending_trial_count_nothing(updating):
    fleet, _, second = updating
    for _ in range(5):
        agent = _device(fleet)
        agent.start()
        agent.close()
    agent = _device(fleet)
    agent.start()
    assert agent.poll().after.digest == second.package_digest


@pytest.mark.parametrize("damage", ["missing", "torn", "edited", "nonsense"])
def test_a_device_with_a_damaged_record_comes_up_from_its_slots(updating, damage):
    fleet, first, second = updating
    record = fleet.settings().home / "state.json"
    if damage == "missing":
        record.unlink()
    elif damage == "torn":
        record.write_bytes(record.read_bytes()[:50])
    elif damage == "edited":
        kept = json.loads(record.read_text())
        kept["record"]["security_floor"] = 0
        record.write_text(json.dumps(kept))
    else:
        record.write_bytes(b"\0" * 300)
    agent = _device(fleet)
    agent.start()
    assert agent.state.running.digest == first.package_digest
    assert agent.state.security_floor == 1
    assert agent.poll().after.digest == second.package_digest


def test_a_damaged_active_slot_gives_way_to_the_other(updating):
    fleet, first, second = updating
    agent = _device(fleet)
    agent.start()
    agent.poll()
    agent.close()
    model = fleet.settings().home / "current" / "model" / "model.onnx"
    broken = bytearray(model.read_bytes())
    broken[100] ^= 1
    model.write_bytes(broken)
    agent = _device(fleet)
    agent.start()
    assert agent.state.running.digest == first.package_digest
    assert _whole(agent)
    assert agent.poll().after.digest == second.package_digest


def test_a_damaged_record_and_a_damaged_slot_leave_the_other_slot(updating):
    fleet, first, _ = updating
    agent = _device(fleet)
    agent.start()
    agent.poll()
    agent.close()
    home = fleet.settings().home
    (home / "current" / "golden.npz").unlink()
    (home / "state.json").write_text("{")
    agent = _device(fleet)
    agent.start()
    assert agent.state.running.digest == first.package_digest


def _live(agent):
    agent.start()
    agent.poll()
