"""Bills of materials, held against CycloneDX's own schema."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from images.inventory import Distribution, Inventory, Package
from images.sbom import write_sbom

IMAGE = "sha256:" + "a" * 64


def distribution(name, version="1.0", licence="MIT", requires=()):
    return Distribution(name=name, version=version, licence=licence, requires=tuple(requires))


def holding(*distributions, packages=(), python="3.11.2"):
    return Inventory(
        python=python,
        system={"ID": "debian", "VERSION_ID": "12"},
        distributions=distributions,
        packages=packages,
    )


HELD = holding(
    distribution("torch", "2.13.0+cpu", "BSD-3-Clause", ["numpy>=2", "triton; extra == 'gpu'"]),
    distribution("numpy", "2.4.6", "A licence in so many words " * 20),
    packages=(Package(name="libc6", version="2.36-9+deb12u13", architecture="amd64"),),
)


def test_the_document_is_valid_and_lists_python_and_system_packages():
    text = write_sbom("torch", IMAGE, HELD)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["bom-ref"]: part for part in json.loads(text)["components"]}
    assert parts["pkg:pypi/torch@2.13.0%2Bcpu"]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert "licenses" not in parts["pkg:pypi/numpy@2.4.6"]  # a text is no name
    (libc,) = (ref for ref in parts if "/libc6@" in ref)
    assert libc.startswith("pkg:deb/debian/libc6@2.36-9")
    assert parts["system"]["version"] == "12"


def test_the_document_says_what_needs_what():
    links = {
        d["ref"]: d.get("dependsOn", [])
        for d in json.loads(write_sbom("torch", IMAGE, HELD))["dependencies"]
    }
    assert links["pkg:pypi/torch@2.13.0%2Bcpu"] == ["pkg:pypi/numpy@2.4.6"]
    assert len(links["image"]) == 4


def test_an_image_s_document_is_the_same_each_time():
    assert write_sbom("torch", IMAGE, HELD) == write_sbom("torch", IMAGE, HELD)


@pytest.mark.parametrize(
    "other",
    [
        holding(distribution("numpy", "2.4.7")),
        holding(distribution("numpy", "2.4.6"), distribution("six")),
        holding(distribution("numpy", "2.4.6"), python="3.11.3"),
        holding(
            distribution("numpy", "2.4.6"),
            packages=(Package(name="libc6", version="1", architecture="amd64"),),
        ),
    ],
)
def test_the_environment_s_digest_tells_every_change_of_what_is_installed(other):
    assert other.environment != holding(distribution("numpy", "2.4.6")).environment


def test_what_was_compiled_here_is_marked_and_makes_another_environment():
    numpy = distribution("numpy", "2.4.6")
    compiled = numpy.model_copy(update={"compiled": True})
    (mark,) = (
        part["properties"]
        for part in json.loads(write_sbom("device", IMAGE, holding(compiled)))["components"]
        if part["name"] == "numpy"
    )
    assert mark == [{"name": "slimline:compiled", "value": "from source"}]
    assert holding(compiled).environment != holding(numpy).environment


def test_slimline_s_own_version_is_no_part_of_the_environment():
    alone = holding(distribution("numpy"))
    assert (
        holding(distribution("numpy"), distribution("slimline", "9")).environment
        == alone.environment
    )
