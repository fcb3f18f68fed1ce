"""What every scheme works on, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slimline.quantize.integer import Form
from slimline.quantize.layers import find_layers
from slimline.quantize.ranges import histograms

if TYPE_CHECKING:
    import onnx

    from slimline.models.quantization import OnnxQuantization
    from slimline.quantize.examples import Drawn, Stream
    from slimline.quantize.layers import Layer
    from slimline.quantize.loss import Judge
    from slimline.quantize.ranges import Histogram
    from slimline.quantize.spec import Quantize

_NARROW = 4
"""Bits up to which rounding to nearest costs accuracy that compensation saves."""


@dataclass(frozen=True)
class Work:
    """One job's float graph, examples and judge."""

    job: Quantize
    original: bytes
    """The float file: what latency and size are compared with."""
    prepared: onnx.ModelProto
    drawn: Drawn
    judge: Judge | None
    """None where there are no examples."""
    learned: OnnxQuantization | None = None

    @cached_property
    def histograms(self) -> dict[str, Histogram]:
        """Of all activations, counted when the first method asks."""
        return histograms(self.prepared, self.drawn.fit)

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers that may be coded: those that are not excluded."""
        return [layer for layer in self.all_layers[0] if layer.name not in self.job.exclude]

    @cached_property
    def all_layers(self) -> tuple[list[Layer], dict[str, str]]:
        """All layers, and the operators left alone with the reason."""
        return find_layers(self.prepared)

    @property
    def form(self) -> Form:
        """The integer form that the parameters ask for."""
        job = self.job
        return Form(job.format, job.activation_type, job.per_channel, job.reduce_range)


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Made:
    """A scheme's result."""

    model: onnx.ModelProto
    words: str
    """What was done, for the model's history."""
    tables: tuple[Table, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    """Why it was done so: sentences."""


def examples_to_round(work: Work, bits: int) -> Stream | None:
    """The examples for compensated rounding; None to round to nearest."""
    asked = work.job.rounding
    wanted = asked == "compensated" or (asked == "auto" and bits <= _NARROW)
    return work.drawn.fit if wanted and len(work.drawn.fit) else None
