"""Quantize: prepare the graph, choose ranges on train examples, convert, prove that it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from slimline.contract import BadData, BadParameters, Numbers, get_logger
from slimline.data.dataset import load_examples
from slimline.measure.runtime import import_onnxruntime, logits, session
from slimline.models.info import load_model_info, save_model_info
from slimline.models.onnx_file import example_inputs
from slimline.quantize.census import Census, census, check_changed, check_smaller
from slimline.quantize.integer import quantize_dynamic, quantize_static
from slimline.quantize.prepare import check_excluded, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from slimline.models.info import ModelInfo
    from slimline.quantize.spec import Quantize

log = get_logger(__name__)

_LEAST_SAMPLES = 32
_ERRORS_ONLY = 3


def run(job: Quantize) -> Numbers:
    """Write the integer `model.onnx` and `model.json`.

    Raises:
        BadParameters: on an excluded node that is not there, or calibration that is missing.
        BadData: on a wrong split, too few examples, a model that does not take them or did not
            change or shrink.
    """
    import_onnxruntime().set_default_logger_severity(_ERRORS_ONLY)
    info, source = load_model_info(job.model.path), job.model.path / "model.onnx"
    calibration = calibration_inputs(job, info)
    # Asked first: a model that does not take its input fails in words of its own later on.
    x = calibration if len(calibration) else example_inputs(info.preprocessing)
    expected = logits(session(source), x, what=f"model {info.name} ({info.stage})").argmax(1)
    prepared = prepare(onnx.load(source))
    check_excluded(prepared, job.exclude)
    before = census(prepared)
    if job.scheme == "int8-static":
        model = quantize_static(prepared, job, calibration)
    else:
        model = quantize_dynamic(prepared, job)
    after = census(model)
    check_changed(before, after, job.scheme)
    target = job.quantized.path / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    sizes = source.stat().st_size, target.stat().st_size
    check_smaller(*sizes, allow_larger=job.allow_larger)
    save_model_info(quantized_info(job, info, model, len(calibration)), job.quantized.path)
    return numbers(sizes, after, agreement(expected, target, calibration), len(calibration))


def calibration_inputs(job: Quantize, info: ModelInfo) -> NDArray[np.float32]:
    """Model inputs of the drawn train examples; empty when there is no dataset to draw from.

    Raises:
        BadParameters: when int8-static has none.
        BadData: on another split than train, or fewer than 32 examples.
    """
    if job.calibration is None:
        if job.scheme == "int8-static":
            msg = "calibration: int8-static needs the train split; give it or use int8-dynamic"
            raise BadParameters(msg)
        return np.zeros((0, *info.preprocessing.shape), np.float32)
    examples = load_examples(job.calibration.path, split="train")
    if len(examples) < _LEAST_SAMPLES:
        msg = (
            f"calibration set has {len(examples)} examples, int8-static needs at least "
            f"{_LEAST_SAMPLES}: give more data or use int8-dynamic"
        )
        raise BadData(msg)
    # By id, so that the order in which a source was read does not change the result.
    by_id = np.argsort(examples.id, kind="stable")
    drawn = np.random.default_rng(job.seed).permutation(by_id)[: job.calibration_samples]
    return info.preprocessing.apply(examples.x[drawn])


def agreement(expected: NDArray[np.int64], target: Path, x: NDArray[np.float32]) -> float | None:
    """Share of calibration examples to which both models give the same class."""
    if len(x) == 0:
        return None
    return float((expected == logits(session(target), x).argmax(1)).mean())


def quantized_info(
    job: Quantize, info: ModelInfo, model: onnx.ModelProto, samples: int
) -> ModelInfo:
    """`model.json` of the integer model; its history says how it was made."""
    weights = "per channel" if job.per_channel else "per tensor"
    done = f"quantized to {job.scheme}, weights {weights}"
    if job.scheme == "int8-static":
        done += (
            f", activations {job.activation_type}, {job.format}, {job.calibration_method} over "
            f"{samples} train examples"
        )
    opset = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    made = {"stage": job.stage, "opset": opset, "history": (*info.history, done)}
    return info.model_copy(update=made)


def numbers(sizes: tuple[int, int], after: Census, agreed: float | None, samples: int) -> Numbers:
    """What the manifest keeps, also told in the log."""
    left = after.floating or "none"
    log.info("%d -> %d bytes, integer: %s, float: %s", *sizes, after.integer, left)
    if agreed is not None:
        log.info("same class as the float model on %.1f %% of the calibration set", 100 * agreed)
    return {
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "shrink": round(sizes[0] / sizes[1], 3),
        "integer_operators": after.integer,
        "float_operators": after.floating,
        "integer_weight_bytes": after.integer_bytes,
        "calibration_examples": samples,
        "agreement": agreed,
    }
