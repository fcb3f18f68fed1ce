"""What a job may use of a machine, and reach in a cloud."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from slimline.contract.errors import BadParameters

_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class Resources:
    """What a job needs at most: cores, memory as Kubernetes writes it, GPUs, network, hours.

    `engine` marks a job that starts containers itself: it alone may reach the Docker engine.
    """

    cpu: float = 1
    memory: str = "2Gi"
    gpu: int = 0
    network: bool = False
    engine: bool = False
    timeout_minutes: int = 60

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number; raises BadParameters as `memory_bytes` does."""
        return memory_bytes(self.memory)


@dataclass(frozen=True)
class Access:
    """Something in the cloud that a job reaches besides its own results in the store.

    `Access("fleet", "write", "tuf/*")`: in the fleet's repository it writes what lies under `tuf/`.
    Cloud policies are made of these (`slimline iam`), so what is not declared is refused there.

    Attributes:
        place: `data` is the bucket of source data, `endpoints` the cloud's model endpoints.
        action: to read is also to list; to write endpoints is also to delete and to invoke them.
        keys: which objects of the place, `*` standing for any text; endpoints have none.
    """

    place: Literal["store", "releases", "fleet", "data", "endpoints"]
    action: Literal["read", "write", "delete"]
    keys: str = "*"


def memory_bytes(text: str) -> int:
    """Bytes of a quantity as Kubernetes writes it: `512Mi`, `8Gi`.

    Raises:
        BadParameters: when it is written in another way.
    """
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti|)", text)
    if not found:
        msg = f"memory {text!r}: write it as 512Mi or 8Gi"
        raise BadParameters(msg)
    return int(found[1]) * _UNITS[found[2]]
