"""Watching tells what is wrong with a real endpoint and a real fleet, and that nothing is."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.fleet import GROUP, make_fleet
from support.serving import serving

from slimline.contract import BadParameters, Package
from slimline.watch.endpoint import Endpoint
from slimline.watch.spec import Watch


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def package(fleet):
    return fleet.package(1)


@pytest.fixture(scope="module")
def server(fleet, package, tmp_path_factory):
    with serving(package, fleet.trusted, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(autouse=True)
def _trusted(fleet, monkeypatch):
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(fleet.trusted))


def _watch(tmp_path, package=None, **changes):
    job = Watch(
        **{
            "package": Package.at(package) if package else None,
            "seconds": 0.2,
            "poll_seconds": 0.1,
            **changes,
        }
    )
    outcome = job.run(work_dir=tmp_path / "work")
    receipt = json.loads((outcome["receipt"].path / "receipt.json").read_text())
    return outcome.manifest.numbers, receipt


def test_an_endpoint_that_does_well_passes(server, package, tmp_path):
    numbers, receipt = _watch(tmp_path, package, address=server.url)
    assert numbers["passed"]
    assert numbers["reasons"] == []
    assert numbers["looks"] == len(receipt["looks"]) >= 2
    assert numbers["answers"] > 0
    assert numbers["error_rate"] == 0


def test_an_endpoint_that_serves_another_package_is_told(server, fleet, tmp_path):
    numbers, _ = _watch(tmp_path, fleet.package(2), address=server.url)
    assert not numbers["passed"]
    assert "it serves package" in numbers["reasons"][0]


def test_an_endpoint_that_is_away_is_told_at_the_first_look(tmp_path):
    numbers, receipt = _watch(tmp_path, address="http://127.0.0.1:9", seconds=60)
    assert not numbers["passed"]
    assert "does not answer" in numbers["reasons"][0]
    assert len(receipt["looks"]) == 1


class _Ailing(BaseHTTPRequestHandler):
    """Ready and right, but with ever more errors in its metrics."""

    errors = 0

    def do_GET(self):
        body = b'{"ready": true}'
        if self.path == "/metrics":
            type(self).errors += 10
            body = (
                'slimline_requests_total{route="/invocations",code="200"} 1000\n'
                f'slimline_requests_total{{route="/invocations",code="500"}} {self.errors}\n'
            ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


def test_errors_while_watching_count_and_those_before_do_not(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ailing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        assert Endpoint(address).traffic().errors == 10
        numbers, _ = _watch(tmp_path, address=address)
    finally:
        server.shutdown()
        server.server_close()
    assert not numbers["passed"]
    assert "10 of 10 answers are errors" in numbers["reasons"][0]


def test_a_fleet_is_watched_by_its_own_signed_word(tmp_path, monkeypatch):
    fleet = make_fleet(tmp_path / "fleet")
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(fleet.trusted))
    package, where = fleet.package(1), {"repository": fleet.uri, "group": GROUP}
    assert "no device is enrolled" in _watch(tmp_path / "0", package, **where)[0]["reasons"][0]
    agents = [fleet.agent(name) for name in ("d1", "d2")]
    assert "never reported" in _watch(tmp_path / "1", package, **where)[0]["reasons"][0]
    fleet.tell(package)
    for agent in agents:
        agent.poll()
    numbers, _ = _watch(tmp_path / "2", package, **where)
    assert numbers["passed"]
    assert numbers["devices_well"] == 2
    fleet.tell(fleet.package(2))
    agents[0].poll()
    numbers, _ = _watch(tmp_path / "3", package, **where)
    assert "1 of 2 devices do well; d1 runs" in numbers["reasons"][0]
    assert _watch(tmp_path / "4", package, min_devices=0.5, **where)[0]["passed"]


def test_a_fleet_in_which_a_device_was_rolled_back_is_not_well(tmp_path):
    fleet = make_fleet(tmp_path / "fleet")
    agent = fleet.agent("d1")
    fleet.tell(fleet.package(1, broken_golden=True))
    agent.poll()
    numbers, _ = _watch(tmp_path, repository=fleet.uri, group=GROUP)
    assert "d1 is rolled_back: golden inputs" in numbers["reasons"][0]


def test_nothing_to_watch_is_an_error():
    with pytest.raises(BadParameters, match="nothing to watch"):
        Watch.parse({})
