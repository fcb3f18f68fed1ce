"""The parameters that `search` and `propose` have in common: pydantic only."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slimline.search.space import Space, sources

LIMITS = (
    *("max_latency_ms", "min_speedup", "max_bytes", "max_memory_mb", "max_parameters", "max_macs"),
)


class SearchSettings(BaseModel):
    """What is searched, how, and what a network must keep; see `slimline.search.course`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: Space = Field(
        description="By component, for each parameter a list of choices, such as "
        '{"factory": [...], "prune": {"ratio": [0, 0.5]}, "quantize": {"scheme": [...]}}.'
    )
    algorithm: Literal["tpe", "nsga2"] = Field(
        "tpe", description="What proposes: a Parzen estimator, or a genetic algorithm (NSGA-II)."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the proposals.")
    trials: int = Field(24, ge=1, le=10_000, description="Networks to propose at most.")
    population: int = Field(8, ge=2, le=1000, description="Networks of one generation.")
    epochs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        (2, 8, 24),
        min_length=1,
        max_length=8,
        description="Epochs of the rounds of training; the promising go on to the next round.",
    )
    keep: float = Field(
        0.4, gt=0, le=1, description="Share of a generation that goes on to the next round."
    )
    promote: Literal["front", "accuracy"] = Field(
        "front",
        description="What goes on to the next round: what stands most alone on the front, so that "
        "fast and exact networks stay; or the most accurate, where limits say the rest.",
    )
    max_drop: float = Field(
        0.01, ge=0, le=0.5, description="Largest drop in accuracy: an upper bound must keep it."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of that bound.")
    teacher_accuracy: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Accuracy of the teacher on examples that it never saw: give it where the "
        "selection split was among its training data, as with published weights. Drops are told "
        "from it then, and no longer example by example.",
    )
    max_latency_ms: float | None = Field(
        None, gt=0, description="One call, batch 1, one thread, at most."
    )
    min_speedup: float | None = Field(
        None, gt=0, description="Times faster than the teacher's ONNX, at least; surely so."
    )
    max_bytes: int | None = Field(None, gt=0, description="Size of model.onnx in bytes.")
    max_memory_mb: float | None = Field(None, gt=0, description="Memory the model takes.")
    max_parameters: int | None = Field(None, gt=0, description="Numbers in the network.")
    max_macs: int | None = Field(None, gt=0, description="Multiply-accumulates of one example.")
    rounds: int = Field(
        60, ge=11, le=10_000, description="Rounds of each latency measurement beside the teacher."
    )

    @field_validator("epochs")
    @classmethod
    def _rising(cls, epochs: tuple[int, ...]) -> tuple[int, ...]:
        if any(after <= before for before, after in pairwise(epochs)):
            msg = f"rounds must grow, such as [2, 8, 24]; given {list(epochs)}"
            raise ValueError(msg)
        return epochs

    def search_settings(self) -> SearchSettings:
        """These alone, without what a component has besides."""
        return SearchSettings.model_validate(
            {name: getattr(self, name) for name in SearchSettings.model_fields}
        )

    def what_runs(self) -> dict[str, str]:
        """Digests of the code of the components in the space, for `Component.outside`."""
        factories = [factory for factory in self.space.factory if factory is not None]
        return sources(self.space.components(), factories)
