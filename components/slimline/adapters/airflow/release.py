"""The release and rollback DAGs of a recipe: from a promotion to every target, and back.

    resolve -> verify -> approve -> deploy -> ota -> ota_passed -> watch -> watch_passed -> done
                                       |       |         |           |           |
                                       +-------+---------+-----------+-----------+
                                                     | one failed
                                    roll_back -> undo_deploy, undo_ota

A release that failed ends failed, also when everything was brought back.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, chain

from slimline.adapters.airflow.alerts import on_failure
from slimline.adapters.airflow.common import START, component_task, gate_task, task_defaults
from slimline.adapters.airflow.params import form
from slimline.adapters.airflow.release_tasks import (
    CHAMPION,
    PREVIOUS,
    ReleaseApprovalOperator,
    ResolveOperator,
    RollBackOperator,
    SetAliasesOperator,
)
from slimline.adapters.airflow.triggers import AliasTrigger
from slimline.recipe.plan import Source
from slimline.recipe.release import answers_http, release_plan, verify_step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import BaseOperator

    from slimline.recipe.plan import Step
    from slimline.recipe.schema import Recipe

_JUDGES, _CHANGE = frozenset({"ota", "watch"}), frozenset({"deploy", "ota"})
_ANSWER_WITHIN = timedelta(days=7)


def release_dag(recipe: Recipe) -> DAG:
    """Build `release_<name>`: started by a promotion in the registry, or by hand."""
    steps = release_plan(recipe)
    with DAG(
        f"release_{recipe.name}",
        schedule=[_promotion(recipe)],
        params={
            "version": _version("Version to release; that of the alias champion if not given."),
            "auto_approve": Param(
                os.environ.get("SLIMLINE_AUTO_APPROVE") == "1",
                type="boolean",
                title="auto_approve",
                description="Release without asking a person; the run's record says so.",
            ),
            **form(steps),
        },
        doc_md=f"# Release of {recipe.name}\n\n{_picture()}",
        **_settings(recipe, "release"),
    ) as dag:
        start = [_resolve(recipe, CHAMPION), _verify(recipe), _approve(recipe)]
        targets = _tasks(recipe, steps)
        chain(*start, *targets, _done(recipe))
        if targets:
            _undo(recipe, steps, targets)
    return dag


def rollback_dag(recipe: Recipe) -> DAG:
    """Build `rollback_<name>`: the version that ran before comes back on every target."""
    steps = release_plan(recipe)
    with DAG(
        f"rollback_{recipe.name}",
        schedule=None,
        params={
            "version": _version("Version to bring back; that of the alias previous if not given."),
            **form(steps),
        },
        doc_md=f"# Rollback of {recipe.name}\n\nBrings back what ran before, on every target.",
        **_settings(recipe, "rollback"),
    ) as dag:
        start = [_resolve(recipe, PREVIOUS), _verify(recipe)]
        chain(*start, *_tasks(recipe, steps), _done(recipe))
    return dag


def _version(description: str) -> Param:
    whole = {"type": ["integer", "null"], "minimum": 1, "title": "version"}
    return Param(None, description=description, schema=whole)


def _settings(recipe: Recipe, kind: str) -> dict[str, Any]:
    return {
        "start_date": START,
        "catchup": False,
        "max_active_runs": 1,
        "default_args": task_defaults(recipe.owner),
        "tags": {"slimline", kind, recipe.name},
        "on_failure_callback": on_failure(recipe),
    }


def _promotion(recipe: Recipe) -> Asset:
    poll = float(os.environ.get("SLIMLINE_POLL_SECONDS", "10"))
    trigger = AliasTrigger(recipe.name, CHAMPION, poll)
    name = f"{recipe.name}_{CHAMPION}"
    watcher = AssetWatcher(name=name, trigger=trigger)
    return Asset(name=name, uri=f"mlflow://models/{recipe.name}/{CHAMPION}", watchers=[watcher])


def _resolve(recipe: Recipe, alias: str) -> BaseOperator:
    doc = "Finds the package of the version to release, and of the one that runs now."
    return ResolveOperator(task_id="resolve", model=recipe.name, alias=alias, doc_md=doc)


def _approve(recipe: Recipe) -> BaseOperator:
    return ReleaseApprovalOperator(
        task_id="approve",
        model=recipe.name,
        retries=0,
        execution_timeout=None,
        response_timeout=_ANSWER_WITHIN,
        doc_md="Shows the gate's numbers and waits for a person, without a worker slot.",
    )


def _done(recipe: Recipe) -> BaseOperator:
    doc = "Notes in the registry what runs now (`deployed`) and before it (`previous`)."
    return SetAliasesOperator(task_id="done", model=recipe.name, doc_md=doc)


def _verify(recipe: Recipe) -> BaseOperator:
    return component_task(verify_step(recipe), recipe.name)


def _tasks(recipe: Recipe, steps: Iterable[Step]) -> list[BaseOperator]:
    """A task for each step, and a gate behind each one that judges."""
    tasks: list[BaseOperator] = []
    for step in steps:
        tasks.append(component_task(step, recipe.name, **_wiring(recipe, step)))
        if step.component in _JUDGES:
            tasks.append(gate_task(step.name))
    return tasks


def _undo(recipe: Recipe, steps: Iterable[Step], targets: list[BaseOperator]) -> None:
    changing = {step.name: step for step in steps if step.component in _CHANGE}
    decide = RollBackOperator(
        task_id="roll_back",
        watched=[task.task_id for task in targets],
        changing=list(changing),
        trigger_rule="one_failed",
        doc_md="Runs when a target's task failed: decides what has to come back.",
    )
    decide.set_upstream(targets)
    for name, step in changing.items():
        before = {"package": (Source("roll_back", name),)}
        undo = replace(step, name=f"undo_{name}", inputs=before)
        chain(decide, *_tasks(recipe, [undo]))


def _wiring(recipe: Recipe, step: Step) -> dict[str, Any]:
    if step.component == "watch" and answers_http(recipe):
        return {"numbers": {"address": Source("deploy", "address")}}
    return {"skip_without_input": step.name.startswith("undo_")}


def _picture() -> str:
    title, _, rest = (__doc__ or "").partition("\n\n")
    return f"{title}\n\n```\n{rest.rstrip()}\n```"
