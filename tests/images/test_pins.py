"""Which distributions an image gets, read from the project's own files."""

import pytest
from images import pins
from images.plan import NAMES, final_tag, plan_layers

from slimline.contract import BadParameters

BASE = "sha256:" + "0" * 64


def test_pins_are_the_versions_of_the_lock():
    locked = dict(
        line.split("==")
        for line in (pins.ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    found = pins.pins_of(["onnx"])
    assert found["onnx"] == locked["onnx"]
    assert found["protobuf"] == locked["protobuf"]  # needed by onnx, not named by us


def test_an_extra_brings_what_it_names_and_what_that_needs():
    device = pins.pins_of(["device"])
    assert {"pydantic", "tuf", "securesystemslib", "cryptography", "onnxruntime"} <= set(device)
    assert not {"torch", "boto3", "apache-airflow"} & set(device)
    assert "docker" in pins.pins_of(["ship"])  # by slimline[docker]


def test_airflow_s_image_holds_no_torch_and_no_numpy():
    airflow = pins.pins_of(["airflow"])
    assert {"apache-airflow", "celery", "kubernetes", "docker"} <= set(airflow)
    assert not {"torch", "numpy", "pandas", "onnxruntime"} & set(airflow)


def test_a_version_that_differs_from_the_lock_is_told_with_its_cure(monkeypatch):
    monkeypatch.setattr(pins, "_locked", lambda: {"pydantic": "1.0"})
    with pytest.raises(BadParameters, match=r"pydantic .* requirements\.lock says 1\.0: run `make"):
        pins.pins_of([])


def test_a_distribution_that_is_not_installed_is_told():
    with pytest.raises(BadParameters, match="no-such-thing is not installed"):
        pins.pins_of([], "no-such-thing")


def test_an_image_s_own_layer_holds_nothing_that_its_parent_has():
    layers = plan_layers(NAMES, BASE)
    for layer in layers.values():
        if layer.parent:
            assert not set(layer.pins) & set(layer.parent.all_pins)
    assert layers["torch"].parent == layers["serving"].parent == layers["numpy"]
    assert layers["numpy"].parent == layers["device"].parent == layers["runtime"]


def test_a_new_version_gives_a_new_tag_to_that_image_alone(monkeypatch):
    before = plan_layers(("onnx", "serving"), BASE)
    real = pins._version
    monkeypatch.setattr(pins, "_version", lambda n, k: "9.9" if n == "matplotlib" else real(n, k))
    after = plan_layers(("onnx", "serving"), BASE)
    assert after["onnx"].tag != before["onnx"].tag
    assert after["serving"].tag == before["serving"].tag


def test_new_code_gives_a_new_image_on_the_same_layers():
    layer = plan_layers(("onnx",), BASE)["onnx"]
    assert final_tag(layer, "a" * 64) != final_tag(layer, "b" * 64)


def test_another_base_image_gives_other_layers():
    other = "sha256:" + "1" * 64
    assert plan_layers(("onnx",), BASE)["onnx"].tag != plan_layers(("onnx",), other)["onnx"].tag


def test_a_name_without_a_folder_is_told_with_those_that_have_one():
    with pytest.raises(BadParameters, match=r"image 'tensorflow' has no folder.*airflow, base"):
        plan_layers(("tensorflow",), BASE)
