"""The device's image, whose NumPy is one of its own: without BLAS, and equal to the last bit."""

import json
from pathlib import Path

import pytest
from support import device_numpy
from support.engine import ROOT, engine, images

from .conftest import HARDENED

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def told():
    """What a container of the image says about its files and its NumPy."""
    output = engine().containers.run(
        images().image("device").reference,
        entrypoint=["python", "-c", Path(device_numpy.__file__).read_text()],
        remove=True,
        **HARDENED,
    )
    return json.loads(output.splitlines()[-1])


def test_a_device_holds_no_blas_library(told):
    assert told["files"] > 1000
    assert told["blas"] == []
    assert told["built"] == {"blas": "none", "lapack": "none"}


def test_products_and_decompositions_work_without_it(told):
    found, product = told["products"], [[28.0, 34.0], [76.0, 98.0], [124.0, 162.0]]
    assert found["matmul"] == found["single"] == found["einsum"] == product
    assert found["dot"] == 38.0
    assert found["inverse"] == [pytest.approx([1, 0], abs=1e-12), pytest.approx([0, 1], abs=1e-12)]
    assert found["eigenvalues"] == pytest.approx([7 - 10**0.5, 7 + 10**0.5], rel=1e-12)


def test_a_device_preprocesses_and_decodes_as_this_machine_does_to_the_last_bit(told):
    assert told["computed"] == device_numpy.computed()


def test_the_bill_of_materials_marks_the_numpy_that_was_compiled():
    bill = json.loads((ROOT / "images" / images().image("device").sbom).read_text())
    compiled = {
        part["name"]: part["version"] for part in bill["components"] if "properties" in part
    }
    assert list(compiled) == ["numpy"]
    assert f"numpy=={compiled['numpy']}\n" in (ROOT / "requirements.lock").read_text()
