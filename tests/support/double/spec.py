"""Doubles the number in a file; can be slow, fail or wait, as a parameter says."""

from typing import ClassVar, Literal

from pydantic import Field

from slimline.contract import Component, Dataset, Input, Model, Output, Resources, output


class Double(Component):
    """Double the number that an artifact holds."""

    image: ClassVar[str] = "base"
    needs: ClassVar[Resources] = Resources(cpu=1, memory="256Mi")
    secrets: ClassVar[tuple[str, ...]] = ("planted",)

    number: Input[Dataset] = Field(description="A file `number.txt`.")
    extra: Input[tuple[Dataset, ...]] = Field((), description="More of them, added up.")
    doubled: Output[Model] = output("A file `number.txt` with twice the number.")

    times: int = Field(2, ge=1, le=10, description="How many times.")
    way: Literal["good", "nan", "bug", "bad-data", "later"] = Field("good", description="How.")
    seconds: float = Field(0.0, ge=0, le=60, description="How long it takes.")
    note: str | None = Field(None, description="Something to remember.")
    weights: tuple[float, ...] = Field((1.0,), description="Some numbers.")
