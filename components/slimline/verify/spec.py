"""What is verified, and what the receipt says."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import Access, Component, Input, Output, Package, Receipt, Resources, output


class Verify(Component):
    """Verify a package as an endpoint or a device would, golden inputs included."""

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(cpu=1, memory="2Gi", timeout_minutes=10)
    cached: ClassVar[bool] = False
    access: ClassVar[tuple[Access, ...]] = (Access("releases", "read", "artifacts/*"),)

    package: Input[Package] = Field(description="The package to verify.")
    receipt: Output[Receipt] = output("What was verified, by which keys' leave.")

    threads: int = Field(1, ge=1, le=64, description="Threads of ONNX Runtime.")
