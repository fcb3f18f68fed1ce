"""Run one command of `slimline` in a directory of its own, and look at what it left there."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slimline.adapters import cli
from slimline.adapters.argv import flag
from slimline.contract import component_names, load_component, open_store
from slimline.trust.keys import generate_key

PLANTED = "planted-4e1d-secret"
SIGNING, PUBLIC = generate_key()
_UNLISTED = re.compile(r"artifacts/[0-9a-f]{64}/")
"""Files of an artifact; it is there when its listing is, `artifacts/<digest>.json`."""


@dataclass(frozen=True)
class Command:
    """What is asked, and how it must end.

    `words` is searched in all it says; `inside` calls `main` in this process, which is faster.
    `store` is where it keeps results if not in the directory; `empty` tells to look into it.
    """

    argv: tuple[Any, ...]
    code: int
    words: str
    environ: dict[str, str | None] = field(default_factory=dict)
    store: str = ""
    empty: bool = True
    inside: bool = False


@dataclass(frozen=True)
class Place:
    """A fresh directory; `request` gives the fixtures of servers to those who need one."""

    root: Path
    request: pytest.FixtureRequest

    def run(self, command: Command) -> tuple[int, str]:
        """Exit code, and all it wrote."""
        argv = [str(word) for word in command.argv]
        if argv[0] == "run":
            argv += [*_copy_option(argv[1], self.root), "--store", self.store(command)]
        (self.root / "tmp").mkdir()
        planted = {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": PLANTED,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SLIMLINE_SECRET_SIGNING": SIGNING,
        }
        environ = {**planted, **os.environ, "TMPDIR": str(self.root / "tmp"), **command.environ}
        given = {name: value for name, value in environ.items() if value is not None}
        return (_called if command.inside else _started)(argv, given)

    def store(self, command: Command) -> str:
        return command.store or str(self.root / "store")

    def secrets(self) -> set[str]:
        """What no command may show."""
        return {PLANTED, SIGNING, os.environ.get("AWS_SECRET_ACCESS_KEY", PLANTED)}

    def left(self, command: Command) -> list[str]:
        """What a command that failed must not have left: results, copies, temporary files."""
        keys = open_store(self.store(command)).keys("") if command.empty else ()
        kept = [key for key in keys if not _UNLISTED.match(key)]
        roots = {self.root, Path(command.environ.get("TMPDIR") or self.root)}
        found = {str(path) for root in roots for path in root.rglob("*") if _is_left(path)}
        return kept + sorted(found)


def _is_left(path: Path) -> bool:
    return path.name == "copied" or path.name.startswith(("slimline-", ".tmp-"))


def _copy_option(component: str, root: Path) -> list[str]:
    """Ask for a copy of the first output."""
    if component not in component_names():
        return []
    return [flag(next(iter(load_component(component).outputs()))), str(root / "copied")]


def _started(argv: list[str], environ: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "slimline", *argv],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def _called(argv: list[str], environ: dict[str, str]) -> tuple[int, str]:
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        _logging_kept(),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        patch.setattr("os.environ", environ)
        patch.setattr(tempfile, "tempdir", environ["TMPDIR"])
        patch.setattr(sys, "argv", ["slimline", *argv])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0), said.getvalue()


@contextmanager
def _logging_kept():
    """`main` sets up logging for a process of its own; put back what was there."""
    root, ours = logging.getLogger(), logging.getLogger("slimline")
    before = list(root.handlers), root.level, ours.level
    root.handlers.clear()  # taken away here, `basicConfig(force=True)` does not close them
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
