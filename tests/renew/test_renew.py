"""A fleet that nobody publishes to stays alive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.fleet import GROUP, make_fleet

from slimline.contract import BadData, load_component
from slimline.renew.spec import Renew


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    made = make_fleet(tmp_path)
    monkeypatch.setenv("SLIMLINE_SECRET_TUF", json.dumps(made.keys))
    return made


def test_a_renewal_moves_the_end_and_tells_it_and_the_campaign_stays(fleet):
    fleet.campaign(fleet.release(fleet.package(1)))
    told = fleet.repository.campaign(GROUP)
    done = Renew(repository=fleet.uri).run()
    ends = done.manifest.numbers["expires"]
    assert datetime.fromisoformat(ends["timestamp"]) > datetime.now(UTC) + timedelta(days=6)
    assert datetime.fromisoformat(ends["snapshot"]) > datetime.now(UTC) + timedelta(days=13)
    assert json.loads((done["receipt"].path / "receipt.json").read_text())["expires"] == ends
    assert fleet.repository.campaign(GROUP) == told


def test_it_runs_each_time_where_the_key_is():
    renew = load_component("renew")
    assert not renew.cached
    assert renew.secrets == ("tuf",)


@pytest.mark.usefixtures("fleet")
def test_a_fleet_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadData, match="holds no fleet repository"):
        Renew(repository=str(tmp_path / "none")).run()
