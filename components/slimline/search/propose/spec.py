"""The interface of propose."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import Component, Evaluation, Input, Output, Report, output
from slimline.search.settings import SearchSettings


class Propose(SearchSettings, Component):
    """Say which trials a search runs next, given what all trials so far have measured."""

    image: ClassVar[str] = "torch"

    baseline_result: Input[Evaluation] = Field(
        description="The result of the baseline's own trial."
    )
    results: Input[tuple[Evaluation, ...]] = Field(
        default=(), description="What all trials so far have measured."
    )
    batch: Output[Report] = output("The trials: trials.json; they are in the numbers too.")

    def outside(self) -> dict[str, str]:
        """The code of the components in the space, as it is now: its trials are checked by it."""
        return self.what_runs()
