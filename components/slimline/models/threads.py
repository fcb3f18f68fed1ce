"""How many processor cores this process may really use: containers have quotas."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")


def cpu_quota(cgroup: Path = _CGROUP_V2) -> int:
    """Cores by affinity, or fewer by the quota of the control group; at least 1."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
        limited = cores if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        limited = cores
    return max(1, min(cores, limited))


def threads_of_each(processes: int = 1) -> int:
    """The cores of one of several equal processes; at least 1."""
    return max(1, cpu_quota() // processes)
