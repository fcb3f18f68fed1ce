"""The training curve of a job, as its checkpoint directory holds it to full precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slimline.models.progress import read_progress
from slimline.models.threads import cpu_quota

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from slimline.contract import Component
    from slimline.models.progress import Epoch

TOLERANCE = 1e-4
"""Relative: floats are added in another order, and an optimizer carries that on."""

two_cores = pytest.mark.skipif(cpu_quota() < 2, reason="two processes need two cores")


def curve(job: Component, work: Path) -> tuple[Epoch, ...]:
    """Do a job in a new directory and give its epochs."""
    job.run(work_dir=work)
    return kept_curve(next(work.glob("*/checkpoint")))


def kept_curve(checkpoint: Path) -> tuple[Epoch, ...]:
    """The epochs that a checkpoint's directory tells of."""
    return read_progress(checkpoint).history


def best(epochs: Sequence[Epoch]) -> int:
    return max(epochs, key=lambda e: (*e.rank, -e.epoch)).epoch


def assert_same_curve(one: Sequence[Epoch], other: Sequence[Epoch]) -> None:
    assert [e.epoch for e in one] == [e.epoch for e in other]
    for name in ("loss", "selection_loss"):
        expected = [getattr(e, name) for e in one]
        assert [getattr(e, name) for e in other] == pytest.approx(expected, rel=TOLERANCE), name
    assert [e.accuracy for e in one] == [e.accuracy for e in other]
    assert best(one) == best(other)
