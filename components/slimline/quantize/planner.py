"""Scheme `int8`: the forms of int8 are built, each is measured, and the best one is taken.

Which form is fast depends on the processor, the operators and the widths, and some are slower than
float (S8S8 on x86, ConvInteger). So none is believed: latency is measured beside the float model's,
loss on examples that chose nothing. `plan: rules` takes what is known instead, without a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slimline.contract import BadData, get_logger
from slimline.quantize.census import census, check_changed
from slimline.quantize.dynamic import int8_dynamic
from slimline.quantize.integer import Form, quantize_dynamic, quantize_static
from slimline.quantize.ranges import choose_ranges
from slimline.quantize.speed import speedups
from slimline.quantize.static import choose_method, int8_static
from slimline.quantize.work import Made, Table, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from slimline.measure.latency import Latency
    from slimline.quantize.loss import Loss

log = get_logger(__name__)

_EQUAL_LOSS = 1.5
"""Losses within this factor of the least are equal: they are told from a few hundred examples."""
_LEAST_LOSS = 1e-3
"""Nats that are equal to none."""
_ALIKE_IN_SIZE = 1.5
"""A form larger than the smallest by more than this leaves in float what others quantize."""


@dataclass(frozen=True)
class Candidate:
    """One form of int8, measured."""

    name: str
    form: Form | None
    """None for dynamic."""
    model: onnx.ModelProto
    loss: Loss
    latency: Latency | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.model.SerializeToString())


def planned(work: Work) -> Made:
    """Choose the calibration method by loss, then the form by speed among those of equal loss."""
    method, tried = choose_method(work, Form(), measured=True)
    job = work.job.model_copy(update={"calibration_method": method})
    chosen = replace(work, job=job)
    candidates = list(_built(chosen, method))
    if not candidates:
        check_changed(census(work.prepared), census(work.prepared), "int8")
    if job.plan == "measure":
        candidates = _timed(chosen, candidates)
    best, reasons = choose(candidates, measured=job.plan == "measure")
    for reason in reasons:
        log.info("%s", reason)
    made = _made(chosen, best)
    numbers = {"form": best.name, "candidates": {c.name: _numbers(c) for c in candidates}}
    return Made(
        made.model,
        f"{made.words}; form {best.name} chosen among {len(candidates)}",
        (_table(candidates), *tried, *made.tables),
        {**numbers, "calibration_method": method, **made.numbers},
        (*reasons, *made.reasons),
    )


def choose(candidates: list[Candidate], *, measured: bool) -> tuple[Candidate, tuple[str, ...]]:
    """The fastest candidate among those that lose equally little, and why; ties go to the smaller.

    One that leaves most of the network in float loses next to nothing and gains as little: it is
    out before losses are compared.

    Args:
        candidates: at least one, in the order in which rules prefer them.
        measured: by latency; else the first of equal loss.
    """
    smallest = min(c.size for c in candidates)
    whole = [c for c in candidates if c.size <= _ALIKE_IN_SIZE * smallest]
    least = min(c.loss.value for c in whole)
    limit = max(_EQUAL_LOSS * least, _LEAST_LOSS)
    equal = [c for c in whole if c.loss.value <= limit]
    reasons = [
        f"{c.name} is out: it has {c.size} bytes, the smallest one {smallest}."
        for c in candidates
        if c not in whole
    ]
    reasons += [
        f"{c.name} is out: it loses {c.loss.value:.3g}, the best one {least:.3g}."
        for c in whole
        if c not in equal
    ]
    if not measured:
        reasons.append(f"{equal[0].name} is what rules prefer of {len(equal)} with equal loss.")
        return equal[0], tuple(reasons)
    fastest = max(equal, key=_speed)
    assert fastest.latency is not None  # noqa: S101 - all were timed
    floor = fastest.latency.speedup.low
    alike = [c for c in equal if c.latency is not None and c.latency.speedup.high >= floor]
    best = min(alike, key=lambda c: c.size)
    reasons.append(
        f"{fastest.name} is the fastest of {len(equal)} with equal loss: {_speed(fastest):.2f} "
        f"times the float model's speed."
    )
    if best is not fastest:
        reasons.append(
            f"{best.name} cannot be told from it in speed ({_speed(best):.2f}) and has "
            f"{fastest.size - best.size} bytes less: it is taken."
        )
    return best, tuple(reasons)


def _built(work: Work, method: str) -> Iterator[Candidate]:
    """The forms, what x86 prefers first; one that changes nothing is left out."""
    job = work.job
    if work.judge is None:
        msg = "calibration: scheme int8 measures on examples; give the train split"
        raise BadData(msg)
    ranges = choose_ranges(work.histograms, method, job.percentile)  # type: ignore[arg-type]
    forms = [Form(), Form("qoperator"), Form("qdq", "int8")]
    for form in [
        replace(f, per_channel=job.per_channel, reduce_range=job.reduce_range) for f in forms
    ]:
        model = quantize_static(work.prepared, form, ranges, exclude=job.exclude)
        if census(model).integer:
            yield Candidate(form.name, form, model, work.judge.loss(model))
    model = quantize_dynamic(work.prepared, work.form, job.exclude)
    if census(model).integer:
        yield Candidate("dynamic", None, model, work.judge.loss(model))


def _timed(work: Work, candidates: list[Candidate]) -> list[Candidate]:
    models = [work.original, *(c.model.SerializeToString() for c in candidates)]
    x = next(work.drawn.fit.batches(1))
    times = speedups(models, x, work.job.latency_rounds)[1:]
    return [replace(c, latency=t) for c, t in zip(candidates, times, strict=True)]


def _made(work: Work, best: Candidate) -> Made:
    """Build the chosen form once more, with budget, rounding and correction."""
    if best.form is None:
        return int8_dynamic(work)
    form = best.form
    update = {"format": form.format, "activation_type": form.activation_type}
    return int8_static(replace(work, job=work.job.model_copy(update=update)))


def _speed(candidate: Candidate) -> float:
    return candidate.latency.speedup.value if candidate.latency else 0.0


def _numbers(candidate: Candidate) -> dict[str, float | int]:
    found: dict[str, float | int] = {"loss": candidate.loss.value, "bytes": candidate.size}
    if candidate.latency:
        found["speedup"] = candidate.latency.speedup.value
    return found


def _table(candidates: list[Candidate]) -> Table:
    header = (
        "form",
        "loss",
        "same class",
        "accuracy lost",
        "bytes",
        "speed",
        "at least",
        "at most",
    )
    rows = []
    for one in candidates:
        speed = one.latency.speedup if one.latency else None
        times = (speed.value, speed.low, speed.high) if speed else (None, None, None)
        loss = one.loss
        rows.append((one.name, loss.value, loss.agreement, loss.drop, one.size, *times))
    return Table("Forms of int8; speed against the float model", header, tuple(rows))
