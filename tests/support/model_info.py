"""What a model of the digits says of itself, for tests that build its network themselves."""

from __future__ import annotations

from slimline.data.preprocess import Preprocessing, Scale, ToNCHW
from slimline.models.info import ModelInfo
from support.splits import LABELS

DIGITS = ModelInfo(
    name="digits",
    stage="teacher",
    format="torch",
    labels=LABELS,
    preprocessing=Preprocessing(shape=(8, 8, 1), dtype="uint8", steps=(Scale(), ToNCHW())),
)
