"""A real fleet in little: a TUF repository in a directory, signed packages, agents."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimline.contract import Package
from slimline.device.agent import Agent, Settings
from slimline.device.health import check
from slimline.fleet.documents import WHOLE, Budget, Campaign, Wave
from slimline.fleet.fit import read_inventory
from slimline.fleet.keys import generate_fleet_keys
from slimline.fleet.objects import open_objects
from slimline.fleet.releases import copy_package, describe_release
from slimline.fleet.reports import enrol
from slimline.fleet.repository import Repository
from slimline.trust.keys import TrustedKeys, generate_key, load_trusted
from slimline.trust.package import load_manifest
from support.packages import tiny_package

if TYPE_CHECKING:
    from pathlib import Path

GROUP = "gate"
EVERYONE = (Wave(threshold=WHOLE),)


@dataclass
class Fleet:
    """A repository with one group `gate` (and an idle one, `door`), and the keys to all."""

    home: Path
    uri: str
    keys: dict[str, str]
    private_pem: str
    trusted: Path
    root: Path
    _numbers: list[int] = field(default_factory=lambda: [0])

    @property
    def objects(self):
        return open_objects(self.uri)

    @property
    def repository(self) -> Repository:
        return Repository(self.objects, self.keys)

    @property
    def trusted_keys(self) -> TrustedKeys:
        return load_trusted(self.trusted)

    def package(self, seed: int, **changes) -> Path:
        """A signed package; another seed is another version."""
        self._numbers[0] += 1
        directory = self.home / "packages" / str(self._numbers[0])
        directory.mkdir(parents=True)
        return tiny_package(directory, **{"private_pem": self.private_pem, "seed": seed, **changes})

    def release(self, package: Path, **changes):
        """Publish a package's descriptor; returns it."""
        artifact = Package.at(package)
        uri, coded = copy_package(self.objects, package, artifact.digest)
        manifest = load_manifest(package)
        descriptor = describe_release(package, manifest, artifact, uri=uri, coded=coded)
        descriptor = descriptor.model_copy(update=changes)
        self.repository.publish_release(descriptor)
        return descriptor

    def campaign(self, descriptor, **changes) -> Campaign:
        """Publish a campaign that is open for everyone."""
        self._numbers[0] += 1
        campaign = Campaign(
            **{
                "id": f"c{self._numbers[0]}",
                "group": GROUP,
                "kind": "update",
                "release": descriptor.target if descriptor else None,
                "package_digest": descriptor.package_digest if descriptor else None,
                "salt": "salt",
                "waves": EVERYONE,
                "open_waves": 1,
                "failure_threshold": 0.0,
                "budget": Budget(),
                **changes,
            }
        )
        self.repository.publish_campaign(campaign)
        return campaign

    def tell(self, package: Path, **changes):
        """Release a package and let everyone run it; returns its descriptor."""
        descriptor = self.release(package)
        self.campaign(descriptor, **changes)
        return descriptor

    def agent(self, name: str = "d1", *, start: bool = True, group: str = GROUP, **changes):
        """A device, enrolled; health checks run in this process unless told otherwise."""
        agent = Agent(
            self.settings(name, group=group),
            **{"health": check, "inventory": read_inventory(), **changes},
        )
        if start:
            agent.start()
            enrol(self.objects, name, group, agent.key())
        return agent

    def settings(self, name: str = "d1", group: str = GROUP) -> Settings:
        return Settings(
            home=self.home / "devices" / name,
            repository=self.uri,
            device=name,
            group=group,
            root=self.root,
            trusted=self.trusted,
        )


def make_fleet(home: Path, uri: str = "") -> Fleet:
    """A new fleet in a directory, or at another URI."""
    private, public = generate_key()
    trusted = home / "trusted"
    trusted.mkdir(parents=True)
    (trusted / "release.pem").write_text(public)
    fleet = Fleet(
        home=home,
        uri=uri or str(home / "repository"),
        keys=generate_fleet_keys(),
        private_pem=private,
        trusted=trusted,
        root=home / "root.json",
    )
    fleet.root.write_bytes(fleet.repository.create((GROUP, "door")))
    return fleet


def copy_of(directory: Path, target: Path) -> Path:
    """A copy of a tree, to damage."""
    return shutil.copytree(directory, target, symlinks=True)
