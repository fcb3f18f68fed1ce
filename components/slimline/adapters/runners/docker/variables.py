"""The environment of a container: that of the job, without what is true on the worker alone."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slimline.adapters.runners.environment import THREADS
from slimline.contract import BadParameters, get_logger
from slimline.contract.job import IMAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

log = get_logger(__name__)

ENDPOINTS = "SLIMLINE_ENDPOINTS"
_WORKERS_OWN = re.compile(
    "PATH|HOME|USER|LOGNAME|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|LANG|LC_ALL|CUDA_VISIBLE_DEVICES"
    "|SLIMLINE_(RUNNER|WORK|STORE|RELEASES|FLEET|ENDPOINTS|IMAGES|IMAGE_KEYS?)"
    "|SLIMLINE_(PYTHON|DOCKER|POD|KUBERNETES)_.*"
)
"""Places of the worker's machine, and what only runners read; the image has its own."""
_ADDRESSES = (
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI"),
    *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
)


def container_variables(
    environment: Mapping[str, str], *, cpu: float, network: str, image_digest: str
) -> dict[str, str]:
    """What the container's environment adds to that of its image.

    Args:
        environment: the job's.
        cpu: cores that it may use: as many threads.
        network: the one it is put into; with "none" it is told no addresses.
        image_digest: of the image that really runs; the manifest records it.

    Raises:
        BadParameters: when an address means this machine and the network is not the host's.
    """
    kept = {k: v for k, v in environment.items() if not _WORKERS_OWN.fullmatch(k)}
    addresses = {name: kept[name] for name in _ADDRESSES if kept.get(name)}
    if network == "none":
        if addresses:
            log.info("without a network the job is not told %s", ", ".join(sorted(addresses)))
        kept = {k: v for k, v in kept.items() if k not in addresses}
    elif network != "host" and not network.startswith("container:"):
        for name, value in addresses.items():
            _reachable(name, value, network)
    threads = dict.fromkeys(THREADS, str(max(1, int(cpu))))
    return {**kept, **threads, "HOME": "/tmp", IMAGE_VARIABLE: image_digest}  # noqa: S108 - in there


def _reachable(name: str, value: str, network: str) -> None:
    host = urlsplit(value if "://" in value else f"//{value}").hostname or ""
    if _is_loopback(host):
        msg = (
            f"{name} is {value}: in a container of network {network!r} that is the container "
            "itself; let the server listen on an address of this machine that containers reach and "
            "give that, or set SLIMLINE_DOCKER_NETWORK=host"
        )
        raise BadParameters(msg)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
