from typing import ClassVar, Literal

from pydantic import Field

from slimline.contract import Component, Input, Output, Report, Resources, output


class Talk(Component):
    """Say some lines, wait, and end as told."""

    image: ClassVar = "base"
    needs: ClassVar = Resources(cpu=1)
    secrets: ClassVar = ("planted",)

    before: Input[Report | None] = Field(None, description="Something to read first.")
    said: Output[Report] = output("The words that were said.")

    words: str = Field("hello", min_length=1, description="What to say.")
    times: int = Field(3, ge=1, le=100, description="How often.")
    seconds: float = Field(0.0, ge=0, le=120, description="How long it takes.")
    ending: Literal["good", "bug", "data", "later", "parameters", "kill"] = Field(
        "good", description="How it ends."
    )
    deaf: bool = Field(default=False, description="Whether SIGTERM is ignored.")
    note: str | None = Field(None, description="Anything.")
    expects_secret: bool = Field(default=False, description="Whether it reads its secret.")
    leaks: bool = Field(default=False, description="Whether it tells its secret.")
