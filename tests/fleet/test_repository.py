"""What is published is signed, whole and in order; what is not ours is not signed again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.fleet import GROUP, make_fleet

from slimline.contract import BadData, BadParameters, TryLater
from slimline.fleet.keys import generate_fleet_keys, parse_fleet_keys
from slimline.fleet.objects import open_objects
from slimline.fleet.repository import Lifetimes, Repository


@pytest.fixture
def fleet(tmp_path):
    return make_fleet(tmp_path)


def _signed(fleet, key):
    return json.loads(fleet.objects.get(f"tuf/metadata/{key}"))["signed"]


def test_a_repository_is_made_once(fleet):
    with pytest.raises(BadData, match="holds a fleet repository already"):
        fleet.repository.create((GROUP,))


def test_each_role_has_its_own_key_and_releases_and_campaigns_their_own_paths(fleet):
    root = json.loads(fleet.root.read_text())["signed"]
    assert root["consistent_snapshot"]
    assert len({tuple(role["keyids"]) for role in root["roles"].values()}) == 4
    targets = next(k for k in fleet.objects.keys("tuf/metadata/") if k.endswith(".targets.json"))
    roles = _signed(fleet, targets.rsplit("/", 1)[-1])["delegations"]["roles"]
    paths = {role["name"]: role["paths"] for role in roles}
    assert paths == {
        "releases": ["releases/*/*.json"],
        "campaigns/gate": ["campaigns/gate.json"],
        "campaigns/door": ["campaigns/door.json"],
    }


def test_a_publication_is_written_target_role_snapshot_timestamp(fleet):
    written = []
    repository = fleet.repository
    put = repository.objects.put

    def remember(key, data, **options):
        written.append(key.rsplit("/", 1)[-1].split(".", 1)[1])
        return put(key, data, **options)

    repository.objects.put = remember
    descriptor = fleet.release(fleet.package(1))
    written.clear()
    changed = descriptor.model_copy(update={"version": "other"})
    repository.publish_release(changed)
    assert written == ["other.json", "releases.json", "snapshot.json", "json"]


def test_the_same_word_again_changes_nothing(fleet):
    descriptor = fleet.release(fleet.package(1))
    stamp = fleet.objects.get("tuf/metadata/timestamp.json")
    assert not fleet.repository.publish_release(descriptor)
    assert fleet.objects.get("tuf/metadata/timestamp.json") == stamp
    assert fleet.repository.release(descriptor.name, descriptor.version) == descriptor


def test_a_publisher_that_was_killed_half_way_harms_nobody(fleet):
    package = fleet.package(1)

    class Killed(BaseException):
        pass

    for survive in range(4):
        repository = fleet.repository
        put, left = repository.objects.put, [survive]

        def dying(key, data, put=put, left=left, **options):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return put(key, data, **options)

        descriptor = fleet.release(package)
        repository.objects.put = dying
        with pytest.raises(Killed):
            repository.publish_release(descriptor.model_copy(update={"version": f"v{survive}"}))
        agent = fleet.agent(f"d{survive}")
        assert agent.poll().state == "idle"
    assert fleet.repository.publish_release(descriptor.model_copy(update={"version": "v3"}))


def test_refreshing_moves_the_expiry(fleet):
    before = _signed(fleet, "timestamp.json")
    fleet.repository.refresh()
    after = _signed(fleet, "timestamp.json")
    assert after["version"] == before["version"] + 1
    assert datetime.fromisoformat(after["expires"]) > datetime.now(UTC) + timedelta(days=6)


def test_a_refresh_signs_what_is_past_half_of_its_time_and_leaves_its_words_alone(fleet):
    fleet.campaign(fleet.release(fleet.package(1)))
    told = fleet.repository.campaign(GROUP)
    ends = fleet.repository.refresh()
    month = datetime.now(UTC) + timedelta(days=29)
    assert ends["campaigns/gate"] > month
    names = list(fleet.objects.keys("tuf/metadata/"))
    soon = Lifetimes(releases=1000, campaigns=61)
    longer = Repository(fleet.objects, fleet.keys, soon).refresh()
    assert longer["campaigns/gate"] > month + timedelta(days=30)
    assert longer["releases"] > ends["releases"] + timedelta(days=600)
    assert longer["targets"] == ends["targets"]
    new = {n.split(".", 1)[1] for n in set(fleet.objects.keys("tuf/metadata/")) - set(names)}
    assert new == {
        *("campaigns%2Fdoor.json", "campaigns%2Fgate.json", "releases.json", "snapshot.json")
    }
    assert fleet.repository.campaign(GROUP) == told


def test_a_refresh_leaves_a_role_whose_key_lies_elsewhere(fleet):
    keys = {role: fleet.keys[role] for role in ("snapshot", "timestamp")}
    assert Repository(fleet.objects, keys).refresh().keys() == {"snapshot", "timestamp"}


def test_what_another_publisher_said_meanwhile_is_not_taken_back(fleet):
    descriptor = fleet.release(fleet.package(1))
    ours, put = fleet.repository, []

    def overtaken(key, data, **options):
        if key.endswith("snapshot.json") and not put:
            put.append(fleet.campaign(descriptor))
        return open_objects(fleet.uri).put(key, data, **options)

    ours.objects.put = overtaken
    with pytest.raises(TryLater, match="another publisher"):
        ours.refresh()
    assert fleet.repository.campaign(GROUP) == put[0]


def test_metadata_that_somebody_else_wrote_is_not_signed_again(fleet):
    key = "tuf/metadata/timestamp.json"
    forged = json.loads(fleet.objects.get(key))
    forged["signed"]["version"] = 99
    fleet.objects.put(key, json.dumps(forged).encode())
    with pytest.raises(BadData, match="not signed with the key at hand"):
        fleet.repository.refresh()


def test_one_group_s_campaigns_cannot_be_put_in_place_of_another_s(fleet):
    fleet.campaign(fleet.release(fleet.package(1)))
    names = [k for k in fleet.objects.keys("tuf/metadata/") if "campaigns" in k]
    gate = max(n for n in names if n.endswith("gate.json"))
    door = max(n for n in names if n.endswith("door.json"))
    fleet.objects.put(door, fleet.objects.get(gate))
    with pytest.raises(BadData, match="refusing to go on"):
        fleet.repository.campaign("door")


def test_two_publishers_at_once_are_told(fleet):
    repository = fleet.repository
    put = repository.objects.put

    def overtaken(key, data, **options):
        done = put(key, data, **options)
        if key.endswith("timestamp.json"):
            put(key, b"another's")
        return done

    repository.objects.put = overtaken
    with pytest.raises(TryLater, match="another publisher"):
        repository.refresh()


def test_a_key_that_is_not_at_hand_is_named(fleet):
    keys = {"timestamp": fleet.keys["timestamp"]}
    with pytest.raises(BadParameters, match="no key for role 'snapshot'"):
        Repository(fleet.objects, keys).refresh()


def test_a_foreign_key_signs_nothing(fleet):
    with pytest.raises(BadData, match="not signed with the key at hand"):
        Repository(fleet.objects, generate_fleet_keys()).refresh()


def test_an_unknown_group_is_told_with_those_there_are(fleet):
    with pytest.raises(BadData, match="campaigns/door, campaigns/gate"):
        fleet.repository.campaign("attic")


def test_no_repository_is_told(tmp_path):
    empty = Repository(open_objects(str(tmp_path)), generate_fleet_keys())
    with pytest.raises(BadData, match="holds no fleet repository"):
        empty.campaign("gate")


@pytest.mark.parametrize("text", ["", "[]", '{"rooot": "x"}', "-----BEGIN PRIVATE KEY-----"])
def test_a_malformed_secret_is_not_quoted(text):
    with pytest.raises(BadParameters, match="secret tuf: must be JSON") as caught:
        parse_fleet_keys(text)
    assert "BEGIN" not in str(caught.value)
