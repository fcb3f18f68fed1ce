"""Real packages in little: a linear ONNX model on 8x8 digits, judged, sealed and signed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slimline.contract import Model
from slimline.data.preprocess import Preprocessing, Scale, ToNCHW
from slimline.measure.evaluation import EvaluationRecord, Interval, NonInferiority, StageNumbers
from slimline.models.info import ModelInfo, save_model_info
from slimline.trust.golden import save_golden
from slimline.trust.manifest import Golden, Requires
from slimline.trust.package import load_manifest, seal_package
from slimline.trust.verdict import VerdictRecord, sign_verdict

if TYPE_CHECKING:
    from pathlib import Path

LABELS = tuple("0123456789")


def tiny_package(
    directory: Path,
    *,
    private_pem: str,
    name: str = "digits",
    version: str = "",
    seed: int = 0,
    verdict_passed: bool = True,
    verdict_pem: str = "",
    verdict_digest: str = "",
    broken_golden: bool = False,
    security_version: int = 1,
    requires: dict[str, Any] | None = None,
    golden_count: int = 4,
    tolerance: float = 1e-3,
    payload_bytes: int = 0,
    payload_levels: int = 256,
) -> Path:
    """Build a signed package in `directory`; returns it.

    `broken_golden` signs expected logits that the model does not give. `verdict_pem` and
    `verdict_digest` sign the verdict with another key or about other bytes. `requires` replaces
    fields of the manifest's requirements. `payload_bytes` makes the model that much larger,
    by bytes of `payload_levels` values: of few, its coded form is small.
    """
    model = directory / "model"
    payload = (payload_bytes, payload_levels)
    weight, bias = tiny_model(model, seed=seed, payload=payload)
    digest = Model.at(model).digest
    x = np.random.default_rng(seed).integers(0, 17, (golden_count, 8, 8, 1), dtype=np.uint8)
    logits = (x.astype(np.float32) / 16).reshape(golden_count, 64) @ weight + bias
    save_golden(directory, x, (logits + (1 if broken_golden else 0)).astype(np.float32))
    record = tiny_evaluation(digest)
    (directory / "evaluation.json").write_text(record.model_dump_json(indent=1))
    (directory / "verdict.dsse.json").write_bytes(
        sign_verdict(
            tiny_verdict(record, passed=verdict_passed),
            verdict_digest or digest,
            verdict_pem or private_pem,
        )
    )
    (directory / "report.html").write_text("<!doctype html><title>digits</title>")
    (directory / "card.md").write_text("# digits\n")
    for document in ("sbom.cdx.json", "provenance.json"):
        (directory / document).write_text(json.dumps({"about": digest}))
    seal_package(
        directory,
        name=name,
        version=version,
        security_version=security_version,
        requires=Requires.model_validate(
            {"opset": 17, "memory_mb": 1.0, **(requires or {})}, strict=False
        ),
        golden=Golden(count=golden_count, tolerance=tolerance),
        private_pem=private_pem,
    )
    return directory


def seal_again(root: Path, private_pem: str) -> None:
    """Sign a changed tree with the trusted key: what a broken or hostile builder would send."""
    before = load_manifest(root)
    seal_package(
        root,
        name=before.name,
        security_version=before.security_version,
        requires=before.requires,
        golden=before.golden,
        private_pem=private_pem,
    )


def tiny_model(
    directory: Path, *, seed: int = 0, payload: tuple[int, int] = (0, 256)
) -> tuple[np.ndarray, np.ndarray]:
    """Write a `Model` artifact, logits = x @ weight + bias; returns weight (64, 10) and bias."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    weight = random.normal(size=(64, 10)).astype(np.float32)
    bias = random.normal(size=10).astype(np.float32)
    size, levels = payload
    ballast = random.integers(0, levels, size, dtype=np.uint8)
    constants = {"weight": weight, "bias": bias, "ballast": ballast}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(v, n) for n, v in constants.items() if v.size],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    save_model_info(
        ModelInfo(
            name="digits",
            stage="quantized",
            format="onnx",
            labels=LABELS,
            preprocessing=Preprocessing(shape=(8, 8, 1), steps=(Scale(by=1 / 16), ToNCHW())),
            opset=17,
            history=("made for a test",),
        ),
        directory,
    )
    return weight, bias


def tiny_evaluation(
    candidate_digest: str, *, split: str = "test", **changes: Any
) -> EvaluationRecord:
    """An evaluation in which the candidate is as good as the baseline; `changes` are its fields."""
    baseline = _stage("teacher", "b" * 64, 0.97, 40_000, 0.20)
    candidate = _stage("quantized", candidate_digest, 0.96, 10_000, 0.05)
    comparison = NonInferiority(
        method="paired score test",
        margin=0.02,
        confidence=0.95,
        drop=0.01,
        upper_bound=0.015,
        only_baseline_right=6,
        only_candidate_right=2,
        examples=360,
    )
    fields: dict[str, Any] = {
        "dataset_digest": "d" * 64,
        "dataset_split": split,
        "candidate_digest": candidate_digest,
        "stages": (baseline, candidate),
        "non_inferiority": comparison,
        "runtime": "onnxruntime 1.31.1, CPUExecutionProvider, 1 thread",
    }
    return EvaluationRecord(**{**fields, **changes})


def tiny_verdict(record: EvaluationRecord, *, passed: bool = True) -> VerdictRecord:
    """A verdict about an evaluation."""
    return VerdictRecord(
        passed=passed,
        reasons=() if passed else ("accuracy 0.96 is below 0.99",),
        thresholds={"margin": 0.02},
        numbers={"accuracy": record.stages[-1].accuracy.value},
        dataset_digest=record.dataset_digest,
    )


def _stage(stage: str, digest: str, accuracy: float, size: int, latency: float) -> StageNumbers:
    return StageNumbers(
        stage=stage,
        model_digest=digest,
        accuracy=Interval(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.02),
        per_class=dict.fromkeys(LABELS, accuracy),
        bytes=size,
        latency_ms=Interval(value=latency, low=latency * 0.9, high=latency * 1.1),
        memory_mb=1.5,
        speedup=0.20 / latency,
        shrink=40_000 / size,
    )
