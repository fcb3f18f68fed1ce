from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from airflow.sdk.exceptions import ParamValidationError
from pydantic import BaseModel, Field

from slimline.adapters.airflow.params import form, overrides
from slimline.adapters.form import field_schema
from slimline.recipe.plan import Step

GOLDEN = Path(__file__).parent / "form.golden.json"


class Nested(BaseModel):
    depth: int = 1


class Many(BaseModel):
    maybe: float | None = Field(None, ge=0, lt=1, description="A fraction.")
    choice: Literal["a", "b"] | None = None
    one: Literal["only"] = "only"
    nested: Nested = Nested()
    nested_or_none: Nested | None = None
    either: int | str = 1


@pytest.mark.usefixtures("rooms")
def test_the_form_of_a_component_is_as_kept():
    made = form([Step("first", "talk", {"words": "given", "times": 5}, {})])
    told = {name: param.serialize() for name, param in made.items()}
    assert told == json.loads(GOLDEN.read_text()), json.dumps(told, indent=1)


@pytest.mark.usefixtures("rooms")
def test_a_value_out_of_bounds_is_refused_before_any_task():
    made = form([Step("first", "talk", {}, {})])
    for name, value in (("times", 0), ("times", "many"), ("ending", "other"), ("words", "")):
        with pytest.raises(ParamValidationError):
            made[f"first.{name}"].resolve(value)
    made["first.note"].resolve(None)


def test_optional_choices_and_nested_models_are_flattened():
    whole = Many.model_json_schema()
    flat = {n: field_schema(s, whole["$defs"]) for n, s in whole["properties"].items()}
    assert flat["maybe"] == {
        "type": ["number", "null"],
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "A fraction.",
    }
    assert flat["choice"] == {"type": ["string", "null"], "enum": ["a", "b", None]}
    assert flat["one"] == {"type": "string", "enum": ["only"]}
    assert flat["nested"] == {"type": "object"}
    assert flat["nested_or_none"] == {"type": ["object", "null"]}
    assert flat["either"] == {"type": ["integer", "string"]}


@pytest.mark.usefixtures("rooms")
def test_the_runs_params_reach_their_own_step_only():
    params = {"first.times": 2, "first_more.times": 3, "times": 4}
    assert overrides("first", params) == {"times": 2}
