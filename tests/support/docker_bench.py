"""Jobs of the talking room in containers of the real engine, and what is left of them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slimline.adapters.argv import to_argv
from slimline.adapters.images import load_lock
from slimline.adapters.runners import Launch
from slimline.adapters.runners.docker import DockerRunner
from slimline.adapters.runners.docker.container import Settings, container_name, plan
from slimline.adapters.runners.docker.engine import Engine, Gone
from slimline.adapters.runners.environment import job_environment
from slimline.contract import load_component
from slimline.contract.job import identify
from support.probe import PLUGIN

if TYPE_CHECKING:
    from slimline.adapters.runners.docker import DockerHandle
    from slimline.contract import Resources

_SITE = "/opt/venv/lib/python3.11/site-packages"
ROOT = Path(__file__).parents[2]
_PACKAGE = ROOT / "components" / "slimline"


def development_mounts(*more: str) -> str:
    """SLIMLINE_DOCKER_MOUNTS that puts the code of this checkout, and the rooms for tests, into an
    image."""
    probe = [f"{path}:{_SITE}/{path.name}:ro" for path in sorted(PLUGIN.iterdir())]
    return ",".join([f"{_PACKAGE}:{_SITE}/slimline:ro", *probe, *more])


@dataclass
class DockerBench:
    """A runner, a store, and a short way to launch the talking room.

    `base` is the environment that a worker has; nothing of the one that runs tests gets in.
    """

    store: str
    runner: DockerRunner
    lines: list[str] = field(default_factory=list)
    base: dict[str, str] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)
    note: str = field(default_factory=lambda: uuid.uuid4().hex)

    def launch(
        self,
        claim: str = "dag/run/talk_step",
        *,
        needs: Resources | None = None,
        given: dict[str, str] | None = None,
        image: str = "base",
        **values: Any,
    ) -> Launch:
        kind = load_component("talk")
        job = kind.parse({"note": self.note, **values})
        digest = self.runner.image_digest(image)
        identity = identify(job, digest).digest
        self.identities.append(identity)
        work = self.runner.work_path(identity)
        options = ["--store", self.store, "--work-dir", work, "--image-digest", digest]
        limits = needs or kind.needs
        return Launch(
            identity=identity,
            component=kind.component_name(),
            image=image,
            arguments=(*to_argv(job), *options),
            environment=job_environment(kind, given or {}, limits, base=self.base),
            needs=limits,
            store=self.store,
            claim=claim,
        )

    def start(self, **values: Any) -> DockerHandle:
        return self.runner.start(self.launch(**values))

    def run(self, **values: Any) -> int:
        return self.start(**values).wait(self.lines.append)

    def said(self, words: str) -> int:
        """How many of the job's own lines hold these words."""
        return sum(words in line and '"message"' in line for line in self.lines)

    def script(self, script: str, *, needs: Resources | None = None) -> DockerHandle:
        """A container of the runner's making that runs Python in place of the room."""
        launch = self.launch(needs=needs, note=uuid.uuid4().hex)
        runner = self.runner
        made = plan(launch, runner.lock.image(launch.image), runner.engine, runner.settings)
        config = {**made.config, "entrypoint": ["python", "-c"], "command": [script]}
        runner._start(replace(made, config=config))
        return runner.start(launch)

    def wait_for(self, words: str, handle: DockerHandle) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if words.encode() in Engine().api.logs(handle.container):
                return
            time.sleep(0.05)
        pytest.fail(f"{words!r} was not said")

    def inspect(self, identity: str) -> dict[str, Any] | None:
        """The container of a job, None when there is none."""
        try:
            return Engine().inspect(container_name(identity))
        except Gone:
            return None

    def clear(self) -> None:
        """Remove every container that was made here."""
        for identity in self.identities:
            Engine().remove(container_name(identity), force=True)


def open_bench(root: Path, engine: Engine | None = None, **settings: Any) -> DockerBench:
    """A bench with a store under `root`; a worker's settings as given."""
    mounts = development_mounts(*settings.pop("mounts", ()))
    lock = load_lock(ROOT / "images" / "lock.json")
    runner = DockerRunner(engine, Settings(mounts=mounts, **settings), lock, patience=3.0)
    return DockerBench(str(root / "store"), runner)


def bridge_address() -> str:
    """This machine's address on the bridge of containers."""
    settings = Engine().api.inspect_network("bridge")["IPAM"]["Config"][0]
    first = next(ip_network(settings["Subnet"]).hosts())
    return str(settings.get("Gateway") or first)
