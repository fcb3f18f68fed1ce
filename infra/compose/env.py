# ruff: noqa: INP001 - a script
"""Write what compose.yaml needs: .env from images/lock.json, and every secret that is not there.

    python3 infra/compose/env.py

A secret that exists is kept, so it may be run again after `make images`. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
SOCKET = "/var/run/docker.sock"
_DATABASES = ("airflow", "celery", "mlflow")
_S3_KEY = "slimline"
_MQTT_USER = "device"
_MQTT_ROUNDS = 1000


def main(lock: Path, folder: Path, socket: str) -> int:
    """Write `.env` beside compose.yaml's folder `compose/`, and the secrets below it.

    Args:
        lock: images/lock.json.
        folder: infra/compose, or another of its form.
        socket: the Docker engine's.
    """
    if not lock.exists():
        sys.stderr.write(f"{lock} is not there: make images\n")
        return 64
    image = json.loads(lock.read_text())["images"]["airflow"]["reference"]
    group = Path(socket).stat().st_gid if Path(socket).exists() else 0
    (folder.parent / ".env").write_text(
        f"SLIMLINE_AIRFLOW_IMAGE={image}\n"
        f"SLIMLINE_ENGINE_SOCKET={socket}\n"
        f"SLIMLINE_ENGINE_GROUP={group}\n"
    )
    kept = _write_secrets(folder / "secrets")
    sys.stdout.write(f"{folder.parent / '.env'}: Airflow is {image}; {kept} secrets kept\n")
    return 0


def _write_secrets(folder: Path) -> int:
    """Make each secret that is not there; returns how many were.

    The folder is closed to all but its owner. The files are not: a container's user reads them
    through the mount, and has another number than their owner.
    """
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    passwords = {name: _password(folder / f"password_{name}") for name in _names()}
    kept = 0
    for name, make in _secrets(passwords).items():
        path = folder / name
        if path.exists():
            kept += 1
            continue
        path.touch(mode=0o600)
        path.write_text(make())
        path.chmod(0o444)
    return kept


def _names() -> tuple[str, ...]:
    return ("postgres", *_DATABASES, "redis", "s3", "mqtt", "admin")


def _password(path: Path) -> str:
    """A password that is kept beside what is made of it; only this script reads these files."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text()


def _secrets(password: dict[str, str]) -> dict[str, Callable[[], str]]:
    """What each secret holds, by the name it has in compose.yaml."""

    def database(name: str, driver: str) -> str:
        return f"{driver}://{name}:{password[name]}@postgres:5432/{name}"

    return {
        "airflow_database": lambda: database("airflow", "postgresql+psycopg"),
        "airflow_passwords": lambda: json.dumps({"admin": password["admin"]}),
        "api_secret_key": lambda: secrets.token_urlsafe(32),
        "aws_credentials": lambda: _aws(password["s3"]),
        "celery_broker": lambda: f"redis://:{password['redis']}@redis:6379/0",
        "celery_results": lambda: "db+" + database("celery", "postgresql+psycopg"),
        "connections": lambda: json.dumps({"slimline_s3": _connection(password["s3"])}, indent=1),
        "fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": lambda: secrets.token_urlsafe(64),
        "mlflow_database": lambda: database("mlflow", "postgresql+psycopg2"),
        "mqtt_password": lambda: password["mqtt"],
        "mqtt_passwords": lambda: f"{_MQTT_USER}:{_mosquitto_hash(password['mqtt'])}\n",
        "postgres_databases": lambda: "".join(_sql(name, password[name]) for name in _DATABASES),
        "postgres_password": lambda: password["postgres"],
        "redis_acl": lambda: f"user default on #{_sha256(password['redis'])} ~* &* +@all\n",
        "redis_password": lambda: password["redis"],
        "s3_identities": lambda: json.dumps(_identities(password["s3"]), indent=1),
    }


def _sql(name: str, password: str) -> str:
    return (
        f"CREATE ROLE {name} LOGIN PASSWORD '{password}';\nCREATE DATABASE {name} OWNER {name};\n"
    )


def _aws(secret: str) -> str:
    return f"[default]\naws_access_key_id = {_S3_KEY}\naws_secret_access_key = {secret}\n"


def _connection(secret: str) -> dict[str, object]:
    where = {"endpoint_url": "http://s3:8333", "region_name": "us-east-1"}
    extra = {"extra_dejson": where}
    return {"conn_type": "generic", "login": _S3_KEY, "password": secret, **extra}


def _identities(secret: str) -> dict[str, object]:
    """SeaweedFS's users: one, who may do everything."""
    keys = [{"accessKey": _S3_KEY, "secretKey": secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": _S3_KEY, "credentials": keys, "actions": actions}]}


def _mosquitto_hash(password: str) -> str:
    """As `mosquitto_passwd` writes it: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _MQTT_ROUNDS)
    parts = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"$7${_MQTT_ROUNDS}${'$'.join(parts)}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    lock = HERE.parent.parent / "images" / "lock.json"
    sys.exit(main(lock, HERE, os.environ.get("SLIMLINE_ENGINE_SOCKET", SOCKET)))
