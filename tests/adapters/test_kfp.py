"""Kubeflow YAML: components and pipelines as golden files, and what holds in all of them.

GOLDEN=write .venv/bin/pytest tests/adapters/test_kfp.py    writes them anew
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from slimline.adapters.cli import cli
from slimline.adapters.form import form_fields
from slimline.adapters.images import Image, ImageLock
from slimline.adapters.kfp import component_yaml, pipeline_yaml
from slimline.contract import BadParameters, Model, Refused, component_names, load_component
from slimline.contract.secrets import secret_variable
from slimline.recipe import load_recipe, plan
from slimline.trust.keys import generate_key
from slimline.trust.verdict import FILE, VerdictRecord, sign_verdict

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "kfp"
DIGITS = """
name: digits
owner: line-7
data: {source: {kind: sklearn, name: digits}}
model: {factory: {call: "slimline.models.zoo:small_cnn", arguments: {classes: 10, channels: 1}}}
train: {epochs: 12}
passes:
  - distill: {factory: {call: "slimline.models.zoo:small_cnn", arguments: {classes: 10}}}
  - prune: {ratio: 0.25}
  - quantize: {scheme: int8-static}
gates: {margin: 0.03, min_shrink: 4}
tasks: {teacher: {gpu: 1, memory: 16Gi, timeout_minutes: 90}}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.delenv("SLIMLINE_RELEASES", raising=False)
    (tmp_path / "digits.yaml").write_text(DIGITS)
    return load_recipe(tmp_path / "digits.yaml")


def parts(text: str) -> tuple[dict, dict]:
    pipeline, platforms = yaml.safe_load_all(text)
    return pipeline, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def same(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{name} changed: GOLDEN=write pytest {__file__}"


def pushed() -> ImageLock:
    def image(name: str) -> Image:
        digest = "sha256:" + "d" * 64
        reference = f"registry.example/slimline-{name}@{digest}"
        return Image(reference=reference, digest=digest, environment="e" * 64, size=1, sbom="s")

    return ImageLock(images={n: image(n) for n in ("data", "torch", "onnx", "ship")})


@pytest.mark.parametrize("name", component_names())
def test_kubeflow_yaml_of_a_component(name):
    text = component_yaml(load_component(name))
    same(name, text)
    document, _ = parts(text)
    component = document["components"][f"comp-{name.replace('_', '-')}"]
    assert document["root"]["inputDefinitions"] == component["inputDefinitions"]


def test_kubeflow_yaml_of_a_recipe(recipe):
    same("pipeline", pipeline_yaml(recipe, lock=pushed(), trusted_keys="slimline-trusted-keys"))


def test_every_step_of_the_plan_is_a_task_and_every_artifact_is_wired(recipe):
    document, _ = parts(pipeline_yaml(recipe))
    tasks = document["root"]["dag"]["tasks"]
    steps = plan(recipe)
    assert set(tasks) == {s.name.replace("_", "-") for s in steps} | {"gate-passed"}
    for step in steps:
        task = tasks[step.name.replace("_", "-")]
        wired = [
            (a["taskOutputArtifact"]["producerTask"], a["taskOutputArtifact"]["outputArtifactKey"])
            for a in task["inputs"].get("artifacts", {}).values()
        ]
        sources = [(s.step.replace("_", "-"), s.output) for v in step.inputs.values() for s in v]
        assert sorted(wired) == sorted(sources)
        assert {producer for producer, _ in wired} <= set(task.get("dependentTasks", ()))


def test_an_input_of_several_artifacts_becomes_numbered_ones(recipe):
    document, _ = parts(pipeline_yaml(recipe))
    artifacts = document["root"]["dag"]["tasks"]["validate"]["inputs"]["artifacts"]
    stages = [n for n in artifacts if n.startswith("stages")]
    assert stages == ["stages_1", "stages_2"]
    arguments = document["deploymentSpec"]["executors"]["exec-validate"]["container"]["args"]
    assert arguments.count("--stages") == 2
    one = component_yaml(load_component("validate"), counts={"stages": 1})
    inputs = parts(one)[0]["root"]["inputDefinitions"]["artifacts"]
    assert set(inputs) == {"baseline", "candidate", "stages_1", "test"}


def test_pipeline_inputs_are_the_fields_of_airflows_form_with_their_defaults(recipe):
    document, _ = parts(pipeline_yaml(recipe))
    inputs = document["root"]["inputDefinitions"]["parameters"]
    for step in plan(recipe):
        for name, value, _ in form_fields(step):
            assert inputs[f"{step.name}.{name}"].get("defaultValue") == value
    assert inputs["teacher.epochs"]["defaultValue"] == 12
    assert inputs["gate.min_shrink"]["defaultValue"] == 4
    assert inputs["gate.max_bytes"] == {
        "parameterType": "NUMBER_INTEGER",
        "description": "Most bytes of model.onnx.",
        "isOptional": True,
    }
    assert "isOptional" not in inputs["push.destination"]


def test_every_input_of_a_task_is_one_of_its_component_and_of_the_pipeline(recipe):
    document, _ = parts(pipeline_yaml(recipe, lock=pushed()))
    known = document["root"]["inputDefinitions"]["parameters"]
    for name, task in document["root"]["dag"]["tasks"].items():
        wanted = document["components"][f"comp-{name}"]["inputDefinitions"]
        for kind in ("artifacts", "parameters"):
            assert set(task["inputs"].get(kind, {})) == set(wanted.get(kind, {}))
        for given in task["inputs"].get("parameters", {}).values():
            assert given["componentInputParameter"] in known


def test_what_no_form_shows_stands_in_the_arguments_with_its_integers(recipe):
    document, _ = parts(pipeline_yaml(recipe))
    arguments = document["deploymentSpec"]["executors"]["exec-teacher"]["container"]["args"]
    factory = json.loads(arguments[arguments.index("--factory") + 1])
    assert factory["arguments"] == {"classes": 10, "channels": 1}
    assert isinstance(factory["arguments"]["classes"], int)
    assert arguments[arguments.index("--stage") + 1] == "teacher"
    assert arguments[arguments.index("--lineage") + 1] == "digits/teacher"


def test_a_refused_model_stops_the_pipeline_before_it_is_packaged(recipe):
    document, _ = parts(pipeline_yaml(recipe))
    tasks = document["root"]["dag"]["tasks"]
    assert "gate-passed" in tasks["package"]["dependentTasks"]
    assert "retryPolicy" not in tasks["gate-passed"]
    container = document["deploymentSpec"]["executors"]["exec-gate-passed"]["container"]
    assert container["command"] == ["slimline", "verdict"]


def test_limits_are_those_of_the_recipe(recipe):
    document, kubernetes = parts(pipeline_yaml(recipe))
    limits = document["deploymentSpec"]["executors"]["exec-teacher"]["container"]["resources"]
    assert limits["resourceMemoryLimit"] == "16Gi"
    assert limits["accelerator"] == {"resourceType": "nvidia.com/gpu", "resourceCount": "1"}
    assert kubernetes["exec-teacher"]["activeDeadlineSeconds"] == "5400"
    assert kubernetes["exec-teacher"]["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize("name", component_names())
def test_a_task_gets_the_secrets_it_declares_by_reference_and_no_other(name):
    kind = load_component(name)
    _, kubernetes = parts(component_yaml(kind))
    told = kubernetes[f"exec-{name.replace('_', '-')}"]["secretAsEnv"]
    variables = [m["envVar"] for secret in told for m in secret["keyToEnv"]]
    own = [v for v in variables if v.startswith("SLIMLINE_SECRET_")]
    assert own == [secret_variable(n) for n in kind.secrets]
    assert ("MLFLOW_TRACKING_PASSWORD" in variables) == kind.needs.network


def test_public_keys_stand_for_the_secret_key_where_they_are_given(recipe):
    _, without = parts(pipeline_yaml(recipe))
    document, given = parts(pipeline_yaml(recipe, trusted_keys="keys"))
    assert without["exec-gate-passed"]["secretAsEnv"]
    assert given["exec-gate-passed"]["secretAsEnv"] == []
    assert given["exec-gate-passed"]["configMapAsVolume"][0]["configMapName"] == "keys"
    container = document["deploymentSpec"]["executors"]["exec-gate-passed"]["container"]
    assert {"name": "SLIMLINE_TRUSTED_KEYS", "value": "/etc/slimline/trusted-keys"} in container[
        "env"
    ]


def test_images_that_only_their_builder_has_are_refused(recipe):
    digest = "sha256:" + "d" * 64
    bare = {n: i.model_copy(update={"reference": digest}) for n, i in pushed().images.items()}
    with pytest.raises(BadParameters, match="make images PUSH=<registry>"):
        pipeline_yaml(recipe, lock=ImageLock(images=bare))


@pytest.mark.parametrize(
    ("counts", "words"),
    [({"nothing": 1}, "has no input 'nothing'"), ({"test": 2}, "takes one artifact, not 2")],
)
def test_a_wrong_count_of_artifacts_is_told(counts, words):
    with pytest.raises(BadParameters, match=words):
        component_yaml(load_component("validate"), counts=counts)


def test_a_verdict_is_read_on_the_command_line_and_a_no_ends_with_its_reasons(
    tmp_path, monkeypatch
):
    private, _ = generate_key()
    monkeypatch.delenv("SLIMLINE_TRUSTED_KEYS", raising=False)
    monkeypatch.setenv("SLIMLINE_SECRET_SIGNING", private)
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")

    def ask(*reasons: str, digest: str = "") -> object:
        record = VerdictRecord(
            passed=not reasons, reasons=reasons, thresholds={}, numbers={}, dataset_digest="d"
        )
        judged = digest or Model.at(model).digest
        (tmp_path / FILE).write_bytes(sign_verdict(record, judged, private))
        return CliRunner().invoke(cli, ["verdict", str(tmp_path), "--model", str(model)])

    assert ask().output.startswith("passed: model ")
    refused = ask("too slow", "too large").exception
    assert isinstance(refused, Refused)
    assert "too slow; too large" in str(refused)
    assert "for other bytes" in str(ask(digest="0" * 64).exception)


def test_the_command_writes_a_component_or_a_recipes_pipeline():
    digits = ROOT / "dags" / "recipes" / "digits.yaml"
    made = CliRunner().invoke(cli, ["kfp", "--recipe", str(digits)], catch_exceptions=False)
    assert parts(made.output)[0]["pipelineInfo"]["name"] == "digits"
    one = CliRunner().invoke(cli, ["kfp", "train", "--input", "initial=1"])
    assert "initial" in parts(one.output)[0]["root"]["inputDefinitions"]["artifacts"]
    assert CliRunner().invoke(cli, ["kfp"]).exit_code == 2
    wrong = CliRunner().invoke(cli, ["kfp", "train", "--input", "initial"])
    assert isinstance(wrong.exception, BadParameters)
