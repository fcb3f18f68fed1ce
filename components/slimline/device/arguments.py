"""The command line of a device's two programs: one agent, and a small fleet."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The options that both have."""
    made = argparse.ArgumentParser(prog=program, description=description)
    made.add_argument("--home", type=Path, required=True, help="directory of slots and state")
    made.add_argument("--repository", required=True, help="the fleet: s3://bucket/prefix or a path")
    made.add_argument("--group", required=True, help="the group whose campaigns it follows")
    made.add_argument("--root", type=Path, required=True, help="TUF root metadata to trust")
    made.add_argument(
        "--trusted", type=Path, help="directory of package keys; default SLIMLINE_TRUSTED_KEYS"
    )
    made.add_argument("--interval", type=float, default=60.0, help="seconds between polls")
    made.add_argument(
        "--enrol", action="store_true", help="put the public key into the repository first"
    )
    return made


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop
