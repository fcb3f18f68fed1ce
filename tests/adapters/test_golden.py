"""Interfaces as golden files: a change of one shows in the diff.

GOLDEN=write .venv/bin/pytest tests/adapters/test_golden.py    writes them anew
"""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from slimline.adapters.argv import command_for
from slimline.contract import component_names, load_component
from slimline.recipe.schema import json_schema

GOLDEN = Path(__file__).parents[1] / "golden"


def same(name, text):
    file = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{name} changed: GOLDEN=write pytest {__file__}"


@pytest.mark.parametrize("name", component_names())
def test_help_of_a_component(name):
    environment = {"COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    done = CliRunner(env=environment).invoke(command_for(load_component(name)), ["--help"])
    same(f"help/{name}.txt", done.output)


def test_json_schema_of_a_recipe():
    same(
        "../../dags/recipes/recipe.schema.json",
        json.dumps(json_schema(), indent=1, sort_keys=True) + "\n",
    )
