"""What a demo or a test asks of a running Airflow, by its REST API (version 2)."""

from __future__ import annotations

import time
from typing import Any

import httpx

from slimline.contract.errors import BadParameters, TryLater

Json = dict[str, Any]
_PARSE_SECONDS = 90.0
_ANSWER_SECONDS = 120.0
"""A small machine that trains and starts containers may keep Airflow waiting."""


class AirflowClient:
    """Trigger, watch and answer runs.

    Each method raises `TryLater` when Airflow does not answer, and `BadParameters` with Airflow's
    own words when it refuses.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        """Talk to the API server at `url`; logs in at the first call."""
        self._http = httpx.Client(base_url=url, timeout=_ANSWER_SECONDS, trust_env=False)
        self._login = {"username": user, "password": password}

    def unpause(self, dag: str) -> None:
        """Let a DAG run, once its file has been parsed."""
        deadline = time.monotonic() + _PARSE_SECONDS
        while self._send("GET", f"/dags/{dag}").status_code == httpx.codes.NOT_FOUND:
            if time.monotonic() > deadline:
                msg = f"Airflow knows no DAG {dag}: {self.import_errors() or 'no file defines it'}"
                raise BadParameters(msg)
            time.sleep(0.5)
        self._json("PATCH", f"/dags/{dag}", json={"is_paused": False})

    def import_errors(self) -> dict[str, str]:
        """The error of each DAG file that could not be read, by file name."""
        errors = self._json("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def trigger(self, dag: str, conf: Json | None = None) -> str:
        """Start a run with parameters; returns its id."""
        wish = {"logical_date": None, "conf": conf or {}}
        return str(self._json("POST", f"/dags/{dag}/dagRuns", json=wish)["dag_run_id"])

    def runs(self, dag: str) -> tuple[str, ...]:
        """Ids of a DAG's runs, the newest first."""
        query = {"order_by": "-run_after", "limit": 100}
        found = self._json("GET", f"/dags/{dag}/dagRuns", params=query)["dag_runs"]
        return tuple(run["dag_run_id"] for run in found)

    def run_state(self, dag: str, run: str) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self._json("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def wait(self, dag: str, run: str, seconds: float) -> str:
        """Wait for the end of a run; returns its state.

        Raises:
            TryLater: when it has not ended in that time.
        """
        deadline = time.monotonic() + seconds
        while (state := self.run_state(dag, run)) not in {"success", "failed"}:
            if time.monotonic() > deadline:
                msg = f"run {run} of {dag} is still {state} after {seconds:g} s"
                raise TryLater(msg)
            time.sleep(0.5)
        return state

    def tasks(self, dag: str, run: str) -> list[Json]:
        """The task instances of a run, as Airflow describes them."""
        found = self._json("GET", f"{_run(dag, run)}/taskInstances", params={"limit": 1000})
        tasks: list[Json] = found["task_instances"]
        return tasks

    def log(self, dag: str, run: str, task: str, attempt: int = 1, map_index: int = -1) -> str:
        """What a task has logged so far, one line an event; "" when there is no log yet."""
        answer = self._send(
            "GET",
            f"{_run(dag, run)}/taskInstances/{task}/logs/{attempt}",
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return ""
        content = _checked(answer)["content"]
        events = content if isinstance(content, list) else [content]
        return "\n".join(e if isinstance(e, str) else _told(e) for e in events)

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value") -> Any:
        """What a task returned; None when it returned nothing."""
        answer = self._send(
            "GET",
            f"{_run(dag, run)}/taskInstances/{task}/xcomEntries/{key}",
            params={"deserialize": True},
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return _checked(answer)["value"]

    def answer(self, dag: str, run: str, task: str, option: str) -> None:
        """Choose an option of a task that waits for a person."""
        self._json(
            "PATCH",
            f"{_run(dag, run)}/taskInstances/{task}/-1/hitlDetails",
            json={"chosen_options": [option], "params_input": {}},
        )

    def send_asset_event(self, asset: str, extra: Json | None = None) -> None:
        """Tell that an asset (by name) has changed; DAGs that wait for it run."""
        found = self._json("GET", "/assets", params={"name_pattern": asset})["assets"]
        ids = [entry["id"] for entry in found if entry["name"] == asset]
        if not ids:
            msg = f"Airflow knows no asset {asset!r}: a DAG that it has parsed must name it"
            raise BadParameters(msg)
        self._json("POST", "/assets/events", json={"asset_id": ids[0], "extra": extra or {}})

    def asset_events(self, asset: str) -> list[Json]:
        """The events of an asset (by name), the newest first."""
        query = {"name_pattern": asset, "order_by": "-timestamp"}
        events: list[Json] = self._json("GET", "/assets/events", params=query)["asset_events"]
        return [event for event in events if event.get("name") == asset]

    def _json(self, method: str, path: str, **how: Any) -> Json:
        return _checked(self._send(method, path, **how))

    def _send(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            if "Authorization" not in self._http.headers:
                self._log_in()
            answer = self._http.request(method, f"/api/v2{path}", **how)
            if answer.status_code == httpx.codes.UNAUTHORIZED:  # tokens live for a day
                self._log_in()
                answer = self._http.request(method, f"/api/v2{path}", **how)
        except httpx.TransportError as error:
            msg = f"Airflow at {self._http.base_url} does not answer: {error}"
            raise TryLater(msg) from error
        return answer

    def _log_in(self) -> None:
        token = _checked(self._http.post("/auth/token", json=self._login))["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"


def _told(event: Json) -> str:
    """An event of a task's log, with the errors that belong to it."""
    errors = event.get("error_detail") or ()
    details = [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in errors]
    return "\n".join([str(event.get("event", "")), *details])


def _run(dag: str, run: str) -> str:
    return f"/dags/{dag}/dagRuns/{run}"


def _checked(answer: httpx.Response) -> Json:
    if answer.is_server_error:
        msg = f"Airflow answered {answer.status_code} to {answer.request.url.path}: {answer.text}"
        raise TryLater(msg)
    if answer.is_error:
        msg = f"Airflow refused {answer.request.url.path} ({answer.status_code}): {answer.text}"
        raise BadParameters(msg)
    found: Json = answer.json() if answer.content else {}
    return found
