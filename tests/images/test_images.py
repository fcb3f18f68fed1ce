"""What is in the images, asked of the images."""

import json

import pytest
from images.plan import NAMES
from support.engine import ROOT, engine, images

from slimline.contract import component_names, load_component

pytestmark = pytest.mark.docker

TARGETS = {"torch": 900, "onnx": 300, "serving": 190, "device": 150}
"""Megabytes, on the stand-in base image or one as small."""


def test_there_is_a_folder_for_the_image_of_every_component():
    assert {load_component(name).image for name in component_names()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_a_user_without_rights(ask, name):
    assert ask(name)["user"] == [65532, 65532]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_neither_pip_nor_a_compiler(ask, name):
    assert (ask(name)["tools"], ask(name)["pip"]) == ([], [])


@pytest.mark.parametrize("name", NAMES)
def test_an_image_works_on_a_read_only_root(ask, name):
    refused = {path for path, problem in ask(name)["writes"].items() if problem}
    assert refused == {"/", "/opt/venv", "/work"}  # /work is a volume when a job runs


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("serving", "device", "airflow")])
def test_every_component_finds_what_its_work_imports_in_its_image(ask, name):
    assert set(ask(name)["components"].values()) <= {""}
    missing = {module: problem for module, problem in ask(name)["modules"].items() if problem}
    assert missing == {}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_sends_no_telemetry_and_has_the_command_line(ask, name):
    assert ask(name)["telemetry"] == "1"
    assert ask(name)["slimline"] == "/opt/venv/bin/slimline"


def test_torch_is_in_the_torch_image_and_not_where_airflow_is(ask):
    assert ask("torch")["torch"] == ""
    assert "No module named 'torch'" in ask("airflow")["torch"]


def test_a_fresh_volume_at_work_belongs_to_the_user():
    client, image = engine(), images().image("base").reference
    volume = client.volumes.create()
    try:
        script = "open('/work/x', 'w').write('kept')"
        place = {volume.name: {"bind": "/work", "mode": "rw"}}
        client.containers.run(
            image, entrypoint=["python", "-c", script], volumes=place, remove=True
        )
    finally:
        volume.remove()


@pytest.mark.parametrize("name", NAMES)
def test_the_lock_names_an_image_that_is_there_with_its_size_and_labels(name):
    locked = images().image(name)
    there = engine().images.get(locked.reference)
    assert there.attrs["Size"] == locked.size
    assert there.labels["org.opencontainers.image.title"] == f"slimline-{name}"
    assert there.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert there.labels["org.opencontainers.image.version"]
    assert there.labels["org.opencontainers.image.base.digest"].startswith("sha256:")


@pytest.mark.parametrize("name", TARGETS)
def test_an_image_is_smaller_than_its_target(name):
    built_on = engine().images.get(images().image("base").reference).attrs["Size"] / 1e6
    allowance = max(0, built_on - 100)  # python:3.11-slim is larger than our stand-in
    assert images().image(name).size / 1e6 < TARGETS[name] + allowance


def test_images_share_their_first_layers():
    layers = {
        n: engine().images.get(images().image(n).reference).attrs["RootFS"]["Layers"] for n in NAMES
    }
    shared = [layers[n] for n in ("torch", "onnx", "ship", "serving", "device")]
    runtime = [layer for layer in layers["device"] if all(layer in other for other in shared)]
    assert len(runtime) >= 3  # base image, dependencies, runtime
    assert all(layers[n][0] == layers["base"][0] for n in NAMES)


def test_the_bill_of_materials_of_an_image_lists_what_is_in_it():
    bill = json.loads((ROOT / "images" / images().image("torch").sbom).read_text())
    held = {part["purl"] for part in bill["components"] if "purl" in part}
    assert any(url.startswith("pkg:pypi/torch@2.13.0") for url in held)
    assert any(url.startswith("pkg:deb/debian/libc6@") for url in held)
    assert any(url.startswith("pkg:pypi/slimline@") for url in held)
    assert bill["metadata"]["component"]["version"] == images().image("torch").digest
