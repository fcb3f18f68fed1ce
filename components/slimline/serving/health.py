"""`python -m slimline.serving.health`: what a container's HEALTHCHECK runs; exit code 0 is healthy.

It asks the server beside it for `/readyz`, on the port that the server itself would choose.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import TYPE_CHECKING

from slimline.serving.settings import default_port

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 3


def healthy(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the server on this machine has a model and takes requests."""
    connection = http.client.HTTPConnection("127.0.0.1", default_port(environ), timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if healthy() else 1)
