"""The walls between rooms, as checks that fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from slimline.contract import component_names, load_component

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "components" / "slimline"
SHARED = {"contract", "coding", "data", "models", "measure", "trust", "fleet"}
ROOMS = sorted(p.parent.name for p in PACKAGE.glob("*/spec.py") if p.parent.name not in SHARED)
HEAVY = {
    *(
        "torch",
        "lightning_fabric",
        "optuna",
        "onnx",
        "onnxruntime",
        "numpy",
        "scipy",
        "pandas",
        "pyarrow",
        "PIL",
    ),
    *("sklearn", "matplotlib", "great_expectations", "boto3", "botocore", "docker", "mlflow"),
    *("airflow", "tuf", "cryptography"),
}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(folder):
    """Which folders of the package a folder's files import."""
    names = {n for f in (PACKAGE / folder).rglob("*.py") for n in imported(f)}
    parts = {tuple(n.split(".")) for n in names if n.startswith("slimline.")}
    return {p[1] for p in parts if (PACKAGE / p[1]).is_dir()}


def blocked(code):
    """Run code in a Python where every heavy module is missing."""
    guard = f"""
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {HEAVY!r}:
            raise ImportError(f'{{name}} is heavy and must not be imported here')
sys.meta_path.insert(0, Wall())
"""
    done = subprocess.run(
        [sys.executable, "-c", guard + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_the_contract_and_shared_packages_and_no_other_room(room):
    assert rooms_of(room) <= SHARED | {room}


@pytest.mark.parametrize("shared", sorted(SHARED))
def test_a_shared_package_imports_no_room(shared):
    allowed = SHARED | ({"adapters"} if shared == "contract" else set())
    assert rooms_of(shared) <= allowed


def test_the_contract_imports_pydantic_and_the_standard_library():
    names = {n.split(".")[0] for f in (PACKAGE / "contract").glob("*.py") for n in imported(f)}
    foreign = names - set(sys.stdlib_module_names) - {"slimline", "pydantic", "pydantic_core"}
    assert foreign == set()


def test_every_room_is_an_installed_component_of_its_own_name():
    assert set(ROOMS) == set(component_names())
    for name in ROOMS:
        assert load_component(name).component_name() == name


def test_every_interface_can_be_read_without_a_heavy_module():
    listed = blocked(
        "from slimline.contract import component_names, load_component\n"
        "import slimline.adapters.cli, slimline.adapters.kfp, slimline.recipe.schema\n"
        "for n in component_names(): print(load_component(n).summary())\n"
        "slimline.recipe.schema.json_schema()"
    )
    assert len(listed.splitlines()) == len(ROOMS)


def test_dag_files_are_short_and_hold_no_logic():
    for file in (ROOT / "dags").glob("*.py"):
        text = file.read_text()
        assert len(text.splitlines()) <= 60, file
        assert not [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.While | ast.ClassDef)]
        own = {n for n in imported(file) if n.startswith("slimline")}
        assert all(n.startswith("slimline.adapters.airflow") for n in own), own


@pytest.mark.parametrize("name", ROOMS)
def test_every_port_and_parameter_of_a_component_is_described(name):
    component = load_component(name)
    ports = {**component.inputs(), **component.outputs()}
    assert [p.name for p in ports.values() if not p.description] == []
    assert [n for n, f in component.parameters().items() if not f.description] == []
    assert component.summary().endswith(".")
