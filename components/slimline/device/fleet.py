"""`python -m slimline.device.fleet`: some devices in one process, for demos and tests of fleets.

Each has its own directory and key and shares nothing with the others but the process, the threads
that take turns, and one child at a time for health checks.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from slimline.contract import SlimlineError, get_logger
from slimline.contract.log import setup_logging
from slimline.device.agent import Agent, Settings
from slimline.device.arguments import parser, stop_on_signal
from slimline.device.disk import Disk
from slimline.device.health import check_in_child
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrol

if TYPE_CHECKING:
    import argparse
    from concurrent.futures import Future
    from pathlib import Path

    from slimline.fleet.documents import Budget

log = get_logger("slimline.device.fleet")
_CHILD = threading.Lock()
_WORKERS = 2


class LocalFleet:
    """Agents that take turns, and `status.json` that says where each is."""

    def __init__(self, home: Path, agents: tuple[Agent, ...], interval: float) -> None:
        self._home, self._agents, self._interval = home, agents, interval
        self._seen: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set; polls that run then are ended in order."""
        due = [(time.monotonic() + self._jitter(), place) for place in range(len(self._agents))]
        heapq.heapify(due)
        waiting: dict[int, Future[None]] = {}
        with ThreadPoolExecutor(_WORKERS) as pool:
            while not stop.is_set():
                when, place = due[0]
                if stop.wait(max(0.0, when - time.monotonic())):
                    break
                heapq.heapreplace(due, (time.monotonic() + self._pause(), place))
                if place not in waiting or waiting.pop(place).done():
                    waiting[place] = pool.submit(self._poll, self._agents[place])
            pool.shutdown(cancel_futures=True)
        for agent in self._agents:
            agent.close()

    def _poll(self, agent: Agent) -> None:
        try:
            status = agent.poll()
            after = status.after.version if status.after else ""
            told = {"version": after, "state": status.state, "reason": status.reason}
        except SlimlineError as error:
            told = {"version": "", "state": "unreachable", "reason": str(error)}
        except Exception as error:
            log.exception("%s failed", agent.settings.device)
            told = {"version": "", "state": "broken", "reason": repr(error)}
        with self._lock:
            if self._seen.get(agent.settings.device) != told:
                self._seen[agent.settings.device] = told
                text = json.dumps({"devices": dict(sorted(self._seen.items()))}, indent=1)
                Disk().replace(self._home / "status.json", text.encode())

    def _pause(self) -> float:
        return self._interval * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads load

    def _jitter(self) -> float:
        return self._interval * random.uniform(0.0, 0.5)  # noqa: S311 - only spreads load


def make_fleet(options: argparse.Namespace) -> LocalFleet:
    """Agents `device-01` ... as the options ask, started and, if asked, enrolled."""
    options.home.mkdir(parents=True, exist_ok=True)
    names = [f"{options.prefix}{number:02d}" for number in range(1, options.devices + 1)]
    agents = tuple(_agent(options, name) for name in names)
    objects = open_objects(options.repository)
    for agent in agents:
        agent.start()
        if options.enrol:
            enrol(objects, agent.settings.device, agent.settings.group, agent.key())
    return LocalFleet(options.home, agents, options.interval)


def main(argv: list[str] | None = None) -> int:
    """Run the fleet until SIGTERM; returns the exit code (sysexits)."""
    options = _options().parse_args(argv)
    setup_logging()
    stop = stop_on_signal()
    try:
        fleet = make_fleet(options)
    except SlimlineError as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for a person, no traceback
        return error.exit_code
    sys.stdout.write(f"ready {options.devices} devices\n")
    sys.stdout.flush()
    fleet.run(stop)
    return 0


def _agent(options: argparse.Namespace, name: str) -> Agent:
    settings = Settings(
        home=options.home / name,
        repository=options.repository,
        device=name,
        group=options.group,
        root=options.root,
        trusted=options.trusted,
    )
    return Agent(settings, health=_one_at_a_time)


def _one_at_a_time(package: Path, budget: Budget) -> dict[str, float]:
    with _CHILD:
        return check_in_child(package, budget)


def _options() -> argparse.ArgumentParser:
    made = parser("python -m slimline.device.fleet", "Some devices in one process.")
    made.add_argument("--devices", type=int, default=10, help="how many")
    made.add_argument("--prefix", default="device-", help="what their names begin with")
    return made


if __name__ == "__main__":
    sys.exit(main())
