"""The interface of search."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slimline.contract import (
    Access,
    Component,
    Dataset,
    Input,
    Model,
    Output,
    Report,
    Resources,
    output,
)
from slimline.contract.code import code_digest
from slimline.search.settings import SearchSettings
from slimline.search.trial.spec import Trial


class Search(SearchSettings, Component):
    """Find the networks that trade accuracy, latency and bytes best, and choose one.

    Limits are checked on the untrained network first, its latency measured beside the teacher's;
    what keeps them is trained in rounds of growing epochs, of which the better part goes on:
    successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943). Proposals are those of
    optuna: the tree-structured Parzen estimator (Bergstra et al. 2011; for several objectives Ozaki
    et al. 2020) or NSGA-II (Deb et al. 2002).
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    teacher: Input[Model] = Field(description="The torch model to be replaced.")
    train: Input[Dataset] = Field(description="The training split.")
    selection: Input[Dataset] = Field(description="The split that chooses; never the test split.")
    front: Output[Report] = output("The front, all trials, and why some were left out.")
    chosen: Output[Model] = output("The chosen network as model.onnx.")
    chosen_torch: Output[Model] = output("The torch model that it was exported from.")

    prefer: Literal["speed", "size", "accuracy"] = Field(
        "speed", description="What decides between the networks that keep everything."
    )
    minutes: float = Field(
        60,
        gt=0,
        le=14 * 24 * 60,
        description="Wall-clock time for all tries together; then no further step is begun.",
    )

    def outside(self) -> dict[str, str]:
        """The code of the components that it runs, and of factories of your own, as it is now."""
        return {"code of trial": code_digest(Trial), **self.what_runs()}
