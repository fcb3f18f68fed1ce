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
from slimline.fleet.fit import read_inventory


class PowerCutError(BaseException):
    """The lights went out."""


class Saw:
    """Cuts the power before the n-th step, as a POSIX disk may take it at its worst.

    Of a file that was written and not yet synced, half is lost. With `lose_names`, a rename is
    undone too unless its directory was synced.
    """

    def __init__(self, at=0, *, lose_names=False):
        self.at, self.steps, self.lose_names = at, 0, lose_names
        self._unsynced, self._renamed, self._syncing = set(), {}, None
        self.with_loose_names = []

    def __call__(self, step, path):
        self.steps += 1
        self._finish_sync()
        if self._renamed:
            self.with_loose_names.append(self.steps)
        if self.steps == self.at:
            self._lose()
            raise PowerCutError
        if step in ("write", "append"):
            self._unsynced.add(path)
        elif step == "fsync":
            self._syncing = path
        elif step == "rename" and not path.is_dir() and path.suffix:
            self._renamed[path] = path.read_bytes() if path.is_file() else None
            self._unsynced |= {path for f in self._unsynced if f.name == f".{path.name}.new"}

    def _finish_sync(self):
        done, self._syncing = self._syncing, None
        self._unsynced.discard(done)
        for path in [p for p in self._renamed if p.parent == done]:
            del self._renamed[path]

    def _lose(self):
        for path in self._unsynced:
            if path.is_file():
                with path.open("r+b") as file:
                    file.truncate(path.stat().st_size // 2)
        for path, before in self._renamed.items() if self.lose_names else ():
            path.unlink(missing_ok=True) if before is None else path.write_bytes(before)


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


def _device(fleet, disk=None):
    return Agent(fleet.settings(), disk=disk, health=_well, inventory=read_inventory())


def _well(_package, _budget):
    """Disks are looked at here, not models."""
    return {}


def _whole(agent):
    state = agent.state
    return state.running and agent._slots.is_whole(state.active, state.running)


def _sweep(fleet, first, second, make_disk, *, lose_names):
    """Cut an update at every step; yields the steps after which the device was not whole."""
    home = fleet.settings().home
    spare = copy_of(home, fleet.home / f"spare{lose_names}")
    saw = Saw()
    _live(_device(fleet, make_disk(saw)))
    assert saw.steps > 80
    cuts = saw.with_loose_names if lose_names else range(1, saw.steps + 1)
    for cut in reversed(cuts):
        shutil.rmtree(home)
        copy_of(spare, home)
        sawn = _device(fleet, make_disk(Saw(cut, lose_names=lose_names)))
        with pytest.raises(PowerCutError):
            _live(sawn)
        agent = _device(fleet)
        agent.start()
        running = agent.state.running
        old_or_new = running and running.digest in {first.package_digest, second.package_digest}
        recovered = agent.state.last is None  # the record was lost: only the slots spoke
        status = agent.poll()
        arrived = (status.state, status.after.digest) == ("updated", second.package_digest)
        if not (old_or_new and arrived and _whole(agent)) or recovered:
            yield cut
        agent.close()


@pytest.mark.parametrize("lose_names", [False, True])
def test_a_power_cut_before_every_single_step_leaves_the_old_or_the_new_version(
    updating, monkeypatch, lose_names
):
    monkeypatch.setattr("os.fsync", lambda _handle: None)  # the saw decides what is lost
    fleet, first, second = updating
    assert list(_sweep(fleet, first, second, Disk, lose_names=lose_names)) == []


class Careless(Disk):
    """A disk discipline without fsync, as most programs have it."""

    def replace(self, path, data, mode=0o644):
        beside = path.with_name(f".{path.name}.new")
        self._step("write", beside)
        beside.write_bytes(data)
        beside.chmod(mode)
        self._step("rename", path)
        beside.replace(path)


def test_the_same_cuts_find_a_disk_discipline_without_fsync(updating, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _handle: None)
    fleet, first, second = updating
    assert next(_sweep(fleet, first, second, Careless, lose_names=False))


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
    try:
        agent.start()
        agent.poll()
    finally:
        agent.close()
