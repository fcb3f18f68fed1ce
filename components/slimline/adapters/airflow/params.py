"""The trigger form of a recipe: one section for each step, one field for each of its parameters.

Types, bounds, choices and descriptions are those of the component's class, so a value that the
component would refuse is refused by the form, before any task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from slimline.adapters.form import form_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slimline.recipe.plan import Step


def form(steps: Iterable[Step]) -> dict[str, Param]:
    """The params of a DAG, named `<step>.<parameter>`.

    A parameter without a value that its own bounds accept (one that the environment has to give)
    is left out, since each param of a scheduled DAG needs a default.
    """
    made = {
        f"{step.name}.{name}": Param(
            value, description=schema.pop("description", None), schema=schema
        )
        for step in steps
        for name, value, schema in form_fields(step)
    }
    return {name: param for name, param in made.items() if _is_valid(param)}


def overrides(step: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's params say about one step."""
    prefix = f"{step}."
    return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}


def _is_valid(param: Param) -> bool:
    try:
        param.resolve()
    except ParamValidationError:
        return False
    return True
