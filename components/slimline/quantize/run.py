"""Quantize: prepare the graph, make it smaller by the scheme, prove that it changed and pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from slimline.contract import BadParameters, Numbers, get_logger
from slimline.measure.runtime import import_onnxruntime, logits, session
from slimline.models.info import load_model_info, save_model_info
from slimline.models.onnx_file import example_inputs
from slimline.models.quantization import OnnxQuantization, load_quantization
from slimline.quantize.census import Census, census, check_changed, check_smaller
from slimline.quantize.examples import draw_examples
from slimline.quantize.loss import Judge
from slimline.quantize.prepare import check_excluded, prepare
from slimline.quantize.report import write_page
from slimline.quantize.schemes import SCHEMES
from slimline.quantize.speed import check_fast, speedups
from slimline.quantize.work import Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.measure.latency import Latency
    from slimline.models.info import ModelInfo
    from slimline.quantize.spec import Quantize
    from slimline.quantize.work import Made

log = get_logger(__name__)

_ERRORS_ONLY = 3


def run(job: Quantize) -> Numbers:
    """Write the smaller `model.onnx`, `model.json` and the report.

    Raises:
        BadParameters: on an excluded node that is not there, or calibration that is missing.
        BadData: on a wrong split, too few examples, a model that does not take them or did not
            change, shrink, or stay fast and accurate as the parameters ask.
    """
    import_onnxruntime().set_default_logger_severity(_ERRORS_ONLY)
    info, source = load_model_info(job.model.path), job.model.path / "model.onnx"
    work = begin(job, info)
    made = SCHEMES[job.scheme](work)
    after = census(made.model)
    check_changed(census(work.prepared), after, job.scheme)
    target = job.quantized.path / "model.onnx"
    target.write_bytes(made.model.SerializeToString(deterministic=True))
    sizes = source.stat().st_size, target.stat().st_size
    check_smaller(*sizes, allow_larger=job.allow_larger)
    save_model_info(quantized_info(job, info, made), job.quantized.path)
    models = [work.original, target.read_bytes()]
    float_one, latency = speedups(models, first_input(work, info), job.latency_rounds)
    check_fast(job, float_one, latency)
    found = numbers(work, made, sizes, after, latency)
    reasons = (*made.reasons, speed_told(latency))
    write_page(job.report.path, f"{info.name}: {made.words}", reasons, found, made.tables)
    return found


def begin(job: Quantize, info: ModelInfo) -> Work:
    """Draw examples, see that the float model takes them, bring its graph into form."""
    drawn, source = draw_examples(job, info), job.model.path / "model.onnx"
    # Asked first: a model that does not take its input fails in words of its own later on.
    loaded, what = session(source), f"model {info.name} ({info.stage})"
    original = source.read_bytes()
    judge = Judge(original, drawn.judge, what) if len(drawn.judge) else None
    if judge is None:
        logits(loaded, example_inputs(info.preprocessing), what=what)
    prepared = prepare(onnx.load(source))
    check_excluded(prepared, job.exclude)
    if job.max_drop is not None and judge is None:
        msg = "max_drop: a budget is measured on examples; give the train split as calibration"
        raise BadParameters(msg)
    learned = load_quantization(OnnxQuantization, job.model.path)
    return Work(job, original, prepared, drawn, judge, learned)


def first_input(work: Work, info: ModelInfo) -> NDArray[np.float32]:
    """One example to time with."""
    return next(work.drawn.fit.batches(1), example_inputs(info.preprocessing)[:1])


def quantized_info(job: Quantize, info: ModelInfo, made: Made) -> ModelInfo:
    """`model.json` of the smaller model; its history says how it was made."""
    opset = next(o.version for o in made.model.opset_import if o.domain in {"", "ai.onnx"})
    told = {"stage": job.stage, "opset": opset, "history": (*info.history, made.words)}
    return info.model_copy(update=told)


def speed_told(latency: Latency) -> str:
    """One sentence on speed, with its interval."""
    value, low, high = latency.speedup.value, latency.speedup.low, latency.speedup.high
    if low > 1:
        return f"It is {value:.2f} times as fast as the float model ({low:.2f} to {high:.2f})."
    if high < 1:
        return (
            f"It is SLOWER than the float model: {value:.2f} times its speed; it is smaller only."
        )
    return f"It is no faster and no slower than the float model ({low:.2f} to {high:.2f})."


def numbers(
    work: Work, made: Made, sizes: tuple[int, int], after: Census, latency: Latency
) -> Numbers:
    """What the manifest keeps, also told in the log."""
    loss = work.judge.loss(made.model) if work.judge else None
    log.info("%d -> %d bytes, integer: %s, float: %s", *sizes, after.integer, after.floating)
    if loss is not None:
        log.info("same class as the float model on %.1f %% of the judges", 100 * loss.agreement)
    log.info("%s", speed_told(latency))
    return {
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "shrink": round(sizes[0] / sizes[1], 3),
        "integer_operators": after.integer,
        "float_operators": after.floating,
        "restored_operators": after.restored,
        "weights_stored_as": after.storage,
        "constant_bytes": after.bytes_of,
        "integer_weight_bytes": after.integer_bytes,
        "left_alone": work.all_layers[1],
        "calibration_examples": len(work.drawn.fit),
        "selection_examples": len(work.drawn.judge),
        "agreement": loss.agreement if loss else None,
        "loss": loss.value if loss else None,
        "drop_on_train": loss.drop if loss else None,
        "speedup": latency.speedup.model_dump(),
        "latency_ms": latency.median_ms.value,
        **made.numbers,
    }
