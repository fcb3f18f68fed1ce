"""The package that is served: verified, proven on its golden examples, loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.contract.artifact import digest_tree
from slimline.measure import runtime
from slimline.trust.golden import open_model, prove
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from slimline.models.info import ModelInfo


@dataclass(frozen=True)
class Prediction:
    """What the model says about a batch."""

    logits: NDArray[np.float32]
    """(batch, classes)."""
    probabilities: NDArray[np.float32]
    """(batch, classes): softmax of the logits."""
    labels: tuple[str, ...]
    """(batch): the label of the largest logit."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded model with what it says of itself; `predict` may be called from many threads."""

    name: str
    version: str
    digest: str
    """Digest of the package."""
    model_digest: str
    info: ModelInfo
    session: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one raw example."""
        return self.info.preprocessing.shape

    @property
    def dtype(self) -> str:
        """Type of a raw example: uint8 or float32."""
        return self.info.preprocessing.dtype

    def predict(self, raw: NDArray[np.generic]) -> Prediction:
        """Preprocess a batch of raw examples and predict.

        Raises:
            BadData: on another shape or dtype, on NaN, on a batch without examples.
        """
        import numpy as np

        logits = runtime.logits(self.session, self.info.preprocessing.apply(raw))
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        labels = tuple(self.info.labels[i] for i in logits.argmax(axis=1))
        return Prediction(logits, probabilities, labels)


def load_package(root: Path, threads: int = 1) -> ServedModel:
    """Verify a package and load its model once, from the bytes that were verified.

    Raises:
        Refused: when it does not verify, cannot be loaded or fails its golden examples.
    """
    manifest = verify_package(root, load_trusted())
    model = open_model(root, manifest, threads)
    prove(model, root, manifest)
    return ServedModel(
        name=manifest.name,
        version=manifest.version,
        digest=digest_tree(root),
        model_digest=manifest.model_digest,
        info=model.info,
        session=model.session,
    )
