"""What of the engine's machine a container sees, and as which user.

A store that is a directory, the files it is given, what SLIMLINE_DOCKER_MOUNTS adds, and, for a job
that starts containers itself, the engine and the directory of endpoints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from docker.types import Mount  # noqa: TID253 - imported when this runner is asked for

from slimline.adapters.runners.docker.engine import DEFAULT_ADDRESS
from slimline.adapters.runners.docker.files import IMAGE_USER, User
from slimline.adapters.runners.docker.variables import ENDPOINTS
from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slimline.adapters.runners import Launch
    from slimline.adapters.runners.docker.container import Settings
    from slimline.adapters.runners.docker.engine import Engine
    from slimline.adapters.runners.docker.files import GivenFile

ENGINE_SOCKET = DEFAULT_ADDRESS.removeprefix("unix://")
_READ_ENTER_WRITE = 0o7


def container_user(worker: User, store: Path | None) -> User:
    """Who the container is: the image's own user, or one that can write the mounted store.

    That is the worker's user, or the store's owner where the worker is root; never root.

    Raises:
        BadParameters: when it cannot write the store.
    """
    if store is None:
        return IMAGE_USER
    _made(store, worker)
    owner = store.stat()
    user = worker if worker.uid else User(owner.st_uid, owner.st_gid)
    if user.uid == 0:
        user = IMAGE_USER
    parts = (store, *(store / name for name in ("artifacts", "jobs")), *store.glob("latest"))
    for path in (*parts, *store.glob("latest/*/")):
        if path.exists() and not user.may(path, _READ_ENTER_WRITE):
            msg = (
                f"store {store}: containers run as {user.uid}:{user.gid}, which cannot write "
                f"{path}: `chown -R {user.uid}:{user.gid} {store}`, run the workers as the store's "
                "owner, or keep the store in S3"
            )
            raise BadParameters(msg)
    return user


def container_mounts(
    launch: Launch,
    store: Path | None,
    files: tuple[GivenFile, ...],
    engine: Engine,
    settings: Settings,
) -> list[Mount]:
    """All mounts of a job's container; those that SLIMLINE_DOCKER_MOUNTS asks for win.

    Raises:
        BadParameters: when SLIMLINE_DOCKER_MOUNTS is written in another way.
    """
    asked = [_parsed(text) for text in settings.mounts.split(",") if text.strip()]
    taken = {mount["Target"] for mount in asked}
    due = _mounts(launch, store, files, engine, settings)
    return [*asked, *(mount for mount in due if mount["Target"] not in taken)]


def _mounts(
    launch: Launch,
    store: Path | None,
    files: tuple[GivenFile, ...],
    engine: Engine,
    settings: Settings,
) -> Iterator[Mount]:
    if store:
        yield Mount(str(store), str(store), "bind")
    if launch.needs.engine:
        yield Mount(ENGINE_SOCKET, socket_of(engine), "bind")
        for path in endpoints(launch).values():
            _made(Path(path), settings.user)
            yield Mount(path, path, "bind")
    for file in files:
        if not file.copied:
            yield Mount(file.target, str(file.source), "bind", read_only=True)


def endpoints(launch: Launch) -> dict[str, str]:
    """The directory of endpoints has the same path inside: the engine is told paths below it."""
    given = launch.environment.get(ENDPOINTS)
    if not given:
        return {}
    return {ENDPOINTS: str(Path(given).absolute())}


def socket_of(engine: Engine) -> str:
    """The engine's socket on its machine."""
    return str(engine.socket or ENGINE_SOCKET)


def must_work_from_afar(
    launch: Launch, store: Path | None, engine: Engine, settings: Settings
) -> None:
    """Refuse what only an engine on this machine can give.

    Raises:
        BadParameters: says what to do instead.
    """
    needs = {
        f"store {store} is a directory of this machine: keep it in S3": store,
        "SLIMLINE_DOCKER_MOUNTS names directories of this machine: leave it out": settings.mounts,
        f"{launch.component} starts containers itself: run it with `runner: process`": (
            launch.needs.engine
        ),
    }
    for cure, needed in needs.items():
        if needed:
            raise BadParameters(f"Docker engine {engine.address} is on another machine, but {cure}")


def _made(place: Path, worker: User) -> None:
    """Make a directory if there is none; one that root makes is the image's user's."""
    if not place.exists():
        place.mkdir(parents=True)
        if worker.uid == 0:
            os.chown(place, IMAGE_USER.uid, IMAGE_USER.gid)


def _parsed(text: str) -> Mount:
    parts = text.strip().split(":")
    source, target = (*parts, "", "")[:2]
    if not (source.startswith("/") and target.startswith("/")) or parts[2:] not in ([], ["ro"]):
        msg = f"SLIMLINE_DOCKER_MOUNTS: {text!r} is not host:container[:ro] with absolute paths"
        raise BadParameters(msg)
    return Mount(target, source, "bind", read_only=bool(parts[2:]))
