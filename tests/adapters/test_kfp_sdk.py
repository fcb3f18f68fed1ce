"""Kubeflow's own SDK reads what we write, and runs it in Docker; it lives in an environment apart.

kfp needs an older Kubernetes client than Airflow does. Its environment is made once, under build/.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.engine import images

from slimline.adapters.kfp import pipeline_yaml
from slimline.contract import component_names
from slimline.recipe import load_recipe, plan

ROOT = Path(__file__).parents[2]
PINS = ("kfp==2.17.0", "docker==7.2.0")
PROGRAM = ROOT / "tests" / "support" / "kfp_run.py"
TINY = """
name: tiny
owner: tests
data: {source: {kind: sklearn, name: digits}, selection_fraction: 0.1}
model:
  factory:
    call: slimline.models.zoo:small_cnn
    arguments: {classes: 10, channels: 1, widths: [4, 8, 8]}
train: {epochs: 3}
"""

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def kfp():
    """A Python that has kfp; made anew when the pins change."""
    home = ROOT / "build" / f"kfp-{'-'.join(PINS).replace('=', '')}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINS], check=True)
        (home / "ready").touch()
    return python


def ask(kfp: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [kfp, "-P", PROGRAM, *map(str, arguments)]  # not what lies beside the program
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return load_recipe(tmp_path / "tiny.yaml")


def test_kfp_loads_and_compiles_every_component_and_a_whole_pipeline(kfp):
    files = sorted((ROOT / "tests" / "golden" / "kfp").glob("*.yaml"))
    done = ask(kfp, "compile", *files)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {*component_names(), "pipeline"}
    assert "teacher.epochs" in told["pipeline"]["inputs"]
    assert {"gate", "gate-passed", "package"} < set(told["pipeline"]["tasks"])
    executors = [name.replace("exec-", "") for name in told["pipeline"]["platform"]]
    assert executors == told["pipeline"]["tasks"]


@pytest.mark.docker
def test_kfp_runs_a_pipeline_in_docker_with_other_parameters_and_hands_artifacts_on(
    kfp, recipe, tmp_path
):
    text = pipeline_yaml(recipe, steps=plan(recipe)[:3])
    lock = images()
    for name in ("data", "torch"):
        text = text.replace(f"image: slimline-{name}\n", f"image: {lock.image(name).reference}\n")
    (tmp_path / "tiny-pipeline.yaml").write_text(text)
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)  # the containers' user writes there
    given = json.dumps({"teacher.epochs": 1})
    done = ask(kfp, "run", tmp_path / "tiny-pipeline.yaml", root, given)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (exported,) = root.glob("*/export-teacher/exported/model.onnx")
    assert exported.stat().st_size > 1000
    (model,) = root.glob("*/teacher/model/model.json")
    assert json.loads(model.read_text())
    assert '"epochs": 1' in done.stdout
