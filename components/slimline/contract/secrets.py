"""Secrets are names; the runner puts their values into the environment of the job alone.

`secret("signing")` reads `SLIMLINE_SECRET_SIGNING`, or the file that `SLIMLINE_SECRET_SIGNING_FILE`
names. Values never stand in argv, parameters, manifests, keys or logs.
"""

from __future__ import annotations

import os
from pathlib import Path

from slimline.contract.errors import BadParameters


def secret_variable(name: str) -> str:
    """The environment variable that holds a secret."""
    return f"SLIMLINE_SECRET_{name.upper()}"


def secret(name: str) -> str:
    """The value of a secret.

    Raises:
        BadParameters: when the environment has none of that name.
    """
    variable = secret_variable(name)
    if variable in os.environ:
        return os.environ[variable]
    file = os.environ.get(f"{variable}_FILE")
    if file and Path(file).is_file():
        return Path(file).read_text()
    msg = (
        f"secret {name!r} is not there: set {variable}, or {variable}_FILE to a file that holds it"
    )
    raise BadParameters(msg)
