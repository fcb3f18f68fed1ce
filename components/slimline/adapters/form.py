"""The parameters of a step that a form can show: one plain value each, with type and bounds.

Airflow's trigger form and the inputs of a Kubeflow pipeline are made of these. Values the plan
decides itself, such as a step's name, and values that do not fit a form field (lists, nested) stay
in the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import load_component

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slimline.recipe.plan import Step

_PLANNED = frozenset({"name", "stage", "owner", "description", "destination"})
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern"),
)


def form_fields(step: Step) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(name, value, schema) of each parameter of a step that a form shows."""
    whole = load_component(step.component).parameters_model().model_json_schema()
    for name, schema in whole.get("properties", {}).items():
        flat = field_schema(schema, whole.get("$defs", {}))
        types = flat["type"] if isinstance(flat["type"], list) else [flat["type"]]
        if name not in _PLANNED and _SCALARS.issuperset(types):
            value = step.parameters.get(name, schema.get("default"))
            yield name, value, {**flat, "title": name, "section": step.name}


def field_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's JSON Schema as a form reads it: one `type`, nothing referenced.

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
