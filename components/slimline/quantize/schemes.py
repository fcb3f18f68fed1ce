"""The schemes by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.quantize.dynamic import int8_dynamic
from slimline.quantize.half import half_weights
from slimline.quantize.listed import listed_weights
from slimline.quantize.mixed import mixed
from slimline.quantize.planner import planned
from slimline.quantize.static import int8_static
from slimline.quantize.step import step_weights
from slimline.quantize.weights4 import int4_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slimline.quantize.work import Made, Work

SCHEMES: Mapping[str, Callable[[Work], Made]] = {
    "int8-static": int8_static,
    "int8-dynamic": int8_dynamic,
    "int8": planned,
    "mixed": mixed,
    "int4-weights": int4_weights,
    "fp16": half_weights,
    "bf16": half_weights,
    "kmeans": listed_weights,
    "power-of-two": listed_weights,
    "step": step_weights,
}
