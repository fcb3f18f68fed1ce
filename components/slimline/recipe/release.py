"""From a recipe to the steps of its release DAG: each target in order, then a watch over them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slimline.contract import load_component
from slimline.recipe.plan import Source, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slimline.recipe.schema import EndpointTarget, FleetTarget, Recipe

PACKAGE, PREVIOUS = Source("resolve", "package"), Source("resolve", "previous")


def release_plan(recipe: Recipe) -> tuple[Step, ...]:
    """The steps `deploy`, `ota` and `watch`, as far as the recipe's targets ask for them.

    Their packages come from the task `resolve`. A fleet's repository is that of its settings, else
    the one SLIMLINE_FLEET points to; its budget is what each device's health check holds it to.
    """
    steps = [_in_release(recipe, step) for step in _targets(recipe)]
    if recipe.fleet is not None or answers_http(recipe):
        watched = {**_known_to_watch(steps), **recipe.watch}
        watch = Step("watch", "watch", watched, {"package": (PACKAGE,)}, ("watch",))
        steps.append(_in_release(recipe, watch))
    return tuple(sorted(steps, key=lambda step: ("deploy", "ota", "watch").index(step.name)))


def verify_step(recipe: Recipe) -> Step:
    """What a release begins with: the package is verified as a target would."""
    return _in_release(recipe, Step("verify", "verify", {}, {"package": (PACKAGE,)}))


def _targets(recipe: Recipe) -> Iterator[Step]:
    for place, target in enumerate(recipe.targets):
        section = ("targets", place, target.kind, "settings")
        if target is recipe.endpoint:
            given = {"package": (PACKAGE,)}
            yield Step("deploy", "deploy", _endpoint(target), given, section)
        elif target is recipe.fleet:
            given = {"package": (PACKAGE,), "previous": (PREVIOUS,)}
            yield Step("ota", "ota", _fleet(target), given, section)


def _in_release(recipe: Recipe, step: Step) -> Step:
    return replace(step, settings=recipe.tasks.get(step.name, step.settings))


def answers_http(recipe: Recipe) -> bool:
    """True for an endpoint whose address is a URL; AWS watches its own by alarms."""
    return recipe.endpoint is not None and recipe.endpoint.platform == "local"


def _endpoint(target: EndpointTarget) -> dict[str, Any]:
    return {"target": target.platform, "endpoint": target.name, **target.settings}


def _fleet(target: FleetTarget) -> dict[str, Any]:
    budget = target.budget.model_dump(include={"max_latency_ms", "max_memory_mb"})
    return {
        "repository": os.environ.get("SLIMLINE_FLEET", "fleet"),
        "group": target.group,
        **budget,
        **target.settings,
    }


def _known_to_watch(targets: list[Step]) -> dict[str, Any]:
    """What `watch` has to know of the targets: those of their settings that it has a field for."""
    known = load_component("watch").parameters()
    return {n: v for step in targets for n, v in step.parameters.items() if n in known}
