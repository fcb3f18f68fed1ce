"""The images as they are in the engine, each asked once what it is."""

from __future__ import annotations

import ast
import json
from functools import cache

import pytest
from support.engine import ROOT, engine, images

from slimline.contract import component_names, load_component

HARDENED = {
    "network_mode": "none",
    "read_only": True,
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the container's own
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
TOOLS = ("pip", "pip3", "gcc", "g++", "cc", "c++", "clang", "ld", "as", "make", "cargo")

PLACES = ("/", "/opt/venv", "/tmp", "/work")  # noqa: S108 - the container's own
_ASK = r"""
import importlib, importlib.util, json, os, shutil, subprocess, sys
tools, places, components, modules = json.loads(sys.argv[1])
def outcome(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
def write(path):
    with open(path, "w") as file:
        file.write("x")
from slimline.contract import load_component
system = os.path.realpath(sys.executable)
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "tools": [tool for tool in tools if shutil.which(tool)],
    "pip": [p for p in (sys.executable, system)
            if subprocess.run([p, "-c", "import pip"], capture_output=True).returncode == 0],
    "writes": {p: outcome(lambda: write(f"{p}/probe")) for p in places},
    "components": {c: outcome(load_component(c).work) for c in components},
    "modules": {m: outcome(lambda m=m: importlib.import_module(m)) for m in modules},
    "torch": outcome(lambda: importlib.import_module("torch")),
    "telemetry": os.environ.get("ORT_DISABLE_TELEMETRY"),
    "slimline": shutil.which("slimline"),
    "compiled": os.path.isfile(importlib.util.cache_from_source(json.__file__)),
}))
"""


def imported_by(room):
    """All that a room's files import anywhere, also inside functions and by name; no types."""
    for file in (ROOT / "components" / "slimline" / room).glob("*.py"):
        tree = ast.parse(file.read_text())
        typing = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in typing:
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield from (a.value for a in node.args if isinstance(a, ast.Constant))


@pytest.fixture(scope="session")
def ask():
    """A function: name of an image -> what a hardened container of it tells about itself."""
    client, lock = engine(), images()

    @cache
    def told(name):
        components = [c for c in component_names() if load_component(c).image == name]
        modules = sorted({module for c in components for module in imported_by(c)})
        output = client.containers.run(
            lock.image(name).reference,
            entrypoint=["python", "-c", _ASK, json.dumps([TOOLS, PLACES, components, modules])],
            remove=True,
            **HARDENED,
        )
        return json.loads(output.splitlines()[-1])

    return told
