"""What a push takes: a package and where it goes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import Access, Component, Input, Output, Package, Receipt, Resources, output


class Push(Component):
    """Verify a package and store it in S3 under its digest; it is there whole, or not at all.

    A package that does not verify is refused and nothing is written. Pushing again what is there
    already writes nothing and checks it again.
    """

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(network=True, timeout_minutes=60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("releases", "read", "artifacts/*"),
        Access("releases", "write", "artifacts/*"),
        Access("releases", "delete", "artifacts/*.json"),  # of a damaged one, to replace it
    )

    package: Input[Package] = Field(description="The signed package.")
    receipt: Output[Receipt] = output("Where it lies: uri, digest, bytes, files.")

    destination: str = Field(
        min_length=1, description="The store it goes to: s3://bucket/prefix, or a local path."
    )
