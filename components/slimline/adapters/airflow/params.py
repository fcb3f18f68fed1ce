"""The trigger form of a recipe: one section for each step, one field for each of its parameters.

Types, bounds, choices and descriptions are those of the component's class, so a value that the
component would refuse is refused by the form, before any task. Values the plan decides itself,
such as a step's name, and values that do not fit a form field (lists, nested) stay in the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from slimline.contract import load_component

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slimline.recipe.plan import Step

_PLANNED = frozenset({"name", "stage", "owner", "description", "destination"})
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern"),
)


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
        for name, value, schema in _fields(step)
    }
    return {name: param for name, param in made.items() if _is_valid(param)}


def overrides(step: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's params say about one step."""
    prefix = f"{step}."
    return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}


def field_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's JSON Schema as Airflow's form reads it: one `type`, nothing referenced.

    `anyOf [X, null]` becomes `type: [X, "null"]`; a nested model becomes `object`.
    """
    choices = [_resolved(c, definitions) for c in schema.get("anyOf", [schema])]
    types = list(dict.fromkeys(t for choice in choices for t in _types(choice)))
    flat: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    for choice in choices:
        flat |= {name: choice[name] for name in _BOUNDS if name in choice}
    listed = [v for choice in choices for v in _choices(choice)]
    if listed:
        flat["enum"] = [*listed, None] if "null" in types else listed
    if "description" in schema:
        flat["description"] = schema["description"]
    return flat


def _fields(step: Step) -> Iterable[tuple[str, Any, dict[str, Any]]]:
    whole = load_component(step.component).parameters_model().model_json_schema()
    for name, schema in whole.get("properties", {}).items():
        flat = field_schema(schema, whole.get("$defs", {}))
        types = flat["type"] if isinstance(flat["type"], list) else [flat["type"]]
        if name not in _PLANNED and _SCALARS.issuperset(types):
            value = step.parameters.get(name, schema.get("default"))
            yield name, value, {**flat, "title": name, "section": step.name}


def _is_valid(param: Param) -> bool:
    try:
        param.resolve()
    except ParamValidationError:
        return False
    return True


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return dict(schema)
    return dict(definitions[schema["$ref"].rsplit("/", 1)[-1]])


def _types(schema: Mapping[str, Any]) -> list[str]:
    if "type" in schema:
        return [schema["type"]]
    return ["object"]


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    if "const" in schema:
        return [schema["const"]]
    return list(schema.get("enum", []))
