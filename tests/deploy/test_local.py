"""Deployments on this machine: real server processes, a stable address, switches under load."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from support import web
from support.load import Load
from support.serving import wait_until

from slimline.contract import BadParameters, Package, Refused, TryLater, load_component
from slimline.deploy import processes
from slimline.deploy.endpoints import address_of, list_endpoints, stop_endpoint
from slimline.deploy.record import read_record
from slimline.deploy.spec import Deploy, Local
from slimline.models.info import load_model_info
from slimline.trust.golden import load_golden
from slimline.trust.package import load_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slimline.contract.job import Outcome


@pytest.fixture(autouse=True)
def _nothing_is_left(state: Path) -> Iterator[None]:
    """Stop what a test started, then look whether any process of it is still there."""
    yield
    for name in list_endpoints(state):
        stop_endpoint(state, name)
    assert _processes(state) == []


def _processes(state: Path) -> list[str]:
    mine = psutil.process_iter(["cmdline", "status"])
    return [
        " ".join(p.info["cmdline"])
        for p in mine
        if str(state) in " ".join(p.info["cmdline"] or ()) and p.info["status"] != "zombie"
    ]


def _deploy(package: Package, state: Path, work: Path, **local: Any) -> dict[str, Any]:
    return _receipt(_run(package, state, work, **local))


def _run(package: Package, state: Path, work: Path, **local: Any) -> Outcome:
    job = Deploy(package=package, endpoint="digits", local=Local(state_dir=str(state), **local))
    return job.run(work_dir=work / os.urandom(4).hex())


def _receipt(outcome: Outcome) -> dict[str, Any]:
    return json.loads((outcome["receipt"].path / "receipt.json").read_text())


def _serving(address: str) -> str:
    return web.get(f"{address}/readyz").json()["package_digest"]


def test_the_first_deployment_answers_at_its_address(
    first: Package, state: Path, tmp_path: Path
) -> None:
    receipt = _deploy(first, state, tmp_path)
    assert receipt["before"] == ""
    assert receipt["after"] == first.digest
    assert receipt["changed"] is True
    assert receipt["golden"]["count"] == 4
    assert receipt["golden"]["difference"] <= receipt["golden"]["tolerance"]
    assert _serving(receipt["address"]) == first.digest
    assert address_of(state, "digits") == receipt["address"]
    info = load_model_info(first.path / "model")
    x, logits = load_golden(first.path, load_manifest(first.path), info)
    answer = web.post(f"{receipt['address']}/invocations", json={"instances": x.tolist()})
    given = np.array([row["logits"] for row in answer.json()["predictions"]], np.float32)
    np.testing.assert_allclose(given, logits, atol=1e-4)
    assert receipt["golden"]["label"] == str(logits[0].argmax())


def test_the_second_deployment_keeps_the_address_and_going_back_is_deploying_again(
    first: Package, second: Package, state: Path, tmp_path: Path
) -> None:
    one = _deploy(first, state, tmp_path)
    two = _deploy(second, state, tmp_path)
    back = _deploy(first, state, tmp_path)
    assert one["address"] == two["address"] == back["address"]
    assert (two["before"], two["after"]) == (first.digest, second.digest)
    assert (back["before"], back["after"]) == (second.digest, first.digest)
    assert _serving(one["address"]) == first.digest
    assert len(_processes(state)) == 2
    assert len(list((state / "digits" / "slots").iterdir())) == 1


def test_deploying_what_serves_already_changes_nothing(
    first: Package, state: Path, tmp_path: Path
) -> None:
    _deploy(first, state, tmp_path)
    process = read_record(state / "digits").current.process
    receipt = _deploy(first, state, tmp_path)
    assert receipt["changed"] is False
    assert receipt["before"] == receipt["after"] == first.digest
    assert read_record(state / "digits").current.process == process


def test_a_server_that_does_not_get_ready_is_stopped_and_the_old_one_stays(
    first: Package, wrong: Package, state: Path, tmp_path: Path
) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    before = read_record(state / "digits")
    with pytest.raises(Refused, match="golden inputs"):
        _run(wrong, state, tmp_path)
    assert _serving(address) == first.digest
    assert read_record(state / "digits") == before
    assert len(_processes(state)) == 2


@pytest.mark.parametrize("log", ["text", "json"])
def test_a_first_deployment_that_fails_leaves_no_process_and_tells_why(
    wrong: Package, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    monkeypatch.setenv("SLIMLINE_LOG", log)
    with pytest.raises(Refused, match=r"ended with 65: refused to serve .*: golden inputs"):
        _run(wrong, state, tmp_path)
    assert _processes(state) == []


def test_a_package_that_does_not_verify_starts_nothing(
    first: Package, state: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(first.path, tmp_path / "copy")
    (copy / "card.md").write_text("# other\n")
    with pytest.raises(Refused, match=r"card\.md was changed"):
        _run(Package.at(copy), state, tmp_path)
    assert not state.exists()


def test_a_server_that_is_slow_to_start_is_given_up(
    first: Package, state: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="not ready within"):
        _run(first, state, tmp_path, start_seconds=0.05)
    assert _processes(state) == []


def test_no_request_is_lost_in_switches_under_load(
    first: Package, second: Package, state: Path, tmp_path: Path
) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    with Load(address, lasting=3, fleeting=2) as load:
        wait_until(lambda: len(load.versions) > 50)
        for package in (second, first, second):
            version = load_manifest(package.path).version
            _deploy(package, state, tmp_path)
            count = len(load.versions)
            wait_until(lambda n=count, v=version: v in load.versions[n:])
    assert load.failed == []
    assert set(load.versions) == {load_manifest(p.path).version for p in (first, second)}


def test_a_failed_deployment_under_load_loses_no_request(
    first: Package, wrong: Package, state: Path, tmp_path: Path
) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    with Load(address, lasting=1, fleeting=1) as load, pytest.raises(Refused):
        _run(wrong, state, tmp_path)
    assert load.failed == []
    assert set(load.versions) == {load_manifest(first.path).version}


def test_the_server_outlives_the_task_and_sees_no_secret(
    first: Package, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-7c1f")
    monkeypatch.setenv("SLIMLINE_SECRET_SIGNING", "planted-7c1f")
    _deploy(first, state, tmp_path)
    record = read_record(state / "digits")
    for process in (record.current.process, record.front.process):
        running = psutil.Process(process.pid)
        assert os.getsid(process.pid) == process.pid != os.getsid(0)
        assert "planted-7c1f" not in str(running.environ()) + str(running.cmdline())


def test_a_server_that_died_is_replaced_behind_the_same_address(
    first: Package, state: Path, tmp_path: Path
) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    processes.stop(read_record(state / "digits").current.process)
    receipt = _deploy(first, state, tmp_path)
    assert receipt["changed"] is True
    assert receipt["address"] == address
    assert _serving(address) == first.digest


def test_a_front_that_died_comes_back_at_the_same_port(
    first: Package, state: Path, tmp_path: Path
) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    processes.stop(read_record(state / "digits").front.process)
    assert address_of(state, "digits") == ""
    receipt = _deploy(first, state, tmp_path)
    assert receipt["address"] == address
    assert _serving(address) == first.digest


def test_stopping_an_endpoint_leaves_no_process_and_its_port_is_found_again(
    first: Package, state: Path, tmp_path: Path
) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    assert list_endpoints(state) == ("digits",)
    assert stop_endpoint(state, "digits") is True
    assert _processes(state) == []
    assert stop_endpoint(state, "digits") is True
    assert stop_endpoint(state, "letters") is False
    assert _deploy(first, state, tmp_path)["address"] == address


def test_two_deployments_at_once_are_kept_apart(
    first: Package, state: Path, tmp_path: Path
) -> None:
    (state / "digits").mkdir(parents=True)
    with (state / "digits" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TryLater, match="another job"):
            _run(first, state, tmp_path)


def test_what_a_killed_deployment_left_is_cleared_by_the_next(
    first: Package, second: Package, state: Path, tmp_path: Path
) -> None:
    """The record of a deployment that was killed while its server started."""
    _deploy(first, state, tmp_path)
    other = tmp_path / "other"
    _deploy(second, other, tmp_path)
    stray = read_record(other / "digits").current
    record = read_record(state / "digits")
    path = state / "digits" / "endpoint.json"
    path.write_text(record.model_copy(update={"others": (stray,)}).model_dump_json())
    _deploy(first, state, tmp_path)
    assert not processes.is_alive(stray.process)
    assert read_record(state / "digits").others == ()
    stop_endpoint(other, "digits")


def test_a_taken_port_is_told_and_leaves_no_process(
    first: Package, state: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadParameters, match=r"local\.port"):
            _run(first, state, tmp_path, port=taken.getsockname()[1])
    assert _processes(state) == []


def test_without_a_server_the_address_says_so(first: Package, state: Path, tmp_path: Path) -> None:
    address = _deploy(first, state, tmp_path)["address"]
    processes.stop(read_record(state / "digits").current.process)
    answer = web.get(f"{address}/ping", timeout=30)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {"error": "no server is behind this address"}


def test_the_state_directory_must_be_given(
    first: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIMLINE_ENDPOINTS", raising=False)
    with pytest.raises(BadParameters, match="SLIMLINE_ENDPOINTS"):
        Deploy(package=first).run(work_dir=tmp_path)


def test_a_deployment_is_never_answered_from_the_cache() -> None:
    assert load_component("deploy") is Deploy
    assert Deploy.cached is False
