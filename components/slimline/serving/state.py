"""What one server knows: its model or why there is none, whether it drains, and its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.serving.http import HttpError
from slimline.serving.metrics import Metrics

if TYPE_CHECKING:
    from slimline.serving.model import ServedModel


class State:
    """Changed by the event loop's thread alone."""

    def __init__(self) -> None:
        """Start without a model."""
        self.model: ServedModel | None = None
        self.draining = False
        self.metrics = Metrics()
        self._why_no_model = "the package is being verified and loaded"

    @property
    def reason(self) -> str:
        """Why no request should come here now; "" when the server is ready."""
        if self.draining:
            return "the server was told to stop and is draining"
        return "" if self.model else self._why_no_model

    def refuse(self, why: str) -> None:
        """There will be no model."""
        self._why_no_model = why

    def require_model(self) -> ServedModel:
        """The model; 503 with the reason when there is none."""
        if self.model is None:
            raise HttpError(503, self._why_no_model, retry=True)
        return self.model

    def describe(self) -> dict[str, str] | None:
        """The labels that tell the served package in the metrics."""
        if self.model is None:
            return None
        return {
            "name": self.model.name,
            "version": self.model.version,
            "package_digest": self.model.digest,
            "model_digest": self.model.model_digest,
        }
