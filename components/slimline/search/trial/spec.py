"""The interface of one trial."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slimline.contract import (
    Access,
    Component,
    Dataset,
    Evaluation,
    Input,
    Model,
    Output,
    Resources,
    output,
)
from slimline.models.info import Factory
from slimline.search.space import ChainStep, sources


class Trial(Component):
    """Run a chain of components on a teacher, and measure the network that comes out.

    Its limits and budgets are not known here: the same measurement serves every search.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    teacher: Input[Model] = Field(description="The torch model that the chain starts from.")
    baseline: Input[Model] = Field(description="The teacher's ONNX: latency is told beside it.")
    train: Input[Dataset] = Field(description="The training split.")
    selection: Input[Dataset] = Field(description="The split that accuracy is measured on.")
    baseline_result: Input[Evaluation | None] = Field(
        None, description="The result of the baseline's own trial, which accuracy is paired with."
    )
    result: Output[Evaluation] = output("What was measured: trial.json.")

    chain: tuple[ChainStep, ...] = Field(
        (), description="Components with their parameters, in order; none is the baseline's trial."
    )
    epochs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        (),
        description="Rounds of training, the last one counts; none measures the untrained network.",
    )
    rounds: int = Field(60, ge=11, le=10_000, description="Rounds of the latency measurement.")
    memory: bool = Field(default=False, description="Measure memory as well.")

    def outside(self) -> dict[str, str]:
        """The code of the components that it runs, and of factories of your own, as it is now."""
        names = {step.component for step in self.chain}
        named = [step.parameters.get("factory") for step in self.chain]
        factories = [Factory.model_validate(value) for value in named if value]
        return sources(sorted(names), factories)
