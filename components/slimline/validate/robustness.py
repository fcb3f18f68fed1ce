"""Does the candidate bear noise, blur and the like as the baseline does? Paired, on both alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slimline.contract import get_logger, progress
from slimline.measure.bootstrap import BOOTSTRAP, paired_bound
from slimline.measure.evaluation import Condition, Shift
from slimline.measure.metric import mean_of
from slimline.measure.metrics import find_metric
from slimline.measure.runtime import answer
from slimline.validate.answers import batches
from slimline.validate.corruptions import CORRUPTIONS, SEVERITIES, corrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.dataset import Examples
    from slimline.validate.spec import Validate
    from slimline.validate.stages import Stage

log = get_logger(__name__)
_AXES = 4
CONDITIONS = tuple((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)


def measure_robustness(
    job: Validate, baseline: Stage, candidate: Stage, examples: Examples
) -> Shift | None:
    """Accuracy under each corruption; the drop is that of its mean, with a bootstrap's bound.

    Returns:
        None where it is turned off, or the examples are no images.
    """
    if job.robustness_examples == 0 or examples.x.dtype != "uint8" or examples.x.ndim != _AXES:
        log.info("robustness is not measured: it is turned off, or the examples are no images")
        return None
    first, last = right_when_corrupted((baseline, candidate), examples, job)
    accuracy = find_metric("accuracy", len(examples.info.labels))
    metric = replace(accuracy, values=_mean, binary=False, discrete=True)
    bound = paired_bound(
        metric,
        first,
        last,
        confidence=job.confidence,
        resamples=job.resamples,
        seed=job.seed,
    )
    return Shift(
        method=BOOTSTRAP,
        confidence=job.confidence,
        baseline=float(first.mean()),
        candidate=float(last.mean()),
        drop=bound.drop,
        upper_bound=bound.upper,
        examples=len(first),
        conditions=tuple(
            Condition(
                corruption=name,
                severity=severity,
                baseline=float(first[:, i].mean()),
                candidate=float(last[:, i].mean()),
            )
            for i, (name, severity) in enumerate(CONDITIONS)
        ),
    )


def right_when_corrupted(
    stages: tuple[Stage, ...], examples: Examples, job: Validate
) -> list[NDArray[np.float64]]:
    """For each model, whether it is right: float64 (examples, conditions).

    At most `robustness_examples` are taken, evenly over the split.
    """
    import numpy as np

    chosen = np.unique(
        np.linspace(0, len(examples) - 1, min(job.robustness_examples, len(examples))).astype(int)
    )
    found = [np.zeros((len(chosen), len(CONDITIONS))) for _ in stages]
    step = next(iter(batches(examples))).stop
    starts = range(0, len(chosen), step)
    for start in progress(starts, len(starts), "validate: corrupted images"):
        rows = chosen[start : start + step]
        raw, due = examples.x[rows], examples.y[rows]
        for column, (name, severity) in enumerate(CONDITIONS):
            images = corrupt(raw, name, severity, (job.seed, column, start))
            for stage, table in zip(stages, found, strict=True):
                said = answer(stage.session, stage.info.preprocessing.apply(images), stage.what)
                table[start : start + len(rows), column] = said.argmax(axis=1) == due
    return found


def _mean(rows: Any, weights: Any) -> Any:
    return mean_of(rows.mean(axis=1, keepdims=True), weights)[:, 0]
