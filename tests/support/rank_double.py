"""A rank that starts and ends as a real one, but instead of training does what RANK_DOUBLE says."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.models import rank

if TYPE_CHECKING:
    from slimline.contract.job import Checkpoint
    from slimline.models.task import Task


def run_rank(_task: Task, saved: Checkpoint, _processes: int) -> None:
    number = os.environ["RANK"]
    (saved.path / f"pid{number}").write_text(str(os.getpid()))
    if os.environ["RANK_DOUBLE"] == "refuse" and number == "1":
        raise BadData("label 7 is unknown: add it")
    time.sleep(60)


if __name__ == "__main__":
    rank.run_rank = run_rank
    rank.main()
