"""Makes the rooms of `tests/support/plugin` installed: here, and in child processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PLUGIN = Path(__file__).parent / "plugin"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the plugin on the path until the test (or session) ends."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{PLUGIN}:{before}" if before else str(PLUGIN))
    assert str(PLUGIN) in sys.path
