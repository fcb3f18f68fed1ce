"""The two places a package can be in: A and B, one active, the other free to be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData, Refused
from slimline.contract.artifact import digest_tree
from slimline.device.state import SLOTS, State
from slimline.fleet.documents import Running
from slimline.trust.package import verify_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slimline.device.disk import Disk
    from slimline.device.state import Slot
    from slimline.trust.keys import TrustedKeys


class Slots:
    """The directories `slots/A` and `slots/B`, and the link `current` for whoever infers."""

    def __init__(self, disk: Disk, home: Path) -> None:
        self._disk, self._root, self._link = disk, home / "slots", home / "current"

    def path(self, slot: Slot) -> Path:
        """Where a slot's package lies."""
        return self._root / slot

    def is_whole(self, slot: Slot, running: Running | None) -> bool:
        """Whether a slot holds exactly what it should, by reading every byte."""
        if running is None or not self.path(slot).is_dir():
            return False
        try:
            return digest_tree(self.path(slot)) == running.digest
        except (BadData, OSError):
            return False

    def put(self, source: Path, slot: Slot, digest: str) -> None:
        """STAGE: move a verified package into a slot, make it durable, and read it again.

        Raises:
            Refused: when the disk gives other bytes than it was given.
        """
        target = self.path(slot)
        self._disk.make_directory(self._root)
        self._disk.remove(target)
        self._disk.sync_tree(source)
        self._disk.move(source, target)
        found = digest_tree(target)
        if found != digest:
            msg = f"slot {slot} reads as {found[:12]} after {digest[:12]} was written: bad disk?"
            raise Refused(msg)

    def show(self, slot: Slot | None) -> None:
        """Let `current` point to the active slot."""
        if slot is not None:
            self._disk.point(self._link, f"slots/{slot}")

    def recover(self, trusted: TrustedKeys, prove: Callable[[Path], object]) -> State:
        """Make a record from what lies in the slots, when the real one is lost.

        The slot that `current` names comes first: it was proven once. A slot counts when its
        package verifies and infers rightly. The security floor is that of the chosen package.
        """
        state = State()
        for slot in sorted(SLOTS, key=lambda s: s != self._shown()):
            running = self._verified(slot, trusted)
            state = state.with_slot(slot, running)
            if running and state.active is None and _proven(prove, self.path(slot)):
                floor = running.security_version
                state = state.model_copy(update={"active": slot, "security_floor": floor})
        return state

    def _shown(self) -> str:
        return self._link.readlink().name if self._link.is_symlink() else ""

    def _verified(self, slot: Slot, trusted: TrustedKeys) -> Running | None:
        path = self.path(slot)
        if not path.is_dir():
            return None
        try:
            return describe(path, trusted)
        except BadData:
            return None


def describe(package: Path, trusted: TrustedKeys) -> Running:
    """Verify a package and say what it is.

    Raises:
        Refused: see `verify_package`.
    """
    manifest = verify_package(package, trusted)
    return Running(
        name=manifest.name,
        version=manifest.version,
        digest=digest_tree(package),
        security_version=manifest.security_version,
    )


def _proven(prove: Callable[[Path], object], package: Path) -> bool:
    try:
        prove(package)
    except Refused:
        return False
    return True
