"""HEALTH: does a package infer rightly here, fast enough and in the memory it may take?

It runs in a child process with limits, so that a model that crashes or blows up the runtime takes
the child with it and not the agent. Run as `python -m slimline.device.health DIRECTORY BUDGET`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import Refused
from slimline.fleet.documents import Budget
from slimline.measure.runtime import import_onnxruntime, logits
from slimline.trust.golden import PackagedModel, load_golden, open_model, prove
from slimline.trust.package import load_manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ADDRESS_SPACE = 8 << 30
SECONDS = 120
_ROUNDS = 5
_PRIVATE = ("AWS_", "SLIMLINE_SECRET_")
"""Variables that a process which runs a foreign model has no use for."""


class _Answer(BaseModel):
    """What the child says: why it refuses, or its numbers. Nothing else is believed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    refused: str = ""
    difference: float | None = None
    latency_ms: float | None = None
    memory_mb: float | None = None


def check_in_child(package: Path, budget: Budget) -> dict[str, float]:
    """Prove a staged package in a process of its own.

    Returns:
        `difference` (largest, of logits), `latency_ms` (median at batch 1, one thread),
        `memory_mb` (growth of peak resident memory, 10**6 bytes).

    Raises:
        Refused: with what is wrong; a child that died or took too long is wrong too.
    """
    command = [sys.executable, "-m", __name__, str(package), budget.model_dump_json()]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_PRIVATE)}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        msg = f"the model did not answer its golden inputs within {SECONDS} s"
        raise Refused(msg) from error
    try:
        answer = _Answer.model_validate_json(done.stdout)
    except ValidationError as error:
        tail = done.stderr.decode(errors="replace").strip()[-200:]
        msg = f"the model took its process down (exit {done.returncode}): {tail}"
        raise Refused(msg) from error
    numbers: dict[str, float] = answer.model_dump(exclude={"refused"}, exclude_none=True)
    if answer.refused or not numbers:
        raise Refused(answer.refused or "the model's process answered with no numbers")
    return numbers


def check(package: Path, budget: Budget) -> dict[str, float]:
    """Prove a package in this process. See `check_in_child`."""
    manifest = load_manifest(package)
    before = _peak_mb()
    model = open_model(package, manifest)
    difference = prove(model, package, manifest)
    latency = _latency_ms(model, load_golden(package, manifest, model.info)[0])
    memory = max(_peak_mb() - before, 0.0)
    if budget.max_latency_ms is not None and latency > budget.max_latency_ms:
        msg = f"one inference takes {latency:.3g} ms here, {budget.max_latency_ms:g} ms are allowed"
        raise Refused(msg)
    if budget.max_memory_mb is not None and memory > budget.max_memory_mb:
        msg = f"the model takes {memory:.1f} MB here, {budget.max_memory_mb:g} MB are allowed"
        raise Refused(msg)
    return {"difference": difference, "latency_ms": latency, "memory_mb": memory}


def _latency_ms(model: PackagedModel, raw: NDArray[np.generic]) -> float:
    inputs = model.info.preprocessing.apply(raw)
    times: list[float] = []
    for _ in range(_ROUNDS):
        for place in range(len(inputs)):
            started = time.perf_counter()
            logits(model.session, inputs[place : place + 1])
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _peak_mb() -> float:
    """Peak resident memory; from /proc, since `ru_maxrss` also counts the parent before exec."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 10**6


def _main() -> None:
    package, budget = Path(sys.argv[1]), Budget.model_validate_json(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import_onnxruntime()
    try:
        answer: dict[str, float | str] = {**check(package, budget)}
    except Refused as error:
        answer = {"refused": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main()
