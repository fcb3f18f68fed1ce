from typing import ClassVar

from pydantic import Field

from slimline.contract import Component, Input, Output, Report, output


class Passes(Component):
    """Give a verdict on what was said; it acts outside, so it runs each time."""

    cached: ClassVar = False

    heard: Input[tuple[Report, ...]] = Field(description="What was said.")
    judged: Output[Report] = output("The judgement.")

    verdict: bool | None = Field(default=True, description="The verdict to give; None gives none.")
