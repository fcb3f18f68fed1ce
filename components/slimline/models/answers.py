"""What teachers answered, kept in a file, so that each question is asked once.

The file lies in the job's checkpoint, so the next try goes on with it; it is mapped into memory,
and all ranks of a fit write their own rows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

ANSWERS_FILE = "answers.f16"
"""Good for every fit of a job that has the same teachers and the same training split."""
_BYTES = 2


class Answers:
    """Logits of each example and view, float16; NaN where nobody has asked yet."""

    def __init__(self, place: Path, views: int, examples: int, classes: int) -> None:
        """Open the file in a directory, or make it where there is none of this shape."""
        import numpy as np

        file, shape = place / ANSWERS_FILE, (views, examples, classes)
        if not file.is_file() or file.stat().st_size != views * examples * classes * _BYTES:
            made = file.with_suffix(".new")
            fresh = np.memmap(made, np.float16, "w+", shape=shape)
            for view in fresh:
                view[:] = np.nan
            fresh.flush()
            made.replace(file)
        self.kept = np.memmap(file, np.float16, "r+", shape=shape)
        self.asked = 0
        """Questions that this process put to a teacher."""
        self.saved = 0
        """Questions that the file answered."""

    def fill(self, turn: int, file: Path) -> None:
        """Take over what was answered in an epoch, for views that examples show in turn.

        Args:
            turn: the epoch, from 0; an example shows the view (its row + turn) modulo the views.
            file: logits (examples, classes), float16.
        """
        import numpy as np

        rows = np.arange(self.kept.shape[1])
        answers = np.fromfile(file, np.float16).reshape(self.kept.shape[1:])
        self.kept[(rows + turn) % len(self.kept), rows] = answers

    def of(self, rows: Tensor, views: Tensor, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (rows, classes), float32.

        Args:
            rows: examples of the training split.
            views: of each of them.
            ask: called with the places in `rows` that were never asked; gives their logits.
        """
        import numpy as np
        import torch

        at = views.cpu().numpy(), rows.cpu().numpy()
        found = self.kept[at]
        missing = np.isnan(found[:, 0])
        if missing.any():
            fresh = ask(torch.from_numpy(np.flatnonzero(missing)).to(rows.device))
            found[missing] = fresh.detach().float().cpu().numpy().astype(np.float16)
            self.kept[at[0][missing], at[1][missing]] = found[missing]
        self.asked += int(missing.sum())
        self.saved += int((~missing).sum())
        return torch.from_numpy(found.astype(np.float32)).to(rows.device)
