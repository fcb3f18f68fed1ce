"""The story of a deployment on one machine: a stable address, a server behind it, and the switch.

    start the new server -> ready -> golden request -> switch -> golden request at the address
        -> drain the old one

Until the switch no client meets the new server; when anything up to the last check fails, the old
one serves on (or serves again) and the new one is stopped. What servers are made of, processes or
containers, is the platform's business.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slimline.contract import BadData, BadParameters, Refused, get_logger
from slimline.deploy.asking import ask_golden, package_of
from slimline.deploy.receipt import DeployReceipt
from slimline.deploy.record import EndpointRecord, alone, read_record, write_record

if TYPE_CHECKING:
    from slimline.contract import Package
    from slimline.deploy.asking import Address
    from slimline.deploy.record import Backend, Front, Running
    from slimline.deploy.spec import Deploy, Docker, Local
    from slimline.trust.manifest import PackageManifest
    from slimline.trust.request import GoldenAnswer, GoldenRequest

log = get_logger(__name__)
VARIABLE = "SLIMLINE_ENDPOINTS"
_STEP = 0.05


class Platform(Protocol):
    """What servers run on: starts, finds, asks after and removes them."""

    name: str
    """Of the target, and of its settings in `Deploy`."""

    @property
    def kind(self) -> type[Running]:
        """What its servers are."""

    @property
    def settings(self) -> Local | Docker:
        """What `Deploy` says for this target."""

    def start_server(self, root: Path, package: Package, version: str) -> Backend:
        """Start a server on a copy of a verified package; it is not ready yet."""

    def address(self, backend: Backend) -> Address | None:
        """Where this process reaches a server; None while that is not known."""

    def keep(self, backend: Backend) -> None:
        """A server has proven itself: it shall come back when it ends by itself."""

    def start_front(self, root: Path, port: int) -> Front:
        """Hold an endpoint's address, at a port or at a free one when it is 0.

        Raises:
            BadParameters: when the port is taken.
        """

    def is_alive(self, process: Running) -> bool:
        """Whether it still runs."""

    def exit_code(self, process: Running) -> int | None:
        """How it ended; None while it runs, or when nobody can tell."""

    def last_words(self, backend: Backend) -> str:
        """Why a server ended, as its log tells."""

    def stop(self, process: Running) -> None:
        """Ask it to end, wait for it, and kill it when it does not."""

    def remove(self, backend: Backend) -> None:
        """Stop a server, which answers all it was sent first, and remove its slot."""

    def sweep(self, root: Path, record: EndpointRecord) -> None:
        """Remove what a killed deployment made and did not come to write down."""


def deploy(
    platform: Platform, job: Deploy, manifest: PackageManifest, golden: GoldenRequest
) -> DeployReceipt:
    """Serve a verified package at the endpoint's address.

    Raises:
        Refused, BadData: when the new server does not get ready or answers otherwise than its
            package expects; what served before serves on.
        TryLater: when another job is at it.
    """
    root = _state_dir(platform) / job.endpoint
    with alone(root):
        return _Deployment(platform, root, job, manifest, golden).run()


class _Deployment:
    """One job at one endpoint, alone with it."""

    def __init__(
        self,
        platform: Platform,
        root: Path,
        job: Deploy,
        manifest: PackageManifest,
        golden: GoldenRequest,
    ) -> None:
        self.platform, self.root, self.job = platform, root, job
        self.manifest, self.golden = manifest, golden
        self.who = f"endpoint {job.endpoint}"
        self.record = read_record(root)

    def run(self) -> DeployReceipt:
        self._check_platform()
        self._clear_others()
        self.platform.sweep(self.root, self.record)
        before = self.record.current.digest if self.record.current else ""
        changed = not (self.record.current and self._serves(self.record.current))
        if changed:
            self._switch()
        front = self._front()
        answer = ask_golden((front.host, front.port), self.golden, self.who)
        return DeployReceipt(
            target=self.platform.name,
            endpoint=self.job.endpoint,
            address=front.url,
            package=self.manifest.name,
            version=self.manifest.version,
            before=before,
            after=self.job.package.digest,
            changed=changed,
            golden=answer,
        )

    def _check_platform(self) -> None:
        units = [unit.process for unit in (*self.record.backends, self.record.front) if unit]
        stranger = next((u for u in units if not isinstance(u, self.platform.kind)), None)
        if stranger is not None:
            msg = (
                f"target is {self.platform.name}, and {self.who} runs as {stranger}: give the "
                "target it has, another name, or stop the endpoint first"
            )
            raise BadParameters(msg)

    def _switch(self) -> None:
        """Bring the new server up beside the old one, switch, prove it, and let the old one go."""
        old = self.record.current
        new = self.platform.start_server(self.root, self.job.package, self.manifest.version)
        try:
            self._note(others=(new,))
            log.info("%s: package %s starts as %s", self.who, new.digest[:12], new.process)
            new = self._when_ready(new)
            self._front()
            self._note(current=new, others=(old,) if old else ())
            self._prove(new)
            self.platform.keep(new)
        except BaseException:
            self._note(current=old, others=(new,))
            self.platform.remove(new)
            self._note(others=())
            remains = f"package {old.digest[:12]} serves on" if old else "nothing serves"
            log.warning("%s: the new server failed and was stopped; %s", self.who, remains)
            raise
        log.info("%s: switched to package %s", self.who, new.digest[:12])
        self._clear_others()

    def _when_ready(self, backend: Backend) -> Backend:
        """Wait for a server, ask its golden request; returns it with its port.

        Raises:
            Refused: when it refused its package (exit code 65).
            BadData: when it ended, was not ready in time, or answers wrongly.
        """
        seconds = self.platform.settings.start_seconds
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._still_starts(backend)
            address = self.platform.address(backend)
            if address and package_of(address) == backend.digest:
                ask_golden(address, self.golden, "the new server")
                return backend.model_copy(update={"port": address[1]})
            time.sleep(_STEP)
        setting = f"{self.platform.name}.start_seconds"
        words = self.platform.last_words(backend)
        msg = f"the new server was not ready within {seconds:g} s ({setting}): {words}"
        raise BadData(msg)

    def _still_starts(self, backend: Backend) -> None:
        code = self.platform.exit_code(backend.process)
        if code is not None or not self.platform.is_alive(backend.process):
            kind = Refused if code == Refused.exit_code else BadData
            msg = f"the new server ended with {code}: {self.platform.last_words(backend)}"
            raise kind(msg)

    def _prove(self, new: Backend) -> GoldenAnswer:
        """The address must lead to the new package, and it must answer there as it should."""
        front = self._front()
        found = package_of((front.host, front.port))
        if found != new.digest:
            msg = f"{self.who}: its address leads to {found[:12] or 'nobody'} after the switch"
            raise BadData(msg)
        return ask_golden((front.host, front.port), self.golden, self.who)

    def _front(self) -> Front:
        """What holds the address; it is started when it does not run.

        Raises:
            BadParameters: when the endpoint has another port, or the port is taken.
        """
        front, port = self.record.front, self.platform.settings.port
        if front and self.platform.is_alive(front.process):
            if port not in (0, front.port):
                msg = (
                    f"{self.platform.name}.port is {port}, {self.who} listens on {front.port}: "
                    "leave it out, or stop the endpoint first"
                )
                raise BadParameters(msg)
            return front
        made = self.platform.start_front(self.root, port or (front.port if front else 0))
        self.record = write_record(self.root, self.record.model_copy(update={"front": made}))
        return made

    def _serves(self, current: Backend) -> bool:
        if current.digest != self.job.package.digest:
            return False
        address = self.platform.address(current)
        alive = address and self.platform.is_alive(current.process)
        return bool(address and alive and package_of(address) == current.digest)

    def _clear_others(self) -> None:
        """Stop servers that drain, or that a killed deployment left behind."""
        for backend in self.record.others:
            self.platform.remove(backend)
        self._note(others=())

    def _note(self, **changes: object) -> None:
        self.record = write_record(self.root, self.record.model_copy(update=changes))


def _state_dir(platform: Platform) -> Path:
    given = platform.settings.state_dir or os.environ.get(VARIABLE, "")
    if not given:
        msg = f"{platform.name}.state_dir: give a directory for endpoints, or set {VARIABLE}"
        raise BadParameters(msg)
    return Path(given).resolve()
