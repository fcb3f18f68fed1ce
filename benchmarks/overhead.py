"""What a container step costs beyond its container: ours beside Airflow's plain DockerOperator.

Both run the same small job (`gate`) in the same image, in turns, by a call of `execute` in this
process: what Airflow itself needs to start a task comes on top of either and is left out. A step's
overhead is the time of `execute` less the time from the container's start to its end as the engine
tells them. Ours decides about reuse, hardens and limits the container, reads the manifest and
removes container and volume; the peer starts, streams the log and removes the container.

    python benchmarks/overhead.py [--repeat 15] [--json FILE]

Needs a Docker engine and `make images`. On a busy machine read the difference, not the times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="slimline-overhead-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from docker.types import Mount
from support.packages import tiny_evaluation, tiny_model

from slimline.adapters.airflow.operator import ComponentOperator
from slimline.adapters.argv import to_argv
from slimline.adapters.images import load_lock
from slimline.adapters.runners.docker.engine import LABEL, Engine
from slimline.adapters.runners.docker.files import IMAGE_USER
from slimline.contract import Artifact, Evaluation, Model, load_component, open_store
from slimline.contract.store import save_artifact
from slimline.recipe.plan import Source
from slimline.trust.keys import generate_key

if TYPE_CHECKING:
    from collections.abc import Callable

COMPONENT = load_component("gate")
OURS, PEER = "slimline", "DockerOperator"
OVERHEAD, FIRST, HIT = "overhead of a step", "start to first log line", "a hit (no container)"
FIRST_WORDS = "gate ran: "
_DRAWS = 2000
PEER_TAG = "slimline-overhead:peer"


class Clock:
    """Stands for a task's logger; notes when the container's first line reached it."""

    def __init__(self, passed_over: int = 0) -> None:
        self.passed_over, self.moment = passed_over, 0.0

    def info(self, text: str, *values: Any) -> None:
        message = text % values if values else text
        if FIRST_WORDS in message and not self.moment:
            if self.passed_over:  # the operator's own decision, in the same words
                self.passed_over -= 1
            else:
                self.moment = time.monotonic()

    warning = debug = error = info


def main() -> None:
    """Run the rounds, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=15, help="rounds, one step of each a round")
    parser.add_argument("--json", type=Path, help="file for all figures, in seconds")
    given = parser.parse_args()
    Connection.get = _no_connection
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        bench.engine.api.tag(bench.image.reference, *PEER_TAG.split(":"))
        try:
            figures = _rounds(bench, given.repeat)
        finally:
            bench.engine.api.remove_image(PEER_TAG)
    _print(figures, given.repeat)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


def _rounds(bench: Bench, repeat: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = defaultdict(list)
    steps: dict[str, Callable[[int], Any]] = {OURS: bench.ours, PEER: bench.peer}
    for number in range(-1, repeat):  # the first one warms up and does not count
        for name in sorted(steps, reverse=bool(number % 2)):
            overhead, first = bench.measure(name, steps[name], number + 2)
            if number >= 0:
                figures[f"{name}: {OVERHEAD}"].append(overhead)
                figures[f"{name}: {FIRST}"].append(first)
        begin = time.monotonic()
        bench.ours(number + 2, Clock())
        if number >= 0:
            figures[f"{OURS}: {HIT}"].append(time.monotonic() - begin)
    return dict(figures)


class Bench:
    """A store with the inputs of the job, and both ways to run it."""

    def __init__(self, root: Path) -> None:
        self.image = load_lock().image(COMPONENT.image)
        self.engine = Engine()
        self.store = root / "store"
        private, _ = generate_key()
        self.secret = {"SLIMLINE_SECRET_SIGNING": private}
        os.environ |= {
            **self.secret,
            "SLIMLINE_STORE": str(self.store),
            "SLIMLINE_RUNNER": "docker",
        }
        tiny_model(root / "model")
        record = tiny_evaluation(Model.at(root / "model").digest)
        (root / "evaluation").mkdir()
        (root / "evaluation" / "evaluation.json").write_text(record.model_dump_json())
        self.inputs = {
            "candidate": self._stored(Model.at(root / "model")),
            "evaluation": self._stored(Evaluation.at(root / "evaluation")),
        }
        for path in (self.store, *self.store.rglob("*")) if os.getuid() == 0 else ():
            os.chown(path, IMAGE_USER.uid, IMAGE_USER.gid)

    def _stored(self, artifact: Artifact) -> dict[str, str]:
        kept = save_artifact(open_store(str(self.store)), artifact)
        return {"uri": kept.uri, "digest": kept.digest}

    def ours(self, number: int, clock: Clock) -> None:
        """A step by our operator; an equal number is an equal job."""
        sources = {name: [Source("before", name)] for name in self.inputs}
        operator = ComponentOperator(
            task_id="gate",
            component="gate",
            parameters={"min_test_examples": number},
            inputs=sources,
        )
        ti = SimpleNamespace(
            dag_id="benchmark",
            run_id=str(number),
            task_id="gate",
            xcom_pull=lambda **_: {"outputs": self.inputs},
        )
        operator._cached_logger = clock  # noqa: SLF001 - what `log` gives
        operator.execute({"ti": ti, "params": {}})

    def peer(self, number: int, clock: Clock) -> None:
        """The same container by the plain operator, with what it does unasked."""
        job = COMPONENT.parse({**self.inputs, "min_test_examples": number})
        argv = ["run", *to_argv(job), "--store", str(self.store), "--force"]
        gate = DockerOperator(
            task_id="gate",
            image=PEER_TAG,  # by an id it would try to pull
            command=argv,
            environment={"SLIMLINE_LOG": "json", "HOME": "/tmp", **self.secret},  # noqa: S108
            user=f"{_owner(self.store)}",
            mounts=[Mount(str(self.store), str(self.store), "bind")],
            mount_tmp_dir=False,
            network_mode="none",
            auto_remove="force",
            labels={f"{LABEL}benchmark": "peer"},
            docker_url=self.engine.address,
        )
        gate._cached_logger = clock  # noqa: SLF001 - what `log` gives
        gate.execute({})

    def measure(self, name: str, step: Callable[..., Any], number: int) -> tuple[float, float]:
        """Overhead and time to the first line, in seconds."""
        clock = Clock(passed_over=int(name == OURS))
        since, begin = time.time(), time.monotonic()
        step(number, clock)
        wall = time.monotonic() - begin
        label = {OURS: f"claim=benchmark/{number}/gate", PEER: "benchmark=peer"}[name]
        return wall - self._container_seconds(LABEL + label, since), clock.moment - begin

    def _container_seconds(self, label: str, since: float) -> float:
        """From the start to the end of the one container with that label since then."""
        events = self.engine.api.events(
            since=f"{since:.9f}",
            until=f"{time.time():.9f}",
            filters={"type": "container", "event": ["start", "die"], "label": label},
            decode=True,
        )
        told = {event["Action"]: event["timeNano"] for event in events}
        return float(told["die"] - told["start"]) / 1e9


def _owner(store: Path) -> str:
    found = store.stat()
    return f"{found.st_uid}:{found.st_gid}"


def _no_connection(name: str) -> Connection:
    raise AirflowNotFoundException(name)


def _print(figures: dict[str, list[float]], repeat: int) -> None:
    print(f"{'milliseconds':<45}{'median':>9}   95 % interval of it ({repeat} rounds)")
    for name, seconds in figures.items():
        low, high = _interval(seconds)
        print(f"{name:<45}{_ms(statistics.median(seconds))}   {_ms(low)} to {_ms(high)}")
    pairs = zip(figures[f"{OURS}: {OVERHEAD}"], figures[f"{PEER}: {OVERHEAD}"], strict=True)
    more = [ours - peer for ours, peer in pairs]
    low, high = _interval(more)
    name = "ours beyond the peer, round by round"
    print(f"{name:<45}{_ms(statistics.median(more))}   {_ms(low)} to {_ms(high)}")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:9.0f}"


def _interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median by bootstrap."""
    draw = random.Random(0)  # noqa: S311 - statistics
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_DRAWS))
    return medians[round(0.025 * _DRAWS)], medians[round(0.975 * _DRAWS) - 1]


if __name__ == "__main__":
    main()
