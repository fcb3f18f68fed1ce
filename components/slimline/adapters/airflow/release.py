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
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, chain

from slimline.adapters.airflow.alerts import on_failure
from slimline.adapters.airflow.common import START, component_task, gate_task, task_defaults
from slimline.adapters.airflow.release_tasks import (
    CHAMPION,
    PREVIOUS,
    ReleaseApprovalOperator,
    ResolveOperator,
    RollBackOperator,
    SetAliasesOperator,
)
from slimline.adapters.airflow.triggers import AliasTrigger
from slimline.contract import load_component
from slimline.recipe.plan import Source

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from slimline.recipe.schema import Recipe

_PACKAGE, _PREVIOUS = Source("resolve", "package"), Source("resolve", "previous")
_ANSWER_WITHIN = timedelta(days=7)


def release_dag(recipe: Recipe) -> DAG:
    """Build `release_<name>`: started by a promotion in the registry, or by hand."""
    with DAG(
        f"release_{recipe.name}",
        schedule=[_promotion(recipe)],
        params={
            "version": Param(
                None,
                type=["integer", "null"],
                minimum=1,
                title="version",
                description="Version in the registry; that of the alias champion if not given.",
            ),
            "auto_approve": Param(
                os.environ.get("SLIMLINE_AUTO_APPROVE") == "1",
                type="boolean",
                title="auto_approve",
                description="Release without asking a person; the run's record says so.",
            ),
        },
        doc_md=f"# Release of {recipe.name}\n\n{_first_lines(__doc__)}",
        **_settings(recipe, "release"),
    ) as dag:
        start = [
            _resolve(recipe, CHAMPION),
            _component(recipe, "verify", "verify", {}, package=_PACKAGE),
            _approve(recipe),
        ]
        targets = _targets(recipe)
        chain(*start, *targets, _done(recipe))
        if targets:
            _undo(recipe, targets)
    return dag


def rollback_dag(recipe: Recipe) -> DAG:
    """Build `rollback_<name>`: the version that ran before comes back on every target."""
    with DAG(
        f"rollback_{recipe.name}",
        schedule=None,
        params={
            "version": Param(
                None,
                type=["integer", "null"],
                minimum=1,
                title="version",
                description="Version to bring back; that of the alias previous if not given.",
            )
        },
        doc_md=f"# Rollback of {recipe.name}\n\nBrings back what ran before, on every target.",
        **_settings(recipe, "rollback"),
    ) as dag:
        verify = _component(recipe, "verify", "verify", {}, package=_PACKAGE)
        chain(_resolve(recipe, PREVIOUS), verify, *_targets(recipe), _done(recipe))
    return dag


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


def _targets(recipe: Recipe) -> list[BaseOperator]:
    """The tasks that bring the package to each target, one after the other, and watch it."""
    tasks = _endpoint(recipe, "deploy", package=_PACKAGE)
    tasks += _fleet(recipe, "ota", package=_PACKAGE, previous=_PREVIOUS)
    if tasks:
        tasks += [_component(recipe, "watch", "watch", _watched(recipe), package=_PACKAGE)]
        tasks += [gate_task("watch")]
    return tasks


def _endpoint(recipe: Recipe, task_id: str, **inputs: Source) -> list[BaseOperator]:
    target = recipe.endpoint
    if target is None:
        return []
    where = {"target": target.on, "endpoint": target.name, **target.settings}
    return [_component(recipe, task_id, "deploy", where, **inputs)]


def _fleet(recipe: Recipe, task_id: str, **inputs: Source) -> list[BaseOperator]:
    target = recipe.fleet
    if target is None:
        return []
    who = {**_repository(), "group": target.group, **target.settings}
    return [_component(recipe, task_id, "ota", who, **inputs), gate_task(task_id)]


def _undo(recipe: Recipe, targets: list[BaseOperator]) -> None:
    decide = RollBackOperator(
        task_id="roll_back",
        watched=[task.task_id for task in targets],
        undo={"endpoint": "deploy", "fleet": "ota"},
        trigger_rule="one_failed",
        doc_md="Runs when a target's task failed: decides what has to come back.",
    )
    decide.set_upstream(targets)
    endpoint, fleet = Source("roll_back", "endpoint"), Source("roll_back", "fleet")
    chain(decide, *_endpoint(recipe, "undo_deploy", package=endpoint))
    chain(decide, *_fleet(recipe, "undo_ota", package=fleet))


def _component(
    recipe: Recipe, task_id: str, component: str, parameters: dict[str, Any], **inputs: Source
) -> BaseOperator:
    return component_task(
        task_id,
        component,
        parameters,
        {port: (source,) for port, source in inputs.items()},
        lineage=f"{recipe.name}/{task_id}",
        skip_without_input=task_id.startswith("undo_"),
    )


def _watched(recipe: Recipe) -> dict[str, Any]:
    """What `watch` has to know of the targets: those of their settings that it has a field for."""
    settings: dict[str, Any] = {}
    if recipe.endpoint is not None:
        settings |= {"target": recipe.endpoint.on, "endpoint": recipe.endpoint.name}
        settings |= recipe.endpoint.settings
    if recipe.fleet is not None:
        settings |= {**_repository(), "group": recipe.fleet.group, **recipe.fleet.settings}
    known = load_component("watch").parameters()
    return {name: value for name, value in settings.items() if name in known}


def _repository() -> dict[str, str]:
    """The fleet's repository, where the recipe does not say it: `SLIMLINE_FLEET`."""
    found = os.environ.get("SLIMLINE_FLEET")
    return {"repository": found} if found else {}


def _first_lines(text: str | None) -> str:
    title, _, rest = (text or "").partition("\n\n")
    return f"{title}\n\n```\n{rest.rstrip()}\n```"
