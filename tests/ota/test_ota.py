"""A campaign goes wave by wave over real agents, and comes back when devices fail."""

from __future__ import annotations

import json
import threading

import pytest
from support.fleet import GROUP, make_fleet

from slimline.contract import BadData, BadParameters, Package, Refused
from slimline.device.health import check
from slimline.ota.spec import Ota


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _handle: None)  # waves are looked at here, not disks
    made = make_fleet(tmp_path)
    _environment(made, monkeypatch)
    return made


def _environment(fleet, monkeypatch):
    monkeypatch.setenv("SLIMLINE_SECRET_TUF", json.dumps(_online(fleet.keys)))
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(fleet.trusted))


def _online(keys):
    return {role: pem for role, pem in keys.items() if role not in ("root", "targets")}


class Devices:
    """Agents that poll in a thread, as their own processes would."""

    def __init__(self, fleet, names, health=None, sleeping=(), pause=0.01):
        self._pause = pause
        self.agents = {n: fleet.agent(n, health=self._health(n, health)) for n in names}
        self.sleeping = set(sleeping)
        self.log = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _health(self, name, health):
        def prove(package, budget):
            if health is not None:
                health(name, package)
            return check(package, budget)

        return prove

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def round(self):
        for name, agent in self.agents.items():
            if name not in self.sleeping:
                self.log.append(agent.poll())

    def _run(self):
        while not self._stop.wait(self._pause):
            self.round()

    def versions(self):
        return {n: a.state.running and a.state.running.version for n, a in self.agents.items()}


NAMES = [f"d{n}" for n in range(1, 6)]


def _ota(fleet, package, previous=None, **changes):
    job = Ota(
        **{
            "package": Package.at(package),
            "previous": Package.at(previous) if previous else None,
            "repository": fleet.uri,
            "group": GROUP,
            "canaries": 1,
            "waves": (50, 100),
            "wave_timeout_seconds": 30,
            "poll_seconds": 0.02,
            **changes,
        }
    )
    outcome = job.run(work_dir=fleet.home / f"work{len(list(fleet.home.iterdir()))}")
    receipt = json.loads((outcome["receipt"].path / "receipt.json").read_text())
    return outcome.manifest.numbers, {row["device"]: row for row in receipt["devices"]}


def test_all_devices_get_the_package_and_the_canary_first(fleet):
    with Devices(fleet, NAMES) as devices:
        numbers, rows = _ota(fleet, fleet.package(1))
    assert numbers["passed"]
    assert (numbers["devices"], numbers["updated"], numbers["failed"]) == (5, 5, 0)
    assert set(devices.versions().values()) == {numbers["version"]}
    order = [status.device for status in devices.log if status.state == "updated"]
    waves = [rows[device]["wave"] for device in dict.fromkeys(order)]
    assert waves == sorted(waves)
    assert waves.count(1) == 1
    assert all(row["before"] == "" and row["numbers"]["latency_ms"] > 0 for row in rows.values())


def test_a_later_wave_opens_only_after_reports_of_the_one_before(fleet):
    first = fleet.package(1)
    devices = Devices(fleet, NAMES)
    numbers, rows = _ota(fleet, first, wave_timeout_seconds=0.2)
    assert not numbers["passed"]
    assert "wave 1: 0 of 1 devices reported" in numbers["reasons"][0]
    devices.round()
    assert set(devices.versions().values()) == {None}
    assert {row["state"] for row in rows.values()} == {"silent", "unchanged"}


def test_a_release_that_fails_on_the_canary_goes_no_further(fleet):
    good, bad = fleet.package(1), fleet.package(2, broken_golden=True)
    with Devices(fleet, NAMES) as devices:
        _ota(fleet, good)
        before = devices.versions()
        devices.log.clear()
        numbers, rows = _ota(fleet, bad, good)
    assert not numbers["passed"]
    assert "golden inputs" in numbers["reasons"][0]
    assert devices.versions() == before
    assert (numbers["failed"], numbers["rolled_back"], numbers["updated"]) == (1, 1, 0)
    tried = {status.device for status in devices.log if status.state == "rolled_back"}
    assert tried == {name for name, row in rows.items() if row["wave"] == 1}
    assert all(row["before"] == row["after"] for row in rows.values())


def test_a_budget_that_devices_cannot_meet_is_found_on_the_canary(fleet):
    good, slow = fleet.package(1), fleet.package(2)
    with Devices(fleet, NAMES) as devices:
        _ota(fleet, good)
        before = devices.versions()
        numbers, _ = _ota(fleet, slow, good, max_latency_ms=1e-6)
    assert not numbers["passed"]
    assert "ms are allowed" in numbers["reasons"][0]
    assert devices.versions() == before


def _fails_late(bad):
    """Health that fails on two devices which are not canaries, for one package."""

    def health(name, package):
        if bad in (package / "manifest.json").read_text() and len(took) >= 2:
            message = "the camera went dark"
            raise Refused(message)
        if bad in (package / "manifest.json").read_text():
            took.add(name)

    took = set()
    return health, took


def test_a_failure_in_a_later_wave_takes_the_package_back_from_all_who_took_it(fleet):
    good, bad = fleet.package(1), fleet.package(2, version="bad-one")
    health, took = _fails_late("bad-one")
    with Devices(fleet, NAMES, health) as devices:
        _ota(fleet, good)
        before = devices.versions()
        numbers, rows = _ota(fleet, bad, good)
    assert not numbers["passed"]
    assert "camera went dark" in numbers["reasons"][0]
    assert len(took) == 2
    assert devices.versions() == before
    assert all(rows[name]["state"] == "rolled_back" for name in took)
    assert numbers["rolled_back"] >= 3
    assert fleet.repository.campaign(GROUP).kind == "rollback"


def test_the_way_back_has_no_budget_that_the_previous_package_could_miss(fleet):
    good, slow = fleet.package(1), fleet.package(2)
    with Devices(fleet, NAMES):
        _ota(fleet, good)
        _ota(fleet, slow, good, max_latency_ms=1e-6, tries=2)
    back = fleet.repository.campaign(GROUP)
    assert (back.kind, back.budget.max_latency_ms, back.budget.tries) == ("rollback", None, 2)


def test_without_a_previous_package_devices_go_back_to_their_other_slot(fleet):
    good, bad = fleet.package(1), fleet.package(2, version="bad-one")
    health, took = _fails_late("bad-one")
    with Devices(fleet, NAMES, health) as devices:
        _ota(fleet, good)
        before = devices.versions()
        numbers, _ = _ota(fleet, bad)
    assert len(took) == 2
    assert not numbers["passed"]
    assert devices.versions() == before


def test_some_failures_are_borne_when_the_threshold_says_so(fleet):
    bad = fleet.package(2, version="bad-one")

    def health(name, _package):
        if name == "d3":
            message = "d3 is old"
            raise Refused(message)

    with Devices(fleet, NAMES, health) as devices:
        numbers, rows = _ota(fleet, bad, canaries=0, waves=(100,), failure_threshold=0.3)
    assert numbers["passed"]
    assert (numbers["updated"], numbers["failed"]) == (4, 1)
    assert rows["d3"]["reason"] == "d3 is old"
    assert devices.versions()["d3"] is None


def test_a_device_that_was_offline_catches_up(fleet):
    package = fleet.package(1)
    with Devices(fleet, NAMES, sleeping={"d2"}) as devices:
        numbers, rows = _ota(fleet, package, canaries=0, waves=(100,), min_reports=0.8)
    assert numbers["passed"]
    assert (numbers["updated"], numbers["silent"]) == (4, 1)
    assert rows["d2"]["state"] == "silent"
    devices.sleeping.clear()
    devices.round()
    assert set(devices.versions().values()) == {numbers["version"]}


def test_a_package_that_all_devices_run_is_done_at_once(fleet):
    package = fleet.package(1)
    with Devices(fleet, NAMES):
        _ota(fleet, package)
    stamp = fleet.objects.get("tuf/metadata/timestamp.json")
    numbers, rows = _ota(fleet, package, wave_timeout_seconds=0.1)
    assert numbers["passed"]
    assert (numbers["unchanged"], numbers["updated"]) == (5, 0)
    assert {row["state"] for row in rows.values()} == {"unchanged"}
    assert fleet.objects.get("tuf/metadata/timestamp.json") == stamp


def test_a_campaign_that_was_killed_is_taken_up_where_it_was(fleet, monkeypatch):
    package = fleet.package(1)

    def killed(_seconds):
        raise KeyboardInterrupt

    devices = Devices(fleet, NAMES)
    with monkeypatch.context() as patch:
        patch.setattr("slimline.ota.rollout.time.sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            _ota(fleet, package)
    begun = fleet.repository.campaign(GROUP)
    assert begun.open_waves == 1
    devices.round()
    with devices:
        numbers, _ = _ota(fleet, package)
    assert numbers["passed"]
    assert fleet.repository.campaign(GROUP).id == begun.id


def test_a_forged_report_does_not_count(fleet):
    package = fleet.package(1)
    devices = Devices(fleet, ["d1"])
    with devices:
        _ota(fleet, package, canaries=0, waves=(100,))
    key = f"status/{GROUP}/d1.json"
    envelope = json.loads(fleet.objects.get(key))
    envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"][::-1]
    fleet.objects.put(key, json.dumps(envelope).encode())
    numbers, rows = _ota(fleet, package, canaries=0, waves=(100,), wave_timeout_seconds=0.1)
    assert not numbers["passed"]
    assert rows["d1"]["state"] == "silent"


def test_a_package_that_does_not_verify_is_not_released(fleet):
    package = fleet.package(1)
    (package / "card.md").write_text("# changed\n")
    Devices(fleet, ["d1"])
    with pytest.raises(Refused):
        _ota(fleet, package)
    assert fleet.repository.campaign(GROUP) is None
    assert not list(fleet.objects.keys("tuf/targets/releases"))


def test_a_way_back_that_devices_would_refuse_is_refused_before_anything_is_told(fleet):
    Devices(fleet, ["d1"])
    with pytest.raises(Refused, match="refuse to go back"):
        _ota(fleet, fleet.package(2, security_version=2), fleet.package(1))
    assert fleet.repository.campaign(GROUP) is None


def test_a_group_without_devices_is_an_error_with_its_cure(fleet):
    with pytest.raises(BadData, match="enrol one first"):
        _ota(fleet, fleet.package(1))


def test_waves_must_increase():
    with pytest.raises(BadParameters, match="increase"):
        Ota.parse(
            {
                "package": {"uri": "file:///x", "digest": "0" * 64},
                "repository": "fleet",
                "waves": (50, 30),
            }
        )


def test_five_devices_are_updated_through_a_real_s3_server(s3, tmp_path, monkeypatch):
    fleet = make_fleet(tmp_path, uri=s3.new_prefix())
    _environment(fleet, monkeypatch)
    with Devices(fleet, NAMES, pause=0.2) as devices:
        numbers, rows = _ota(fleet, fleet.package(1), poll_seconds=0.2, waves=(100,))
    assert numbers["passed"]
    assert set(devices.versions().values()) == {numbers["version"]}
    assert all(row["state"] == "updated" for row in rows.values())
