"""`python -m slimline.device`: one agent."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

from slimline.contract import SlimlineError, get_logger
from slimline.contract.log import setup_logging
from slimline.device.agent import Agent, Settings
from slimline.device.arguments import parser, stop_on_signal
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrol

if TYPE_CHECKING:
    import argparse

log = get_logger("slimline.device")


def main(argv: list[str] | None = None) -> int:
    """Run an agent; returns the exit code (sysexits)."""
    options = _options().parse_args(argv)
    setup_logging()
    settings = Settings(
        home=options.home,
        repository=options.repository,
        device=options.device_id,
        group=options.group,
        root=options.root,
        trusted=options.trusted,
    )
    try:
        return _run(settings, options)
    except SlimlineError as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for a person, no traceback
        return error.exit_code


def _run(settings: Settings, options: argparse.Namespace) -> int:
    stop = stop_on_signal()
    agent = Agent(settings)
    agent.start()
    try:
        if options.enrol:
            enrol(open_objects(settings.repository), settings.device, settings.group, agent.key())
        if options.once:
            status = agent.poll()
            sys.stdout.write(status.model_dump_json(indent=1) + "\n")
            return 0
        while not stop.is_set():
            try:
                agent.poll()
            except SlimlineError as error:  # a device is far away: it goes on asking
                log.warning("%s", error)
            stop.wait(options.interval * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads load
    finally:
        agent.close()
    return 0


def _options() -> argparse.ArgumentParser:
    made = parser("python -m slimline.device", "Keep one device on what its fleet runs.")
    made.add_argument("--device-id", required=True, help="the name it is enrolled under")
    made.add_argument("--once", action="store_true", help="one poll, print the report, end")
    return made


if __name__ == "__main__":
    sys.exit(main())
