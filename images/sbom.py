"""Bills of materials, CycloneDX 1.6 as JSON: Python's distributions and the system's packages."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slimline.contract import BadData

if TYPE_CHECKING:
    from images.inventory import Distribution, Inventory, Package

_LICENCE_LENGTH = 200
"""Some distributions have the whole text where the name of their licence belongs."""


def write_sbom(name: str, image: str, held: Inventory) -> str:
    """The document of one image as JSON text; it differs only with what the image holds.

    Args:
        name: of the image.
        image: its id, `sha256:...`.
        held: what is installed in it.

    Raises:
        BadData: when the document does not follow CycloneDX's schema.
    """
    root = Component(
        name=f"slimline-{name}",
        type=ComponentType.CONTAINER,
        version=image,
        bom_ref="image",
        properties=[Property(name="slimline:environment", value=held.environment)],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, image))
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.fromtimestamp(0, UTC)
    python = {d.name: _distribution(d) for d in held.distributions}
    parts = [_system(held), *python.values(), *(_package(p, held) for p in held.packages)]
    bom.components.update(parts)
    bom.register_dependency(root, parts)
    for distribution in held.distributions:
        needs = [python[n] for n in _needed(distribution) if n in python]
        bom.register_dependency(python[distribution.name], needs)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        msg = f"the bill of materials of {name} is not valid CycloneDX 1.6: {problem}"
        raise BadData(msg)
    return text + "\n"


def _system(held: Inventory) -> Component:
    return Component(
        name=held.system.get("ID", "linux"),
        version=held.system.get("VERSION_ID"),
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="system",
    )


def _distribution(held: Distribution) -> Component:
    licences = LicenseFactory()
    known = held.licence and len(held.licence) < _LICENCE_LENGTH
    url = PackageURL("pypi", name=held.name, version=held.version)
    return Component(
        name=held.name,
        version=held.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=str(url),
        licenses=[licences.make_from_string(held.licence)] if known else None,
        properties=[Property(name="slimline:compiled", value="from source")]
        if held.compiled
        else None,
    )


def _package(held: Package, image: Inventory) -> Component:
    system = image.system.get("ID", "linux")
    distro = f"{system}-{image.system.get('VERSION_ID', '')}"
    url = PackageURL(
        "deb", system, held.name, held.version, {"arch": held.architecture, "distro": distro}
    )
    return Component(
        name=held.name,
        version=held.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=str(url),
    )


def _needed(distribution: Distribution) -> list[str]:
    """The names a distribution asks for, its extras left out."""
    asked = [Requirement(text) for text in distribution.requires]
    wanted = [r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    return sorted({canonicalize_name(r.name) for r in wanted})
