"""Golden inputs as one request to an endpoint, and the check of what comes back."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from slimline.contract import BadData
from slimline.models.info import load_model_info
from slimline.trust.golden import load_golden

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from slimline.trust.manifest import PackageManifest

CONTENT_TYPE = "application/x-npy"


class GoldenAnswer(BaseModel):
    """The golden request, as the endpoint answered it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: int
    """Examples that were asked."""
    difference: float
    """Largest absolute difference between a logit and the expected one."""
    tolerance: float
    label: str
    """What the model said of the first example."""
    probability: float
    """How sure it was."""


@dataclass(frozen=True)
class GoldenRequest:
    """A body for `/invocations`, and what the answer must say."""

    body: bytes
    expected: NDArray[np.float32]
    """Logits, (count, classes)."""
    tolerance: float

    def check(self, answer: bytes, who: str) -> GoldenAnswer:
        """Compare an answer with what was expected.

        Raises:
            BadData: when it is no answer, or its logits are further off than the tolerance.
        """
        import numpy as np

        try:
            rows: list[dict[str, Any]] = json.loads(answer)["predictions"]
            logits = np.array([row["logits"] for row in rows], np.float64)
            first = rows[0]["label"], max(rows[0]["probabilities"])
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            msg = f"{who} answered its golden request with {answer[:200]!r}: no predictions"
            raise BadData(msg) from error
        if logits.shape != self.expected.shape:
            msg = f"{who} gave logits {list(logits.shape)}, expected {list(self.expected.shape)}"
            raise BadData(msg)
        difference = float(np.abs(logits - self.expected).max())
        if not difference <= self.tolerance:
            msg = (
                f"{who} gave other logits than the package expects: they differ by "
                f"{difference:.4g}, at most {self.tolerance:.4g} is right"
            )
            raise BadData(msg)
        return GoldenAnswer(
            count=len(rows),
            difference=difference,
            tolerance=self.tolerance,
            label=first[0],
            probability=first[1],
        )


def golden_request(root: Path, manifest: PackageManifest) -> GoldenRequest:
    """The golden request of a package that was verified."""
    import numpy as np

    x, expected = load_golden(root, manifest, load_model_info(root / "model"))
    body = io.BytesIO()
    np.save(body, x)
    return GoldenRequest(body.getvalue(), expected, manifest.golden.tolerance)
