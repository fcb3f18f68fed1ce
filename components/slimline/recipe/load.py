"""Read a recipe file: every complaint names the file, the line, the field and the cure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from slimline.contract import BadParameters
from slimline.recipe.plan import PlanError, plan
from slimline.recipe.release import release_plan, verify_step
from slimline.recipe.schema import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_BYTES = 1 << 20
_MOST_NODES = 20_000
_MOST_DEPTH = 50

Lines = dict[tuple[str | int, ...], int]


def load_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe, the parameters of every step included.

    Raises:
        BadParameters: with one line for each mistake: `file:line: field: what is wrong`.
    """
    file = Path(path)
    values, lines = _read(file)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise BadParameters(_explain(file, lines, (), error)) from error
    try:
        steps = (*plan(recipe), *release_plan(recipe), verify_step(recipe))
    except PlanError as error:
        place = ".".join(str(part) for part in error.section)
        msg = f"{file}:{_line(lines, error.section)}: {place}: {error}"
        raise BadParameters(msg) from error
    _tasks_exist(file, lines, recipe, {step.name for step in steps})
    for step in steps:
        try:
            step.check()
        except ValidationError as error:
            raise BadParameters(_explain(file, lines, step.section, error)) from error
    return recipe


def _tasks_exist(file: Path, lines: Lines, recipe: Recipe, known: set[str]) -> None:
    complaints = [
        f"{file}:{_line(lines, ('tasks', name))}: tasks.{name}: there is no such step; "
        f"there are {', '.join(sorted(known))}"
        for name in recipe.tasks
        if name not in known
    ]
    if complaints:
        raise BadParameters("\n".join(complaints))


def _read(file: Path) -> tuple[Any, Lines]:
    try:
        text = file.read_bytes()
    except OSError as error:
        msg = f"recipe {file}: {error.strerror}"
        raise BadParameters(msg) from error
    if len(text) > _MOST_BYTES:
        msg = f"recipe {file}: {len(text)} bytes; a recipe has at most {_MOST_BYTES}"
        raise BadParameters(msg)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: Lines = {}
        return _Plain(file, lines).value(node, ()), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        msg = f"{file}:{line}: not valid YAML: {getattr(error, 'problem', error)}"
        raise BadParameters(msg) from error


class _Plain:
    """Turns YAML nodes into plain values and notes the line of each field."""

    def __init__(self, file: Path, lines: Lines) -> None:
        self.file, self.lines, self.count = file, lines, 0
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node | None, path: tuple[str | int, ...]) -> Any:
        if node is None:
            return {}
        self.count += 1
        line = node.start_mark.line + 1
        if self.count > _MOST_NODES or len(path) > _MOST_DEPTH:
            msg = f"{self.file}:{line}: more than {_MOST_NODES} values, or nested too deep"
            raise BadParameters(msg)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except ValueError as error:
            msg = f"{self.file}:{line}: {node.value!r:.60} is no such value: {error}"
            raise BadParameters(msg) from error

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in found:
                msg = f"{self.file}:{line}: {key} is given twice; keep one"
                raise BadParameters(msg)
            self.lines[(*path, key)] = line
            found[key] = self.value(value_node, (*path, key))
        return found


def _explain(
    file: Path, lines: Lines, section: tuple[str | int, ...], error: ValidationError
) -> str:
    complaints = []
    for item in error.errors(include_url=False):
        place = (*section, *item["loc"])
        given = "" if item["type"] == "missing" else f" (given: {item['input']!r:.60})"
        field = ".".join(str(p) for p in place if p not in ("endpoint", "fleet"))
        complaints.append(f"{file}:{_line(lines, place)}: {field}: {item['msg']}{given}")
    return "\n".join(complaints)


def _line(lines: Lines, place: Iterable[str | int]) -> int:
    """The line of the nearest field that was written: a missing one is told at its parent."""
    path = tuple(place)
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
