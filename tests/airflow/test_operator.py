"""The operator with real child processes; Airflow's context is a plain stand-in."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from slimline.adapters.airflow import connections
from slimline.adapters.airflow.gate import GateOperator
from slimline.adapters.airflow.operator import ComponentOperator, _JobLog
from slimline.adapters.airflow.retry import JobFailed
from slimline.adapters.runners.environment import secret_values
from slimline.adapters.runners.job_directory import JobDirectory
from slimline.adapters.runners.process import ProcessRunner
from slimline.contract import BadParameters
from slimline.recipe.plan import Source

SECRET = "planted-operator-secret-91"


@pytest.fixture(autouse=True)
def no_connections(monkeypatch):
    """Connections of the test; the real ones come from a server that is not there."""
    known: dict[str, Connection] = {}

    def get(name: str) -> Connection:
        if name not in known:
            raise AirflowNotFoundException(name)
        return known[name]

    monkeypatch.setattr(Connection, "get", get)
    return known


def _pull(results: dict[str, Any]) -> Any:
    def pull(task_ids: str) -> Any:
        return results.get(task_ids)

    return pull


def context(params: dict[str, Any] | None = None, run: str = "run", **results: Any) -> Any:
    ti = SimpleNamespace(dag_id="dag", run_id=run, task_id="task", xcom_pull=_pull(results))
    return {"ti": ti, "params": params or {}}


def talk(name: str = "talk", **parameters: Any) -> ComponentOperator:
    return ComponentOperator(
        task_id=name, component="talk", parameters=parameters, lineage=f"demo/{name}"
    )


def test_a_job_runs_and_its_result_is_read_from_the_manifest(rooms):
    result = talk(times=2).execute(context())
    assert result["executed"]
    assert result["reason"] == "ran: no earlier job is known for this step"
    assert result["numbers"]["said"] == 2
    assert result["seconds"] > 0
    said = result["outputs"]["said"]
    assert said["uri"].endswith(f"/artifacts/{said['digest']}")
    json.dumps(result, allow_nan=False)
    assert not any((rooms / "work").iterdir())


@pytest.mark.usefixtures("rooms")
def test_a_hit_starts_nothing(monkeypatch):
    first = talk().execute(context())
    monkeypatch.setattr(ProcessRunner, "start", lambda *_: pytest.fail("something was started"))
    second = talk().execute(context(run="another"))
    assert not second["executed"]
    assert second["seconds"] == 0
    assert second["reason"].startswith(f"reused: job {first['job'][:12]}")
    assert second["outputs"] == first["outputs"]


@pytest.mark.usefixtures("rooms")
def test_a_changed_parameter_runs_again_and_the_reason_names_it():
    talk(words="a").execute(context())
    again = talk(words="a").execute(context({"talk.words": "b", "other.words": "c"}))
    assert again["executed"]
    assert again["reason"] == "ran: parameter words changed from 'a' to 'b'"


@pytest.mark.usefixtures("rooms")
def test_a_component_that_acts_outside_runs_each_time_and_its_last_numbers_count():
    heard = talk().execute(context())

    def judge() -> dict[str, Any]:
        sources = {"heard": [Source("talk", "said"), Source("talk", "said")]}
        operator = ComponentOperator(task_id="judge", component="passes", inputs=sources)
        return operator.execute(context(talk=heard))

    first, second = judge(), judge()
    assert first["executed"]
    assert second["executed"]
    assert first["numbers"]["heard"] == 2
    assert first["numbers"]["process"] != second["numbers"]["process"]


@pytest.mark.usefixtures("rooms")
def test_a_wrong_parameter_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr(ProcessRunner, "start", lambda *_: pytest.fail("something was started"))
    with pytest.raises(BadParameters, match=r"times.*greater than or equal to 1.*given: 0"):
        talk(times=0).execute(context())


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize(("ending", "code"), [("data", 65), ("later", 75), ("bug", 1)])
def test_a_failed_job_fails_the_task_with_its_exit_code_and_its_own_words(ending, code):
    with pytest.raises(JobFailed) as caught:
        talk(ending=ending).execute(context())
    assert caught.value.exit_code == code
    expected = "a bug was met" if ending == "bug" else f"told to end with {ending}"
    assert expected in str(caught.value)


@pytest.mark.usefixtures("rooms")
def test_a_missing_input_fails_or_skips_as_asked():
    wired = {"heard": [Source("talk", "said")]}
    operator = ComponentOperator(task_id="judge", component="passes", inputs=wired)
    with pytest.raises(AirflowFailException, match=r"input heard: talk\.said gave none"):
        operator.execute(context())
    optional = ComponentOperator(
        task_id="undo", component="passes", inputs=wired, skip_without_input=True
    )
    with pytest.raises(AirflowSkipException, match="heard"):
        optional.execute(context(talk={"outputs": {"said": None}}))


@pytest.mark.usefixtures("rooms")
def test_a_parameter_may_come_from_the_numbers_of_an_earlier_task():
    def listen(**results: Any) -> dict[str, Any]:
        numbers = {"times": Source("before", "count")}
        operator = ComponentOperator(task_id="talk", component="talk", numbers=numbers)
        return operator.execute(context(**results))

    assert listen(before={"numbers": {"count": 2}})["numbers"]["said"] == 2
    with pytest.raises(AirflowFailException, match="before told no count"):
        listen(before={"numbers": {}})


@pytest.mark.usefixtures("rooms")
def test_without_a_store_the_cure_is_told(monkeypatch):
    monkeypatch.delenv("SLIMLINE_STORE")
    with pytest.raises(BadParameters, match="SLIMLINE_STORE is not set"):
        talk().execute(context())


def _work_for_ever(results: Any) -> None:
    Connection.get = _no_connection  # type: ignore[method-assign]
    results.put(talk(seconds=4.0, times=8).execute(context()))


def _no_connection(name: str) -> Connection:
    raise AirflowNotFoundException(name)


def test_after_kill_9_of_the_tasks_process_the_retry_attaches_and_ends_well(rooms):
    method = multiprocessing.get_context("fork")
    worker = method.Process(target=_work_for_ever, args=(method.Queue(),))
    worker.start()
    directory = _running(rooms)
    process = directory.process
    worker.kill()
    worker.join()
    assert directory.alive
    result = talk(seconds=4.0, times=8).execute(context())
    assert result["executed"]
    assert process is not None
    assert not process.alive
    assert result["numbers"]["said"] == 8


def _running(rooms) -> JobDirectory:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in (rooms / "work").glob("*"):
            found = JobDirectory(path)
            if found.alive and found.log.exists() and '"hello 0"' in found.log.read_text():
                return found
        time.sleep(0.05)
    return pytest.fail("no job was started")


def test_a_killed_task_stops_its_job_within_ten_seconds(rooms):
    operator = talk(seconds=60)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            operator.execute(context())
        except JobFailed as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    directory = _running(rooms)
    operator.on_kill()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not directory.alive
    assert [error.exit_code for error in caught] == [143]  # type: ignore[attr-defined]


def test_a_planted_secret_is_nowhere_but_in_the_environment_of_its_job(
    rooms, no_connections, caplog
):
    no_connections["slimline_planted"] = Connection(
        conn_id="slimline_planted", conn_type="generic", password=SECRET
    )
    with caplog.at_level(logging.DEBUG):
        result = talk(expects_secret=True, leaks=True).execute(context())
    assert result["numbers"]["visible"] == ["SLIMLINE_SECRET_PLANTED"]
    assert result["numbers"]["secret"] != ""
    assert SECRET not in json.dumps(result)
    assert SECRET not in caplog.text
    files = [path for path in rooms.rglob("*") if path.is_file()]
    assert files
    assert not any(SECRET in path.read_text("latin-1") for path in files)
    assert "SLIMLINE_SECRET_PLANTED" not in os.environ


def test_connections_become_the_environment_of_a_job(no_connections):
    no_connections["slimline_s3"] = Connection(
        conn_id="slimline_s3",
        conn_type="aws",
        login="key",
        password="secret-of-s3",
        extra=json.dumps({"endpoint_url": "http://127.0.0.1:1", "region_name": "eu-1"}),
    )
    no_connections["slimline_mlflow"] = Connection(
        conn_id="slimline_mlflow",
        conn_type="http",
        host="127.0.0.1",
        port=5000,
        login="me",
        password="let-me-in-72",
    )
    assert connections.services() == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-of-s3",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_REGION": "eu-1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": "let-me-in-72",
    }


def test_no_piece_of_a_secret_is_in_the_lines_that_a_task_logs_of_its_job(caplog):
    pem = "-----BEGIN KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END KEY-----"
    keys = json.dumps({"snapshot": pem})
    told = _JobLog(
        logging.getLogger("task"), secret_values({"SLIMLINE_SECRET_TUF": keys, "OTHER": "snapshot"})
    )
    with caplog.at_level(logging.INFO):
        told.line(json.dumps({"time": "now", "level": "ERROR", "message": f"slimline: {pem}"}))
        told.line('{"time": "half a record"}')
        told.line("snapshot is a word")
    assert "MIGHAgEAMBMGByqGSM49" not in caplog.text + told.end()
    assert "AgEGCCqGSM49AwEHBG0w" not in caplog.text + told.end()
    assert "half a record" in caplog.text
    assert "snapshot is a word" in caplog.text


def test_every_line_of_a_secret_is_masked_in_airflows_logs():
    pem = "-----BEGIN KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END KEY-----"
    connections.mask({"SLIMLINE_SECRET_SIGNING": pem})
    assert "MIGHAgEAMBMGByqGSM49" not in redact("line: MIGHAgEAMBMGByqGSM49")
    assert "AgEGCCqGSM49AwEHBG0w" not in redact("AgEGCCqGSM49AwEHBG0w")


@pytest.mark.parametrize(
    ("summary", "told"),
    [
        ({"numbers": {"passed": False, "reasons": ["too slow", "too large"]}}, "too slow; too lar"),
        ({"numbers": {"passed": "true"}}, "no verdict"),
        ({"numbers": {}}, "no verdict"),
        (None, "no verdict"),
    ],
)
def test_a_gate_without_a_clear_yes_fails_for_good_and_quotes_the_reasons(summary, told):
    gate = GateOperator(task_id="gate_passed", judge="gate")
    with pytest.raises(AirflowFailException, match=told):
        gate.execute(context(gate=summary))


def test_a_gate_with_a_yes_lets_pass():
    gate = GateOperator(task_id="gate_passed", judge="gate")
    assert gate.execute(context(gate={"numbers": {"passed": True}}))["passed"]


def test_sigterm_to_the_group_of_a_job_is_told_as_killed(rooms):
    caught: list[BaseException] = []

    def work() -> None:
        try:
            talk(seconds=60, note="other").execute(context())
        except JobFailed as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    process = _running(rooms).process
    assert process is not None
    process.signal_group(signal.SIGTERM)
    thread.join(timeout=15)
    assert "143" in str(caught[0])
