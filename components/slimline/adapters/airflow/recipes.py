"""The recipes of a folder: those that can be read make DAGs, the others one clear complaint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.recipe.load import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.recipe.schema import Recipe


def readable(folder: Path) -> tuple[Recipe, ...]:
    """All recipes that can be read, by file name."""
    found = (_read(path) for path in sorted(folder.glob("*.yaml")))
    return tuple(recipe for recipe in found if not isinstance(recipe, BadParameters))


def check_all(folder: Path) -> None:
    """Complain about every recipe that cannot be read, and about names given twice.

    Raises:
        BadParameters: names file, line and field of each mistake.
    """
    complaints: list[str] = []
    files: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        recipe = _read(path)
        if isinstance(recipe, BadParameters):
            complaints.append(str(recipe))
        elif recipe.name in files:
            first = files[recipe.name]
            complaints.append(f"{path}:1: name: {recipe.name} is that of {first} too; rename one")
        else:
            files[recipe.name] = path.name
    if complaints:
        raise BadParameters("\n".join(complaints))


def _read(path: Path) -> Recipe | BadParameters:
    try:
        return load_recipe(path)
    except BadParameters as error:
        return error
