"""From a recipe to the steps of its release DAG: each target in order, then a watch over them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slimline.adapters.images import load_lock
from slimline.contract import load_component
from slimline.recipe.plan import PlanError, Source, Step

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
            settings = _endpoint(target, _platform(recipe, section))
            yield Step("deploy", "deploy", settings, given, section)
        elif target is recipe.fleet:
            given = {"package": (PACKAGE,), "previous": (PREVIOUS,)}
            yield Step("ota", "ota", _fleet(target), given, section)


def _in_release(recipe: Recipe, step: Step) -> Step:
    return replace(step, settings=recipe.tasks.get(step.name, step.settings))


def answers_http(recipe: Recipe) -> bool:
    """True for an endpoint whose address is a URL; AWS watches its own by alarms."""
    return recipe.endpoint is not None and recipe.endpoint.platform != "sagemaker"


def _platform(recipe: Recipe, section: tuple[str | int, ...]) -> str:
    """Where the endpoint runs: as the recipe says, else as jobs do.

    Raises:
        PlanError: when the server would be a process inside its job's container, and end with it.
    """
    given = recipe.endpoint.platform if recipe.endpoint else None
    asked = recipe.tasks["deploy"].runner if "deploy" in recipe.tasks else None
    runner = asked or os.environ.get("SLIMLINE_RUNNER") or "process"
    wanted = given or ("docker" if runner == "docker" else "local")
    if wanted == "local" and runner != "process":
        msg = (
            f"platform local starts its server beside the job, and runner {runner} runs jobs in "
            "containers: give another platform, or tasks: {deploy: {runner: process}}"
        )
        raise PlanError(msg, (*section[:2], "platform"))
    return wanted


def _endpoint(target: EndpointTarget, platform: str) -> dict[str, Any]:
    settings = dict(target.settings)
    if platform == "docker":
        settings["docker"] = {
            "image": load_lock().image("serving").reference,
            "network": os.environ.get("SLIMLINE_DOCKER_NETWORK", ""),
            **settings.get("docker", {}),
        }
    return {"target": platform, "endpoint": target.name, **settings}


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
