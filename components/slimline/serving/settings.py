"""What the server is told: options, else the variables that clouds set, else defaults.

Every option can also be given as `SLIMLINE_SERVING_<OPTION>`, since SageMaker and others pass
variables to a container and no arguments.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PORT_VARIABLES = ("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT", "PORT")
MODEL_VARIABLES = ("MODEL_DIR", "AZUREML_MODEL_DIR")
MODEL_PLACES = ("/opt/ml/model", "/mnt/models")
DEFAULT_PORT = 8080
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Settings:
    """How one server runs; times in seconds, sizes in bytes."""

    model_dir: Path
    port: int
    host: str = "127.0.0.1"
    port_file: Path | None = None
    """Where the port is written once it is bound; for port 0."""
    workers: int = 1
    """Predictions at the same time."""
    threads: int = 1
    """Threads inside one prediction."""
    queue: int = 64
    """Requests that may be under way; the next one is told to come again."""
    max_body: int = 16 * 2**20
    max_batch: int = 4096
    timeout: float = 20
    """For one request, from its first byte to the answer."""
    linger: float = 1
    """How long the port stays open after SIGTERM, for those who have not heard of it yet."""
    idle_grace: float = 5
    """How long a silent connection may stay open after SIGTERM."""


def read_settings(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the command line and the environment.

    Raises:
        BadParameters: names the option or variable, its value and what it must be.
    """
    given = {k: v for k, v in vars(_parser().parse_args(list(argv))).items() if v is not None}
    given.pop("serve", None)
    for field in fields(Settings):
        variable = f"SLIMLINE_SERVING_{field.name.upper()}"
        if field.name not in given and environ.get(variable):
            given[field.name] = _convert(variable, environ[variable], _KINDS[field.name])
    if "port" not in given:
        given["port"] = default_port(environ)
    if "model_dir" not in given:
        given["model_dir"] = _model_dir(environ)
    given.setdefault("workers", len(os.sched_getaffinity(0)))
    settings = Settings(**given)
    _check(settings)
    return settings


_KINDS: dict[str, Callable[[str], object]] = {
    "model_dir": Path,
    "port": int,
    "host": str,
    "port_file": Path,
    "workers": int,
    "threads": int,
    "queue": int,
    "max_body": int,
    "max_batch": int,
    "timeout": float,
    "linger": float,
    "idle_grace": float,
}
_HELP = {
    "model_dir": "directory of the package (MODEL_DIR, AZUREML_MODEL_DIR, /opt/ml/model)",
    "port": "port to listen on (SAGEMAKER_BIND_TO_PORT, AIP_HTTP_PORT, PORT, 8080); 0: a free one",
    "host": "address to listen on; a container's image sets SLIMLINE_SERVING_HOST=0.0.0.0",
    "port_file": "file to write the port to once it is bound",
    "workers": "predictions at the same time; the number of cores if not given",
    "threads": "threads inside one prediction",
    "queue": "requests that may be under way; more are answered 429",
    "max_body": "largest request body in bytes; larger ones are answered 413",
    "max_batch": "most examples in one request",
    "timeout": "seconds for one request",
    "linger": "seconds the port stays open after SIGTERM",
    "idle_grace": "seconds a silent connection may stay open after SIGTERM",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # it raises, as ours all do
        raise BadParameters(f"serving: {message}; see python -m slimline.serving --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m slimline.serving", description="Serve one package over HTTP.")
    parser.add_argument("serve", nargs="?", choices=["serve"], help="what SageMaker says; optional")
    for name, kind in _KINDS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=_HELP[name])
    return parser


def _convert(variable: str, text: str, kind: Callable[[str], object]) -> object:
    try:
        return kind(text)
    except ValueError as error:
        msg = f"serving: {variable} is {text!r}: give a number"
        raise BadParameters(msg) from error


def default_port(environ: Mapping[str, str]) -> int:
    """The port that the environment names, when no option does.

    Raises:
        BadParameters: when what it names is no number.
    """
    variables = ("SLIMLINE_SERVING_PORT", *PORT_VARIABLES)
    named = next((v for v in variables if environ.get(v)), None)
    return int(str(_convert(named, environ[named], int))) if named else DEFAULT_PORT


def _model_dir(environ: Mapping[str, str]) -> Path:
    named = next((environ[v] for v in MODEL_VARIABLES if environ.get(v)), None)
    if named:
        return Path(named)
    found = next((Path(p) for p in MODEL_PLACES if Path(p).is_dir()), None)
    if found is None:
        msg = f"serving: no package: give --model-dir, or MODEL_DIR, or mount {MODEL_PLACES[0]}"
        raise BadParameters(msg)
    return found


def _check(settings: Settings) -> None:
    if not 0 <= settings.port <= _HIGHEST_PORT:
        msg = f"serving: port is {settings.port}: give 0 to {_HIGHEST_PORT}"
        raise BadParameters(msg)
    for name in ("workers", "threads", "queue", "max_body", "max_batch", "timeout"):
        if not getattr(settings, name) > 0:
            msg = f"serving: {name} is {getattr(settings, name)}: give more than 0"
            raise BadParameters(msg)
    if not settings.model_dir.is_dir():
        msg = f"serving: model_dir {settings.model_dir} is no directory: give that of a package"
        raise BadParameters(msg)
