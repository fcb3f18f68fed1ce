"""What a device must not take it does not take: each with its reason, and nothing changed."""

from __future__ import annotations

import json
import shutil

import pytest
from support.fleet import copy_of, make_fleet
from tuf.api.metadata import Metadata

from slimline.contract import BadData, Refused, TryLater
from slimline.contract.artifact import FileEntry, digest_entries
from slimline.fleet.documents import Budget, Campaign, Wave
from slimline.fleet.fit import read_inventory
from slimline.fleet.keys import generate_fleet_keys
from slimline.fleet.reports import enrolled, open_report
from slimline.fleet.repository import Lifetimes, Repository
from slimline.trust.keys import generate_key


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _handle: None)
    return make_fleet(tmp_path)


@pytest.fixture
def agent(fleet):
    """A device that runs a first, good package of security version 1."""
    device = fleet.agent()
    fleet.tell(fleet.package(1))
    assert device.poll().state == "updated"
    return device


def _stays(agent, state, word):
    """One poll changes nothing but the report, which says `word`."""
    before, current = agent.state.running, _tree(agent)
    status = agent.poll()
    assert (status.state, word in status.reason) == (state, True), status.reason
    assert status.after == agent.state.running == before
    assert _tree(agent) == current
    assert agent.poll().state == state


def _tree(agent):
    current = (agent.settings.home / "current").resolve()
    return {p.name: p.read_bytes() for p in sorted(current.rglob("*")) if p.is_file()}


def test_a_flipped_byte_in_the_bucket(fleet, agent):
    descriptor = fleet.tell(fleet.package(2))
    model = fleet.home / "repository" / descriptor.uri / "model" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    _stays(agent, "refused", "chunk 0 of model/model.onnx is not what was signed")


def test_a_campaign_for_what_was_never_released(fleet, agent):
    known = fleet.release(fleet.package(2))
    fleet.campaign(known, release="releases/digits/never.json")
    _stays(agent, "refused", "which role releases does not")


def test_a_campaign_and_a_release_that_name_different_packages(fleet, agent):
    fleet.campaign(fleet.release(fleet.package(2)), package_digest="0" * 64)
    _stays(agent, "refused", "name different packages")


def test_a_release_without_a_campaign_is_not_taken(fleet, agent):
    fleet.release(fleet.package(2))
    _stays(agent, "updated", "")


def test_a_campaign_for_another_group(fleet, agent):
    second = fleet.release(fleet.package(2))
    fleet.campaign(second, group="door")
    _stays(agent, "updated", "")
    campaign = _campaign(second, group="door")
    _publish_as(fleet, "campaigns/gate", "campaigns/gate.json", campaign)
    _stays(agent, "refused", "is for group door, this device is in gate")


def test_a_downgrade_below_what_was_committed(fleet):
    agent = fleet.agent()
    fleet.tell(fleet.package(1, security_version=3))
    agent.poll()
    fleet.tell(fleet.package(2, security_version=2))
    _stays(agent, "refused", "is a downgrade: its security version is 2, this device has had 3")


def test_the_floor_does_not_rise_before_commit(fleet, agent):
    fleet.tell(fleet.package(2, security_version=9, broken_golden=True))
    assert agent.poll().state == "rolled_back"
    assert agent.state.security_floor == 1
    third = fleet.tell(fleet.package(3))
    assert agent.poll().after.digest == third.package_digest


def test_a_package_for_another_architecture(fleet, agent):
    fleet.tell(fleet.package(2, requires={"arch": ["riscv64"]}))
    _stays(agent, "refused", "requires arch riscv64")


def test_a_package_that_needs_a_newer_runtime_or_more_memory(fleet, agent):
    fleet.tell(fleet.package(2, requires={"onnxruntime": ">=99"}))
    _stays(agent, "refused", "requires onnxruntime >=99")
    fleet.tell(fleet.package(3, requires={"memory_mb": 1e12}))
    _stays(agent, "refused", "requires memory_mb")


def test_a_full_disk_is_waited_for_and_nothing_is_lost(fleet, agent, monkeypatch):
    second = fleet.tell(fleet.package(2))
    usage = shutil.disk_usage(fleet.home)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: usage._replace(free=1000))
        _stays(agent, "waiting", "1000 bytes free")
    assert agent.poll().after.digest == second.package_digest


def test_metadata_that_has_expired(fleet, agent):
    second = fleet.release(fleet.package(2))
    short = Repository(fleet.objects, fleet.keys, Lifetimes(timestamp=-1))
    short.publish_campaign(_campaign(second))
    _stays(agent, "refused", "it has expired")
    fleet.repository.refresh()
    assert agent.poll().after.digest == second.package_digest


def test_old_metadata_that_is_shown_again(fleet, agent):
    repository = fleet.home / "repository"
    old = copy_of(repository / "tuf", fleet.home / "old")
    second = fleet.tell(fleet.package(2))
    assert agent.poll().after.digest == second.package_digest
    shutil.rmtree(repository / "tuf")
    copy_of(old, repository / "tuf")
    _stays(agent, "refused", "older than what was seen before")


def test_a_repository_that_somebody_else_made(fleet, agent):
    shutil.rmtree(fleet.home / "repository" / "tuf")
    foreign = Repository(fleet.objects, generate_fleet_keys())
    foreign.create(("gate", "door"))
    _stays(agent, "refused", "not signed by whom it should be")


def test_a_campaign_key_cannot_release(fleet, agent):
    stolen = {**fleet.keys, "releases": fleet.keys["campaigns"]}
    second = fleet.package(2)
    published = fleet.release(second).model_copy(update={"version": "stolen"})
    role = next(k for k in sorted(fleet.objects.keys("tuf/metadata/"))[::-1] if "releases" in k)
    metadata = json.loads(fleet.objects.get(role))
    assert metadata["signatures"]
    thief = Repository(fleet.objects, stolen)
    thief._role = lambda name, snapshot: _unchecked(fleet, name, snapshot)
    thief.publish_release(published)
    _stays(agent, "refused", "not signed by whom it should be")


def test_a_changed_campaign_in_the_bucket(fleet, agent):
    fleet.tell(fleet.package(2))
    campaigns = fleet.home / "repository" / "tuf" / "targets" / "campaigns"
    for path in campaigns.iterdir():
        path.write_bytes(path.read_bytes().replace(b'"tries": 3', b'"tries": 9'))
    _stays(agent, "refused", "its bytes are not those that were signed")


def test_endless_metadata_is_cut_off(fleet, agent):
    path = fleet.home / "repository" / "tuf" / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes() + b" " * 100_000)
    _stays(agent, "refused", "the fleet's metadata is refused")


def test_a_repository_that_is_away_is_for_later(fleet, agent):
    before = agent.state
    (fleet.home / "repository").rename(fleet.home / "away")
    with pytest.raises(TryLater):
        agent.poll()
    assert agent.state.running == before.running
    (fleet.home / "away").rename(fleet.home / "repository")
    assert agent.poll().state == "updated"


def test_a_package_that_was_refused_is_not_fetched_again_and_again(fleet, agent):
    descriptor = fleet.tell(fleet.package(2, private_pem=generate_key()[0]))
    agent.poll()
    assert agent.state.given_up
    stamp = fleet.home / "repository" / "tuf" / "metadata" / "timestamp.json"
    good = stamp.read_bytes()
    stamp.write_bytes(b"{}")
    assert "malformed" in agent.poll().reason
    stamp.write_bytes(good)
    shutil.rmtree(fleet.home / "repository" / descriptor.uri)
    assert "sign" in agent.poll().reason


def test_this_machine_has_an_inventory():
    found = read_inventory()
    assert found.memory_mb > 100
    assert found.onnxruntime.startswith("1.")


def _campaign(descriptor, **changes):
    return Campaign(
        **{
            "id": "forged",
            "group": "gate",
            "kind": "update",
            "release": descriptor.target,
            "package_digest": descriptor.package_digest,
            "salt": "s",
            "waves": (Wave(threshold=10_000),),
            "open_waves": 1,
            "failure_threshold": 0.0,
            "budget": Budget(),
            **changes,
        }
    )


def _publish_as(fleet, role, path, document):
    fleet.repository._publish(role, path, document.model_dump_json(indent=1).encode())


def _unchecked(fleet, name, snapshot):
    """Read a role as a thief does, who cannot check it with a key he lacks."""
    version = snapshot.signed.meta[f"{name}.json"].version
    return Metadata.from_bytes(fleet.objects.get(f"tuf/metadata/{version}.{name}.json"))


@pytest.mark.parametrize(
    "wanted", [{"opset": "new"}, {"opset": None, "memory_mb": []}, {"arch": 3}, {"memory_mb": "x"}]
)
def test_a_requirement_that_cannot_be_read_is_a_misfit_and_no_crash(fleet, wanted):
    agent = fleet.agent()
    fleet.campaign(fleet.release(fleet.package(1), requires=wanted))

    status = agent.poll()

    assert status.state == "refused"
    assert "does not fit this device" in status.reason


def test_a_release_whose_files_lead_out_of_its_directory_is_refused_and_no_crash(fleet):
    agent = fleet.agent()
    descriptor = fleet.release(fleet.package(1))
    outside = descriptor.files[0].model_copy(update={"path": "../../outside.json"})
    files = (outside, *descriptor.files[1:])
    listed = tuple(FileEntry(path=f.path, sha256=f.sha256, size=f.size) for f in files)
    forged = descriptor.model_copy(
        update={"version": "2", "files": files, "package_digest": digest_entries(listed)}
    )
    fleet.repository.publish_release(forged)
    fleet.campaign(forged)

    status = agent.poll()

    assert status.state == "refused"
    assert "outside.json" in status.reason
    assert not list(fleet.home.rglob("outside.json"))


def test_a_damaged_slot_does_not_lead_back_to_a_downgrade(fleet):
    agent = fleet.agent()
    for version in (1, 2):
        fleet.tell(fleet.package(version, security_version=version))
        agent.poll()
    agent.close()
    (fleet.settings().home / "current" / "card.md").write_text("damaged")

    again = fleet.agent()

    assert again.state.running is None
    assert again.state.security_floor == 2


@pytest.mark.parametrize("data", [b"[" * 100_000, b"[]", b'{"payload": 1, "signatures": 5}'])
def test_a_report_that_is_no_report_is_refused(fleet, data):
    fleet.agent()
    device = enrolled(fleet.objects, "gate")["d1"]

    with pytest.raises(Refused, match="report of d1"):
        open_report(data, device)


def test_a_document_that_describes_no_device_is_named(fleet):
    fleet.objects.put("devices/odd.json", b"{}")

    with pytest.raises(BadData, match=r"devices/odd\.json describes no device"):
        enrolled(fleet.objects, "gate")
