"""How far a model is from the float one, on examples that chose nothing yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.measure.intervals import tango_upper
from slimline.measure.runtime import logits, session

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.examples import Stream


@dataclass(frozen=True)
class Loss:
    """Differences from the float model."""

    value: float
    """Mean Kullback-Leibler divergence of the class probabilities, in nats; with one output, the
    squared error over the float answers' variance."""
    agreement: float
    """Share of examples with the same class."""
    drop: float
    """Accuracy of the float model less this one's, on the same labels."""
    upper_bound: float
    """One-sided 95 % bound of the drop, paired."""


class Judge:
    """Compares models with the float one on one set of examples; keeps the float answers alone."""

    def __init__(self, float_model: bytes, stream: Stream, what: str = "the model") -> None:
        self._stream = stream
        self._expected = self._answers(float_model, what)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._stream)

    def loss(self, model: onnx.ModelProto | bytes) -> Loss:
        """Run a model and compare.

        Raises:
            BadData: when ONNX Runtime cannot load it, or it answers NaN.
        """
        data = model if isinstance(model, bytes) else model.SerializeToString()
        got, expected, y = self._answers(data, "the result"), self._expected, self._stream.y
        right = [answers.argmax(1) == y for answers in (expected, got)]
        lost, won = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        return Loss(
            value=divergence(expected, got),
            agreement=float((expected.argmax(1) == got.argmax(1)).mean()),
            drop=(lost - won) / len(y),
            upper_bound=tango_upper(lost, won, len(y)),
        )

    def _answers(self, data: bytes, what: str) -> NDArray[np.float32]:
        import numpy as np

        loaded = session(data)
        return np.concatenate([logits(loaded, x, what=what) for x in self._stream.batches()])


def divergence(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Mean KL(softmax(expected) || softmax(got)), in nats; both of shape (examples, classes)."""
    import numpy as np

    if expected.shape[1] == 1:
        return float(((expected - got) ** 2).mean() / max(float(expected.var()), 1e-12))
    p, q = (_log_softmax(answers.astype(np.float64)) for answers in (expected, got))
    return float((np.exp(p) * (p - q)).sum(1).mean())


def _log_softmax(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    shifted = answers - answers.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
