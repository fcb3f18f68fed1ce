"""How many processor cores this process may really use: containers have quotas."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_quota(cgroup: Path = _CGROUP) -> int:
    """Cores by affinity, or fewer by the quota of the control group; at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota, period = _quota(cgroup)
    limited = math.ceil(int(quota) / int(period)) if quota.isdecimal() else cores
    return max(1, min(cores, limited))


def _quota(cgroup: Path) -> tuple[str, str]:
    """Microseconds of processor time in a period, and the period; no number where none is set."""
    version_1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    for names in (("cpu.max",), version_1):
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        return quota, period
    return "max", ""


def threads_of_each(processes: int = 1) -> int:
    """The cores of one of several equal processes; at least 1."""
    return max(1, cpu_quota() // processes)
