"""What a job reads as files of its worker: trusted keys, CA bundles, AWS settings, secret files.

On this machine they are mounted read-only, if the container's user may read them. Else they are
copied into the job's volume, where that user alone reads them and which goes with the container:
so it is with a remote engine, and for a worker that runs in a container itself.
"""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VOLUME = "/work"
JOB = "job"
"""Where in the volume the job stages its files."""
_COPIES = ".slimline"
_MOUNTS = "/run/slimline"
_NAMED_BY = re.compile(
    "SLIMLINE_TRUSTED_KEYS|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|AWS_CA_BUNDLE|AWS_CONFIG_FILE"
    "|AWS_SHARED_CREDENTIALS_FILE|AWS_WEB_IDENTITY_TOKEN_FILE"
    "|AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE|SLIMLINE_SECRET_.+_FILE"
)
_AWS_DEFAULTS = {
    "AWS_CONFIG_FILE": ".aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials",
}
_READ, _ENTER = 0o4, 0o1


@dataclass(frozen=True)
class User:
    """Who a container's processes are."""

    uid: int
    gid: int

    def may(self, path: Path, bits: int) -> bool:
        """Whether the mode of a file or directory gives this user these of rwx (4, 2, 1)."""
        found = path.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid == self.gid else 0
        return (found.st_mode >> shift) & bits == bits


IMAGE_USER = User(65532, 65532)
"""The user that every image has."""


@dataclass(frozen=True)
class GivenFile:
    """A file or directory that a variable names, and where the job finds it."""

    variable: str
    source: Path
    copied: bool

    @property
    def target(self) -> str:
        """Its path in the container."""
        return f"{f'{VOLUME}/{_COPIES}' if self.copied else _MOUNTS}/{self.variable.lower()}"


def given_files(
    environment: Mapping[str, str], user: User, *, mountable: bool
) -> tuple[GivenFile, ...]:
    """The files that variables of a job's environment name.

    Args:
        environment: the job's, with the worker's HOME.
        user: who has to read them.
        mountable: False where the engine sees another file system than this process.

    Raises:
        BadParameters: when one is not there.
    """
    named = {k: v for k, v in environment.items() if v and _NAMED_BY.fullmatch(k)}
    found = []
    for variable, path in {**_aws_defaults(environment), **named}.items():
        source = Path(path).absolute()
        if not source.exists():
            msg = f"{variable} names {path}, which is not there: correct it or leave it out"
            raise BadParameters(msg)
        found.append(GivenFile(variable, source, not (mountable and _readable(source, user))))
    return tuple(found)


def archive(files: Iterable[GivenFile], user: User) -> bytes:
    """A tar file for the volume: the job's directory and the copies, all the user's own."""
    data = io.BytesIO()

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid, info.gid, info.uname, info.gname = user.uid, user.gid, "", ""
        info.mode = 0o700 if info.isdir() else 0o400
        return info

    with tarfile.open(fileobj=data, mode="w", dereference=True) as tar:
        for name in (JOB, _COPIES):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(owned(folder))
        for file in files:
            tar.add(file.source, f"{_COPIES}/{file.variable.lower()}", filter=owned)
    return data.getvalue()


def _aws_defaults(environment: Mapping[str, str]) -> dict[str, str]:
    """Where boto3 looks without being told, if no key pair is given."""
    home = environment.get("HOME")
    if not home or environment.get("AWS_ACCESS_KEY_ID"):
        return {}
    places = {variable: Path(home, path) for variable, path in _AWS_DEFAULTS.items()}
    return {variable: str(path) for variable, path in places.items() if path.is_file()}


def _readable(path: Path, user: User) -> bool:
    if path.is_dir():
        return user.may(path, _READ | _ENTER) and all(_readable(p, user) for p in path.iterdir())
    return user.may(path, _READ)
