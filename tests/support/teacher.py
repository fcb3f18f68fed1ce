"""A small torch teacher of the digits, trained once by the room itself."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.train.spec import Train
from support.splits import Splits, small_factory, write_digits

if TYPE_CHECKING:
    from slimline.contract import Numbers


@dataclass(frozen=True)
class Taught:
    splits: Splits
    model: Path
    numbers: Numbers

    def inputs(self) -> dict[str, Any]:
        return self.splits.inputs()


@cache
def taught() -> Taught:
    """About 95 % right; each test process trains its own."""
    root = Path(tempfile.mkdtemp(prefix="slimline-teacher-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    splits = write_digits(root / "digits")
    settings = {"epochs": 8, "factory": small_factory(8, 16, 16), "learning_rate": 0.01}
    outcome = Train.parse({**splits.inputs(), **settings}).run(work_dir=root / "train")
    return Taught(splits, outcome["model"].path, outcome.manifest.numbers)
