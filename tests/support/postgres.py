"""A real PostgreSQL server for a test module, with a role of its own for each database."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from slimline.embedded.ports import free_port
from slimline.embedded.process import Launch, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ADMIN, _USER = "postgres", "postgres"
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Postgres:
    """Where it answers, and who may log in to what."""

    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    """By role; `postgres` may do everything."""

    def url(self, database: str) -> str:
        """A database and the role of that name, as SQLAlchemy writes it."""
        login = f"{database}:{self.passwords[database]}"
        return f"postgresql+psycopg://{login}@{self.host}:{self.port}/{database}"


def program(name: str) -> str:
    """Where Debian keeps a program of PostgreSQL, the newest version; "" when it has none."""
    found = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(found[-1]) if found else shutil.which(name) or ""


@contextmanager
def postgres(state_dir: Path, host: str, *databases: str) -> Iterator[Postgres]:
    """Run a server on `host`; it asks everybody for a password."""
    admin, port = secrets.token_urlsafe(16), free_port()
    # It refuses to run as root, and its user cannot enter root's directories of a test.
    data = Path(tempfile.mkdtemp(prefix="slimline-postgres-"))
    try:
        _initialize(data, admin)
        _configure(data, host, port)
        argv = (*_as_user(), program("postgres"), "-D", str(data / "data"))
        with start(Launch("postgres", argv, _ready), state_dir):
            yield _create(host, port, admin, databases)
    finally:
        shutil.rmtree(data)


def _as_user() -> tuple[str, ...]:
    if os.geteuid():
        return ()
    return ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups")


def _initialize(data: Path, admin: str) -> None:
    (data / "password").write_text(admin)
    if not os.geteuid():
        shutil.chown(data, _USER, _USER)
        shutil.chown(data / "password", _USER, _USER)
    settings = ("--auth=scram-sha-256", f"--pwfile={data / 'password'}", f"--username={_ADMIN}")
    text = ("--encoding=UTF8", "--locale=C", "--no-sync")
    argv = (*_as_user(), program("initdb"), "-D", str(data / "data"), *settings, *text)
    subprocess.run(argv, check=True, capture_output=True, cwd=data)


def _configure(data: Path, host: str, port: int) -> None:
    with (data / "data" / "postgresql.conf").open("a") as file:
        file.write(
            f"listen_addresses = '{host}'\nport = {port}\nunix_socket_directories = ''\n"
            "fsync = off\nmax_connections = 100\n"
        )
    with (data / "data" / "pg_hba.conf").open("a") as file:
        file.write("host all all samenet scram-sha-256\n")


def _ready(log: Path) -> str:
    return "yes" if "ready to accept connections" in log.read_text() else ""


def _create(host: str, port: int, admin: str, databases: tuple[str, ...]) -> Postgres:
    passwords = {name: secrets.token_urlsafe(16) for name in databases}
    where = {"host": host, "port": port, "user": _ADMIN, "password": admin, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:
        for name, password in passwords.items():
            role = sql.Identifier(name)
            secret = sql.Literal(password)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, secret))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
    return Postgres(host, port, {_ADMIN: admin, **passwords})
