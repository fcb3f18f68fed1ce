"""The mail about a failed run, from Airflow's own callback to a mail server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import structlog
from airflow.callbacks.callback_requests import DagCallbackRequest
from airflow.dag_processing.processor import _execute_dag_callbacks
from airflow.sdk import DAG
from support.mail import mail_server

from slimline.adapters.airflow.alerts import message, on_failure
from slimline.recipe.schema import Recipe

RUN = "manual__2026-01-01T00:00:00+00:00"


def recipe(*alerts: str) -> Recipe:
    given = {"name": "digits", "owner": "me", "data": {}, "model": {"onnx": "m.onnx"}}
    return Recipe.model_validate({**given, "alerts": alerts})


@pytest.fixture
def mails(monkeypatch):
    with mail_server() as server:
        for name, value in {
            "SMTP__SMTP_HOST": "127.0.0.1",
            "SMTP__SMTP_PORT": str(server.port),
            "SMTP__SMTP_STARTTLS": "False",
            "SMTP__SMTP_MAIL_FROM": "airflow@example.org",
            "API__BASE_URL": "http://airflow.example.org/",
        }.items():
            monkeypatch.setenv(f"AIRFLOW__{name}", value)
        yield server.mails


def test_a_failed_run_is_told_by_mail_to_all_whom_the_recipe_names(mails):
    callback = on_failure(recipe("ada@example.org", "max@example.org"))
    dag = DAG("compress_digits", schedule=None, on_failure_callback=callback)
    request = DagCallbackRequest(
        filepath="dags.py",
        bundle_name="dags",
        bundle_version=None,
        dag_id=dag.dag_id,
        run_id=RUN,
        is_failure_callback=True,
        msg="task_failure",
    )
    bag = SimpleNamespace(dags={dag.dag_id: dag})
    _execute_dag_callbacks(bag, request, structlog.get_logger())
    [(recipients, mail)] = mails
    assert recipients == ["ada@example.org", "max@example.org"]
    assert mail["Subject"] == "compress_digits failed"
    assert mail["From"] == "airflow@example.org"
    [part] = mail.iter_parts()
    assert f"Run {RUN} failed (task_failure)." in part.get_content()
    assert "/dags/compress_digits/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00" in (
        part.get_content()
    )


def test_what_a_mail_quotes_cannot_be_markup():
    dag, task = SimpleNamespace(dag_id="d"), SimpleNamespace(task_id="ota")
    _, body = message({"dag": dag, "run_id": "<b>", "reason": "<i>", "task_instance": task})
    assert "Run &lt;b&gt; failed (&lt;i&gt;); its last task was ota." in body


def test_a_recipe_that_names_nobody_has_no_callback():
    assert on_failure(recipe()) is None
