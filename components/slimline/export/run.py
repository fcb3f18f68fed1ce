"""Export: rebuild the torch model, write ONNX, and keep the file only if the two agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from slimline.contract import BadData, Numbers, get_logger
from slimline.data.dataset import load_examples
from slimline.export.levels import carry_levels
from slimline.measure.runtime import logits, session
from slimline.models.build import load_torch_model
from slimline.models.info import ModelInfo, save_model_info
from slimline.models.to_onnx import to_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from slimline.export.spec import Export

log = get_logger(__name__)

_BATCHES = (1, 7)
"""One, because endpoints ask so; and one that the exporter did not see."""
_RANDOM_INPUTS = 28
_EXAMPLES = 256


def run(job: Export) -> Numbers:
    """Write `model.onnx` and `model.json`.

    Raises:
        BadData: when the network cannot be exported, or answers otherwise in ONNX Runtime.
    """
    module, info = load_torch_model(job.model.path)
    checks = {"random": random_inputs(info)}
    if job.examples is not None:
        checks["examples"] = example_inputs(job.examples.path, info)
    target = job.exported.path / "model.onnx"
    target.write_bytes(
        to_onnx(module, checks["random"][:2], job.opset, dynamic_batch=job.dynamic_batch)
    )
    worst, batches = 0.0, _BATCHES if job.dynamic_batch else _BATCHES[:1]
    for kind, x in checks.items():
        worst = max(
            worst, check_parity(module, target, x, job.tolerance, kind=kind, batches=batches)
        )
    save_model_info(onnx_info(info, job.opset), job.exported.path)
    levels = carry_levels(module, job.model.path, job.exported.path)
    size = target.stat().st_size
    log.info(
        "exported %s (%s): %d bytes, largest difference %.1e", info.name, info.stage, size, worst
    )
    return {"bytes": size, "opset": job.opset, "max_difference": worst, **levels}


def random_inputs(info: ModelInfo) -> NDArray[np.float32]:
    """Inputs of the real shape from random raw examples, the same in every run."""
    draw = np.random.default_rng(0)
    shape = (_RANDOM_INPUTS, *info.preprocessing.shape)
    raw: NDArray[np.generic] = draw.standard_normal(shape, np.float32)
    if info.preprocessing.dtype == "uint8":
        raw = draw.integers(0, 256, shape, np.uint8)
    return info.preprocessing.apply(raw)


def example_inputs(source: Path, info: ModelInfo) -> NDArray[np.float32]:
    """Inputs from the first examples of a dataset; a test split is refused."""
    examples = load_examples(source)
    if examples.info.split == "test":
        msg = f"dataset {examples.info.name}: export takes its train or selection split, not test"
        raise BadData(msg)
    return info.preprocessing.apply(examples.x[:_EXAMPLES])


def check_parity(
    module: torch.nn.Module,
    path: Path,
    x: NDArray[np.float32],
    tolerance: float,
    *,
    kind: str,
    batches: Sequence[int] = _BATCHES,
) -> float:
    """Compare torch with ONNX Runtime at these sizes of a batch.

    Returns:
        The largest difference of a logit, over the largest logit or 1.

    Raises:
        BadData: when it is above the tolerance, not finite, or an answer is another class.
    """
    expected = torch_answers(module, x, kind, 1 if max(batches) == 1 else len(x))
    loaded, scale = session(path), max(1.0, float(np.abs(expected).max()))
    worst = 0.0
    for batch in batches:
        got = logits(loaded, x, batch)
        if got.shape != expected.shape:
            msg = f"torch answers {expected.shape}, ONNX Runtime {got.shape} on {kind} inputs"
            raise BadData(msg)
        worst = max(worst, float(np.abs(got - expected).max()) / scale)
        other = int((got.argmax(1) != expected.argmax(1)).sum())
        if worst > tolerance or other:
            msg = (
                f"ONNX differs from torch on {kind} inputs at batch {batch}: by {worst:.1e} of the "
                f"largest logit (tolerance {tolerance:.1e}), {other} of {len(x)} classes differ; "
                "look for random or data-dependent layers, or raise tolerance if it is rounding"
            )
            raise BadData(msg)
    return worst


def torch_answers(
    module: torch.nn.Module, x: NDArray[np.float32], kind: str, batch: int
) -> NDArray[np.float32]:
    """What the torch model answers; raises BadData when it cannot, or with NaN or infinity."""
    try:
        with torch.no_grad():
            parts = [module(part) for part in torch.split(torch.from_numpy(x), batch)]
            answers: NDArray[np.float32] = torch.cat(parts).numpy()
    except RuntimeError as error:
        msg = (
            f"the torch model does not take a batch of {batch} {kind} inputs of {x.shape[1:]}: "
            f"{error}; write its forward for this shape, without a fixed batch"
        )
        raise BadData(msg) from error
    if not np.isfinite(answers).all():
        msg = f"the torch model gives NaN or infinity on {kind} inputs: its weights are damaged"
        raise BadData(msg)
    return answers


def onnx_info(info: ModelInfo, opset: int) -> ModelInfo:
    """`model.json` of the exported model: it needs no factory and no edits any more."""
    return info.model_copy(
        update={
            "format": "onnx",
            "factory": None,
            "edits": (),
            "opset": opset,
            "history": (*info.history, f"exported to ONNX, opset {opset}"),
        }
    )
