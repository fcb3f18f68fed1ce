"""The code digest: which source a component's result depends on, found by following imports.

It covers every module of this project that `run.py` imports, directly or through others, at any
depth, read from the source without importing it. So a change in a helper that two rooms share
makes both run again, and a change elsewhere makes none.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract.artifact import digest_json, sha256_file

if TYPE_CHECKING:
    from slimline.contract.component import Component

_STEADY = ("slimline.contract.", "slimline.adapters.")
"""How a job is started and recorded does not change what it makes."""


@cache
def code_digest(component: type[Component]) -> str:
    """Hex sha256 over the (module name, sha256 of source) pairs a component's work is made of."""
    room = component.__module__.rsplit(".", 1)[0]
    return digest_json(sorted(_closure(room).items()))


def _closure(room: str) -> dict[str, str]:
    package = room.split(".", 1)[0]
    found: dict[str, str] = {}
    waiting = [f"{room}.spec", f"{room}.run"]
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if name in found or source is None:
            continue
        found[name] = sha256_file(source)
        waiting += [
            imported
            for imported in _imports(source, name)
            if imported.split(".", 1)[0] == package and not imported.startswith(_STEADY)
        ]
    return found


def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imports(source: Path, module: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.rsplit(".", node.level)[0]
                base = f"{parent}.{base}" if base else parent
            names.append(base)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names
