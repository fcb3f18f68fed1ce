"""Registry, trigger and the tasks of a release that are no component."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    TaskAwaitingInput,
)
from support.registry import fake_registry

from slimline.adapters.airflow import registry as registry_module
from slimline.adapters.airflow import release_tasks, triggers
from slimline.adapters.airflow.registry import Registry
from slimline.adapters.airflow.release_tasks import (
    ReleaseApprovalOperator,
    ResolveOperator,
    RollBackOperator,
    SetAliasesOperator,
)
from slimline.adapters.airflow.triggers import AliasTrigger
from slimline.contract import BadData, BadParameters, LocalStore, TryLater

DIGESTS = {"1": "1" * 64, "2": "2" * 64}


@pytest.fixture
def registry(monkeypatch):
    def get(name: str) -> Connection:
        raise AirflowNotFoundException(name)

    monkeypatch.setattr(Connection, "get", get)
    with fake_registry() as served:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", served.url)
        for version, digest in DIGESTS.items():
            uri = f"s3://b/releases/artifacts/{digest}"
            served.add("digits", version, slimline_package_uri=uri, slimline_package_digest=digest)
        served.aliases["digits"]["champion"] = "2"
        yield served


def _pull(results: dict[str, Any]) -> Any:
    def pull(task_ids: str) -> Any:
        return results.get(task_ids)

    return pull


def context(params: dict[str, Any] | None = None, states: Any = None, **results: Any) -> Any:
    ti = SimpleNamespace(
        dag_id="release",
        run_id="run",
        id="0",
        xcom_pull=_pull(results),
        get_task_states=lambda **_: {"run": states or {}},
    )
    return {"ti": ti, "params": params or {}, "triggering_asset_events": {}}


def resolve(params: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    operator = ResolveOperator(task_id="resolve", model="digits", alias="champion")
    return operator.execute({**context(params), **more})


def test_the_champion_is_released_and_what_runs_now_is_known(registry):
    registry.aliases["digits"]["deployed"] = "1"
    found = resolve()
    assert (found["version"], found["deployed"]) == ("2", "1")
    assert found["outputs"]["package"]["digest"] == DIGESTS["2"]
    assert found["outputs"]["previous"]["digest"] == DIGESTS["1"]


@pytest.mark.usefixtures("registry")
def test_a_version_given_by_hand_wins():
    found = resolve({"version": 1})
    assert found["version"] == "1"
    assert found["outputs"]["previous"] is None


@pytest.mark.usefixtures("registry")
def test_the_version_of_the_promotion_that_started_the_run_is_taken():
    payload = {"model": "digits", "alias": "champion", "version": "1"}
    event = SimpleNamespace(extra={"from_trigger": True, "payload": payload})
    found = resolve(triggering_asset_events={"asset": [event]})
    assert found["version"] == "1"


def test_a_model_without_the_alias_is_told(registry):
    registry.aliases["digits"].clear()
    with pytest.raises(AirflowFailException, match="digits has no alias champion"):
        resolve()


def test_a_version_that_no_run_registered_is_refused(registry):
    registry.add("digits", "3")
    with pytest.raises(BadData, match=r"version 3 of digits has no tags slimline\.package"):
        resolve({"version": 3})
    with pytest.raises(BadData, match="no version 9 of digits"):
        resolve({"version": 9})


def test_a_registry_that_is_away_is_tried_later(registry):
    registry.broken = True
    with pytest.raises(TryLater, match="503"):
        resolve()
    with pytest.raises(TryLater, match="does not answer"):
        Registry("http://127.0.0.1:9").aliases("digits")
    with pytest.raises(BadParameters, match="http"):
        Registry("sqlite:///mlflow.db")


def _connected(monkeypatch, url: str) -> None:
    made = Connection(
        conn_id="slimline_mlflow", conn_type="http", host=url, login="me", password="let-me-in-71"
    )

    def get(name: str) -> Connection:
        if name != made.conn_id:
            raise AirflowNotFoundException(name)
        return made

    async def get_later(name: str) -> Connection:
        return get(name)

    monkeypatch.setattr(Connection, "get", get)
    monkeypatch.setattr(Connection, "async_get", get_later)


def test_a_registry_that_asks_for_a_password_gets_that_of_the_connection(registry, monkeypatch):
    registry.authorization = "Basic " + base64.b64encode(b"me:let-me-in-71").decode()
    with pytest.raises(BadParameters, match=r"401.*connection slimline_mlflow"):
        resolve()
    _connected(monkeypatch, registry.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the connection wins
    assert resolve()["version"] == "2"
    assert asyncio.run(AliasTrigger("digits")._version()) == "2"
    assert "let-me-in-71" not in redact("it says let-me-in-71")


def test_a_registry_that_asks_for_a_token_gets_that_of_the_environment(registry, monkeypatch):
    registry.authorization = "Bearer abc"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    assert resolve()["version"] == "2"


def test_an_alias_for_a_model_that_is_not_there_is_refused(registry):
    with pytest.raises(BadData, match="unknown not found"):
        Registry(registry.url).set_alias("unknown", "champion", "1")


def test_the_registry_lists_all_versions_of_a_model(registry):
    found = Registry(registry.url).versions("digits")
    assert {v.version: v.package["digest"] for v in found} == DIGESTS
    assert Registry(registry.url).versions("unknown") == ()


def test_after_a_release_the_aliases_tell_what_runs_and_what_ran(registry):
    done = SetAliasesOperator(task_id="done", model="digits")
    done.execute(context(resolve={"version": "2", "deployed": "1"}))
    assert registry.aliases["digits"] == {"champion": "2", "deployed": "2", "previous": "1"}
    done.execute(context(resolve={"version": "2", "deployed": "2"}))
    assert registry.aliases["digits"]["previous"] == "1"


def roll_back() -> RollBackOperator:
    return RollBackOperator(
        task_id="roll_back",
        watched=["deploy", "ota", "ota_passed", "watch"],
        changing=["deploy", "ota"],
    )


def test_what_a_failed_release_changed_comes_back_and_no_more():
    found = {"deployed": "1", "outputs": {"previous": {"uri": "u", "digest": "d"}}}
    states = {"deploy": "failed", "ota": "upstream_failed", "watch": "upstream_failed"}
    result = roll_back().execute(context(states=states, resolve=found))
    assert result["outputs"] == {"deploy": {"uri": "u", "digest": "d"}, "ota": None}
    states = {"deploy": "success", "ota": "success", "ota_passed": "failed"}
    result = roll_back().execute(context(states=states, resolve=found))
    assert all(result["outputs"].values())
    assert result["failed"] == ["ota_passed"]


def test_nothing_is_rolled_back_when_no_target_was_reached_or_nothing_ran_before():
    none = dict.fromkeys(("deploy", "ota", "ota_passed", "watch"), "upstream_failed")
    with pytest.raises(AirflowSkipException, match="before it reached a target"):
        roll_back().execute(context(states=none, resolve={}))
    first = {"deployed": None, "outputs": {"previous": None}}
    with pytest.raises(AirflowSkipException, match="nothing ran before"):
        roll_back().execute(context(states={"deploy": "failed"}, resolve=first))


@pytest.fixture
def resolved(tmp_path):
    store = LocalStore(tmp_path)
    predicate = {
        "passed": True,
        "reasons": ["accuracy drop 0.2 % is within 3 %"],
        "numbers": {"accuracy": 0.98123456, "bytes": 20000},
        "thresholds": {"margin": 0.03},
        "time": "2026-11-22",
    }
    payload = base64.b64encode(json.dumps({"predicate": predicate}).encode()).decode()
    store.put(
        f"artifacts/{DIGESTS['2']}/verdict.dsse.json", json.dumps({"payload": payload}).encode()
    )
    package = {"uri": f"{store.uri}/artifacts/{DIGESTS['2']}", "digest": DIGESTS["2"]}
    return {"model": "digits", "version": "2", "deployed": "1", "outputs": {"package": package}}


def approve() -> ReleaseApprovalOperator:
    return ReleaseApprovalOperator(task_id="approve", model="digits")


def test_a_person_is_asked_with_the_numbers_of_the_gate(resolved, monkeypatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **k: asked.update(k)
    )
    with pytest.raises(TaskAwaitingInput):
        approve().execute({**context(resolve=resolved), "task_instance": SimpleNamespace(id="0")})
    assert asked["subject"] == "Release digits?"
    body = asked["body"]
    for words in ("version 2", "passed", "| accuracy | 0.9812 |", "| limit margin | 0.03 |"):
        assert words in body


def test_a_release_that_asks_nobody_says_so(resolved):
    answer = approve().execute(context({"auto_approve": True}, resolve=resolved))
    assert answer["approved_by"] == "param auto_approve"


def test_a_package_without_a_verdict_is_not_even_asked_about(resolved, tmp_path):
    LocalStore(tmp_path).put(f"artifacts/{DIGESTS['2']}/verdict.dsse.json", b"{}")
    with pytest.raises(BadData, match="is no verdict"):
        approve().execute(context({"auto_approve": True}, resolve=resolved))


class State:
    """An asset's state that lives longer than one trigger."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value


async def _events(trigger: AliasTrigger, seconds: float, stop_after: int = 99) -> list[Any]:
    seen: list[Any] = []

    async def collect() -> None:
        async for event in trigger.run():
            seen.append(event.payload)
            if len(seen) == stop_after:
                return

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(collect(), seconds)
    return seen


def watch(state: State, seconds: float = 0.5, stop_after: int = 99) -> list[Any]:
    trigger = AliasTrigger("digits", poll_seconds=0.05)
    trigger.asset_state_store = state  # type: ignore[assignment]
    return asyncio.run(_events(trigger, seconds, stop_after))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(triggers, "_HANDED_OVER", 0.1)


def test_a_promotion_is_one_event_also_after_a_restart(registry):
    state = State()
    assert watch(state) == [{"model": "digits", "alias": "champion", "version": "2"}]
    assert watch(state) == []
    registry.aliases["digits"]["champion"] = "1"
    assert [event["version"] for event in watch(state)] == ["1"]


@pytest.mark.usefixtures("registry")
def test_an_event_that_may_not_have_been_stored_comes_again():
    state = State()
    assert len(watch(state, stop_after=1)) == 1
    assert state.values == {}
    assert len(watch(state)) == 1


def test_a_registry_that_is_down_or_empty_does_not_end_the_watch(registry):
    state = State()
    registry.broken = True
    trigger = AliasTrigger("digits", poll_seconds=0.05)
    trigger.asset_state_store = state  # type: ignore[assignment]

    async def story() -> list[Any]:
        waiting = asyncio.create_task(_events(trigger, 5, stop_after=1))
        await asyncio.sleep(0.3)
        registry.broken = False
        return await waiting

    assert len(asyncio.run(story())) == 1
    assert asyncio.run(_events(AliasTrigger("unknown", poll_seconds=0.05), 0.2)) == []


def test_a_trigger_is_rebuilt_from_what_it_serializes():
    path, kwargs = AliasTrigger("digits", "champion", 1.5).serialize()
    again = import_string(path)(**kwargs)
    assert again.serialize() == (path, kwargs)
    assert registry_module.checked("http://x/") == "http://x"
    assert release_tasks.CHAMPION == "champion"
