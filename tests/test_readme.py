"""The README says what is there."""

from pathlib import Path

from slimline.adapters.cli import component_table
from slimline.recipe import load_recipe

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_of_components_is_the_generated_one():
    table = README.split("<!-- components -->\n")[1].split("<!-- /components -->")[0]
    assert table == component_table(), "run: .venv/bin/slimline list --markdown"


def test_every_make_target_that_the_readme_names_exists():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in ("demo", "test", "stop", "clean", "check"):
        assert f"make {target}" in README
        assert f"\n{target}:" in makefile


def test_the_recipe_of_the_readme_is_a_good_one(tmp_path):
    text = README.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "parts.yaml").write_text(text)
    assert load_recipe(tmp_path / "parts.yaml").name == "parts"
    assert len(text.splitlines()) == 10
