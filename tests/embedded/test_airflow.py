"""A real Airflow on loopback, and the client that talks to it."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from slimline.contract import BadParameters
from slimline.embedded.airflow_client import AirflowClient
from slimline.embedded.airflow_server import ADMIN, airflow_launch, read_password
from slimline.embedded.ports import free_port
from slimline.embedded.process import start

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    state = tmp_path_factory.mktemp("airflow")
    launch = airflow_launch(state, port=free_port(), dags_folder=DAGS, parallelism=2)
    with start(launch, state) as server:
        yield server, AirflowClient(server.url, ADMIN, read_password(state)), state


def until(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


@pytest.mark.system
def test_a_run_is_triggered_watched_answered_and_read(airflow):
    _, client, _ = airflow
    client.unpause("probe")
    run = client.trigger("probe", {"amount": 7})

    def state_of(task):
        return next(t["state"] for t in client.tasks("probe", run) if t["task_id"] == task)

    until(lambda: state_of("ask") in {"awaiting_input", "deferred"})
    assert client.run_state("probe", run) == "running"
    time.sleep(5)  # an answer within about 3 s fails the task in this version of Airflow
    client.answer("probe", run, "ask", "Yes")
    assert client.wait("probe", run, 60) == "success"
    assert client.xcom("probe", run, "count") == {"counted": 7}
    assert client.xcom("probe", run, "count", "nothing") is None
    assert "counted to 7" in client.log("probe", run, "count")
    assert client.log("probe", run, "count", attempt=9) == ""
    assert client.runs("probe") == (run,)


@pytest.mark.system
def test_an_asset_event_starts_what_waits_for_it(airflow):
    _, client, _ = airflow
    client.unpause("woken")
    client.send_asset_event("probe-asset", {"version": 3})
    run = until(lambda: client.runs("woken"))[0]
    assert client.wait("woken", run, 60) == "success"
    assert client.asset_events("probe-asset")[0]["extra"]["version"] == 3
    with pytest.raises(BadParameters, match="knows no asset"):
        client.send_asset_event("nothing")


@pytest.mark.system
def test_airflow_listens_on_loopback_alone(airflow):
    server, _, _ = airflow
    tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in tree
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.system
def test_a_wrong_password_and_an_unknown_dag_are_refused(airflow):
    server, client, _ = airflow
    with pytest.raises(BadParameters, match="401"):
        AirflowClient(server.url, ADMIN, "wrong").runs("probe")
    with pytest.raises(BadParameters, match="404"):
        client.trigger("nothing")


@pytest.mark.system
def test_password_and_keys_are_readable_by_their_owner_alone(airflow):
    _, _, state = airflow
    for name in ("passwords.json", "keys.json"):
        assert (state / "airflow" / name).stat().st_mode & 0o077 == 0
    assert read_password(state) not in (state / "airflow.log").read_text()
