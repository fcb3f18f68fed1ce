"""Trial: make the network, count it, time it beside the baseline, pair its answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slimline.contract import BadData, BadParameters, Model, get_logger
from slimline.contract.store import fetch_artifact
from slimline.data.dataset import load_examples
from slimline.measure.latency import measure
from slimline.measure.memory import growth_mb
from slimline.measure.runtime import logits, session
from slimline.models.build import load_torch_model
from slimline.models.network import mac_count, parameter_count
from slimline.models.onnx_file import example_inputs
from slimline.search.result import (
    Answers,
    Measured,
    TrialResult,
    load_result,
    save_result,
)
from slimline.search.space import chain_in_words
from slimline.search.trial.assemble import Assembled, assemble

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slimline.contract import Numbers
    from slimline.models.info import ModelInfo
    from slimline.search.trial.spec import Trial

log = get_logger(__name__)
_PIECE = 512
"""Examples preprocessed and asked at once."""
_LATENCY_SECONDS = 60


def run(job: Trial) -> Numbers:
    """Measure one network; one that a component refuses is a result too, with the reason.

    Raises:
        BadData: when the baseline itself cannot be measured.
    """
    with tempfile.TemporaryDirectory(prefix="trial-") as place:
        try:
            result = _measured(job, Path(place))
        except (BadData, BadParameters) as error:
            if not job.chain:
                raise
            result = TrialResult(chain=job.chain, epochs=job.epochs, failed=str(error))
    save_result(result, job.result.path)
    log.info("trial: %s: %s", chain_in_words(job.chain), _in_words(result))
    return numbers(result)


def numbers(result: TrialResult) -> Numbers:
    """What the manifest keeps."""
    found: Numbers = {"epochs": list(result.epochs), "failed": result.failed}
    if result.measured:
        found |= result.measured.model_dump(exclude={"latency_ms", "speedup"})
        found |= {
            "latency_ms": result.measured.latency_ms.value,
            "speedup": result.measured.speedup.value,
        }
    if result.answers:
        found |= {"accuracy": result.answers.accuracy, "drop": result.answers.drop}
    return found


def _measured(job: Trial, scratch: Path) -> TrialResult:
    made = assemble(job, scratch) if job.chain else Assembled(job.teacher, job.baseline)
    assert made.onnx is not None  # noqa: S101 - each chain holds an export
    torch_model = _located(made.torch, scratch / "torch")
    onnx_model = _located(made.onnx, scratch / "onnx")
    module, info = load_torch_model(torch_model.path)
    return TrialResult(
        chain=job.chain,
        epochs=job.epochs,
        measured=Measured(
            parameters=parameter_count(module),
            macs=mac_count(module, info),
            bytes=(onnx_model.path / "model.onnx").stat().st_size,
            **_timed(job, onnx_model, info),
        ),
        answers=_answers(job, onnx_model, info) if made.trained else None,
        exact=made.exact,
        onnx=made.onnx.digest,
        torch=made.torch.digest,
        training_seconds=round(made.training_seconds, 3),
    )


def _located(model: Model, target: Path) -> Model:
    """The artifact with its files on this machine."""
    target.mkdir()
    return fetch_artifact(model, target)


def _timed(job: Trial, model: Model, info: ModelInfo) -> Numbers:
    """Latency of the model beside the baseline's, and memory if it is asked for."""
    x = example_inputs(info.preprocessing)[:1]
    paths = [job.baseline.path / "model.onnx", model.path / "model.onnx"]
    sessions = [session(path) for path in paths]
    seconds = _LATENCY_SECONDS
    baseline, own = measure(sessions, [x, x], rounds=job.rounds, seconds=seconds)
    memory = growth_mb(paths[1], x.shape[1:]) if job.memory else None
    return {
        "latency_ms": own.median_ms,
        "latency_min_ms": own.minimum_ms,
        "baseline_ms": baseline.median_ms.value,
        "speedup": own.speedup,
        "memory_mb": memory,
    }


def _answers(job: Trial, model: Model, info: ModelInfo) -> Answers:
    """Which examples of the selection split are right, paired with the baseline's."""
    examples = load_examples(job.selection.path, split="selection")
    loaded = session(model.path / "model.onnx")
    parts = []
    for start in range(0, len(examples), _PIECE):
        piece = slice(start, start + _PIECE)
        answer = logits(loaded, info.preprocessing.apply(examples.x[piece])).argmax(1)
        parts.append(answer == examples.y[piece])
    if not parts:
        msg = f"dataset {examples.info.name}: its selection split is empty: give it a larger share"
        raise BadData(msg)
    right = np.concatenate(parts)
    before = _before(job, right)
    return Answers(
        right=np.packbits(right).tobytes().hex(),
        examples=len(right),
        accuracy=float(right.mean()),
        lost=int((before & ~right).sum()),
        won=int((right & ~before).sum()),
    )


def _before(job: Trial, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which examples the baseline has right; the network's own answers in the baseline's trial.

    Raises:
        BadData: when the reference answered other examples.
    """
    if job.baseline_result is None:
        return right
    answers = load_result(job.baseline_result.path).answers
    if answers is None or answers.examples != len(right):
        count = answers.examples if answers else 0
        msg = (
            f"baseline_result answered {count} examples, selection has {len(right)}: give that of "
            "the same split"
        )
        raise BadData(msg)
    bits = np.frombuffer(bytes.fromhex(answers.right), np.uint8)
    return np.unpackbits(bits, count=len(right)).astype(bool)


def _in_words(result: TrialResult) -> str:
    if result.measured is None:
        return result.failed
    told = f"{result.measured.speedup.value:.2f} times as fast, {result.measured.bytes:,} bytes"
    if result.answers is None:
        return f"untrained, {told}"
    return f"{told}, drop {100 * result.answers.drop:.2f} points"
