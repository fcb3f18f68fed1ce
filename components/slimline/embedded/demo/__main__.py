"""Run the demo: `python -m slimline.embedded.demo`; `make demo` calls it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters, SlimlineError
from slimline.embedded.demo.stack import start_stack, stop_stack
from slimline.embedded.demo.story import Story
from slimline.embedded.demo.summary import (
    compress_figures,
    release_figures,
    table,
    time_figures,
)

if TYPE_CHECKING:
    from slimline.embedded.demo.stack import Stack
    from slimline.embedded.demo.summary import Figures

STATE_DIR = Path("build/demo")
DAGS = Path("dags")
_INTERRUPTED = 130
_OURS = "made-by-demo"
"""A file that marks a state directory as one that the next demo may remove."""


class Clock:
    """Says what happens, with the seconds since the beginning."""

    def __init__(self) -> None:
        self.begin = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print a line, or a title after an empty one."""
        title = text.startswith("\n")
        mark = f"[{time.monotonic() - self.begin:5.0f} s] "
        sys.stdout.write(f"{chr(10) if title else ''}{mark}{text.lstrip(chr(10))}\n")
        sys.stdout.flush()


def main() -> int:
    """Start, tell the story, write the summary; stop everything when that fails."""
    options = _options().parse_args()
    state_dir, say = options.state_dir, Clock()
    try:
        _clear(state_dir)
        stack = start_stack(state_dir.resolve(), DAGS.resolve(), say, runner=options.runner)
        summary = _tell(Story(stack, say, by_hand=options.approve_by_hand), say)
    except BaseException as error:
        say("interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error}")
        say(f"stopping everything; logs stay in {state_dir}")
        _stop(state_dir, say)
        if isinstance(error, KeyboardInterrupt):
            return _INTERRUPTED
        if isinstance(error, SlimlineError):
            return error.exit_code
        raise
    _end(stack, summary, stop=options.stop)
    return 0


def _stop(state_dir: Path, say: Clock) -> None:
    """Stop everything after a failure, which is the one to be told in the end."""
    try:
        stop_stack(state_dir)
    except SlimlineError as error:
        say(str(error))


def _clear(state_dir: Path) -> None:
    """Stop and remove what an earlier demo left there, but nothing that is not a demo's.

    Raises:
        BadParameters: when the directory holds other things.
    """
    left = state_dir / _OURS
    if state_dir.is_dir() and any(state_dir.iterdir()) and not left.exists():
        msg = f"--state-dir {state_dir} is not empty, and no demo made it: give an empty one"
        raise BadParameters(msg)
    stop_stack(state_dir)
    shutil.rmtree(state_dir, ignore_errors=True)
    state_dir.mkdir(parents=True, mode=0o700)
    left.touch()


def _tell(story: Story, say: Clock) -> Figures:
    first = story.compress("From data to a signed package in the registry", {})
    summary: Figures = {"runner": story.stack.runner}
    summary["green_seconds"] = round(time.monotonic() - say.begin, 1)
    summary["compress"] = compress_figures(first)
    version = str(first.numbers("register")["version"])
    summary["release"] = release_figures(story.promote(version))
    again = story.again()
    summary["second_run"] = time_figures(again)
    summary["bad_candidate"] = {
        "reasons": story.bad_candidate().numbers("gate")["reasons"],
    }
    good, bad = story.bad_release()
    summary["next_candidate"] = time_figures(good)
    summary["bad_release"] = release_figures(bad)
    summary["seconds"] = round(time.monotonic() - say.begin, 1)
    return summary


def _end(stack: Stack, summary: Figures, *, stop: bool) -> None:
    written = stack.state_dir / "summary.json"
    written.write_text(json.dumps(summary, indent=1) + "\n")
    sys.stdout.write(f"\n{table(summary)}\n\n")
    sys.stdout.write(f"All of it in {written}; {summary['seconds']:.0f} s.\n")
    if stop:
        stop_stack(stack.state_dir)
        return
    sys.stdout.write(
        f"Airflow UI    {stack.airflow_url}  login admin  password {stack.password}\n"
        f"MLflow UI     {stack.mlflow_url}\n"
        "Everything still runs; `make stop` stops it, `make clean` removes it.\n"
    )


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="make demo DEMO_ARGS=...", description=__doc__)
    made.add_argument(
        "--approve-by-hand", action="store_true", help="wait for you to approve in Airflow's UI"
    )
    made.add_argument(
        "--state-dir", type=Path, default=STATE_DIR, help="where all of it is written"
    )
    made.add_argument(
        "--runner",
        choices=["process", "docker"],
        default="process",
        help="what jobs, endpoint and devices are: child processes, or containers",
    )
    made.add_argument("--stop", action="store_true", help="stop everything at the end")
    return made


if __name__ == "__main__":
    sys.exit(main())
