"""The code digest: which source a component's result depends on, found by following imports.

It covers every module of this project, and of the component's own package, that `run.py` imports,
directly or through others, at any depth, also inside a function; with each module the packages
around it. All is read from the source, nothing is imported. So a change in a helper that two rooms
share makes both run again, and a change elsewhere makes none.

It does not see a module that is named only at run time (a factory in a parameter, see
`Component.outside`), nor files that are no modules: what decides a result belongs into modules,
parameters or inputs.
"""

from __future__ import annotations

import ast
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract.artifact import digest_json, sha256_file
from slimline.contract.errors import BadParameters

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

    from slimline.contract.component import Component

_PROJECT = __name__.split(".", 1)[0]
_PARSE_TRIES = 5
_STEADY = (f"{_PROJECT}.contract", f"{_PROJECT}.adapters")
"""How a job is started and recorded does not change what it makes."""


@cache
def code_digest(component: type[Component]) -> str:
    """Hex sha256 over the (module name, sha256 of source) pairs a component's work is made of."""
    room = component.__module__.rsplit(".", 1)[0]
    return _digest((f"{room}.spec", f"{room}.run"))


def source_digest(module: str, follow: Iterable[str] = ()) -> str:
    """The same for any module, such as one that a parameter names; read anew at each call.

    Args:
        module: its dotted name.
        follow: top-level packages besides its own whose imports count too.

    Raises:
        BadParameters: when there is no such module on the import path, or its source is not Python.
    """
    if _source(module) is None:
        msg = f"module {module} is not on the import path: install it, or add it to PYTHONPATH"
        raise BadParameters(msg)
    return _digest((module,), follow)


def _digest(modules: Iterable[str], follow: Iterable[str] = ()) -> str:
    return digest_json(sorted(_closure(modules, follow).items()))


def _closure(modules: Iterable[str], follow: Iterable[str]) -> dict[str, str]:
    waiting = list(modules)
    followed = {_PROJECT, *follow, *(name.split(".", 1)[0] for name in waiting)}
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in found or name.split(".", 1)[0] not in followed or _is_steady(name):
            continue
        source = _source(name)
        if source is None:
            continue
        found[name] = sha256_file(source)
        waiting += [name.rpartition(".")[0], *_imports(source, name)]
    return found


def _is_steady(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _STEADY)


def _source(module: str) -> Path | None:
    """The file of a module; None for one that has none, or for a name inside a module."""
    path: list[str] | None = None
    parts = module.split(".")
    for count, part in enumerate(parts, 1):
        spec = _spec(".".join(parts[:count]), path)
        if spec is not None and spec.has_location and spec.origin:
            path = list(spec.submodule_search_locations or ())
            if count == len(parts):
                return Path(spec.origin)
        else:  # a namespace package: folders of that name, without a file of their own
            path = [str(Path(root, part)) for root in (sys.path if path is None else path)]
    return None


def _spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    """What `importlib.util.find_spec` gives, without importing the packages around `name`."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = find(name, path) if find else None
        except KeyError:  # Python looks for the parent of a namespace package among the imported
            continue
        if spec is not None:
            return spec
    return None


def _imports(source: Path, module: str) -> list[str]:
    """The modules, and names that may be modules, that a file imports anywhere in it."""
    if source.suffix != ".py":
        return []  # a compiled module: its bytes count, what it imports cannot be read
    try:
        tree = _parsed(source.read_bytes())
    except (SyntaxError, ValueError) as error:
        msg = f"module {module} ({source}) cannot be read as Python: {error}"
        raise BadParameters(msg) from error
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module, is_package=source.name == "__init__.py")
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _parsed(source: bytes) -> ast.Module:
    """Parse, again where another thread that parses meanwhile confuses CPython 3.11 (gh-106905)."""
    for _ in range(_PARSE_TRIES):
        with suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


def _base(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """What stands behind `from`, with leading dots resolved."""
    base = node.module or ""
    if not node.level:
        return base
    up = node.level - 1 if is_package else node.level
    parent = module.rsplit(".", up)[0] if up else module
    return f"{parent}.{base}" if base else parent
