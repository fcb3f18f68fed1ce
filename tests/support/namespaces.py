"""Machines of their own in miniature: network, host name and process table, on one bridge.

A machine shares the file system, and so a Docker engine's unix socket, with everything here. Its
death is that of all its processes at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOOLS = ("ip", "unshare")
_HOSTS = Path("/etc/netns")
_SPACES = Path("/run/netns")


@dataclass(frozen=True)
class Machine:
    """A network namespace with an address; every command run there has a process table too."""

    name: str
    address: str
    namespace: str
    wire: str
    """Its end on the bridge; the other one is its eth0."""

    def command(self, *argv: str) -> tuple[str, ...]:
        """What runs `argv` on this machine; with it ends whatever it started."""
        inside = ("sh", "-c", 'hostname "$0" && exec "$@"', self.name, *argv)
        own = ("unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child")
        return ("ip", "netns", "exec", self.namespace, *own, *inside)

    def pids(self) -> tuple[int, ...]:
        """All processes of this machine, the oldest first."""
        told = _ip("netns", "pids", self.namespace)
        return tuple(sorted(int(pid) for pid in told.split()))

    def kill(self) -> int:
        """End every process by SIGKILL, as when the power fails; returns how many there were."""
        found = self.pids()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.pids():
            time.sleep(0.01)
        return len(found)


@dataclass(frozen=True)
class Network:
    """A bridge, with its own address, and the machines on it."""

    address: str
    machines: tuple[Machine, ...]


def missing() -> str:
    """Why there can be no machines here; "" when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} is missing: infra/servers.sh install"
    probe = [
        shutil.which("unshare") or "unshare",
        "--net",
        "--uts",
        "--pid",
        "--fork",
        "--mount-proc",
        "true",
    ]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "this machine does not allow network namespaces"
    return ""


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Make a bridge and a machine for each name; afterwards nothing of them is left."""
    number, prefix = _free_prefix()
    bridge, made = f"slmbr{number}", []
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{prefix}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for place, name in enumerate(names, start=11):
            tag = f"slm{number}"
            machine = Machine(name, f"{prefix}.{place}", f"{tag}-{name}", f"{tag}v{place}")
            made.append(machine)
            _connect(machine, bridge)
        yield Network(f"{prefix}.1", tuple(made))
    finally:
        for machine in made:
            _remove(machine)
        _ip("link", "delete", bridge)


def _connect(machine: Machine, bridge: str) -> None:
    space, wire = machine.namespace, machine.wire
    _ip("netns", "add", space)
    _ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
    _ip("link", "set", wire, "master", bridge, "up")
    gateway = machine.address.rpartition(".")[0] + ".1"
    _ip("-n", space, "address", "add", f"{machine.address}/24", "dev", "eth0")
    _ip("-n", space, "link", "set", "lo", "up")
    _ip("-n", space, "link", "set", "eth0", "up")
    _ip("-n", space, "route", "add", "default", "via", gateway)
    # `ip netns exec` puts this in the place of /etc/hosts: a machine knows its own name.
    hosts = _HOSTS / space / "hosts"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f"127.0.0.1 localhost\n{machine.address} {machine.name}\n")


def _remove(machine: Machine) -> None:
    if (_SPACES / machine.namespace).exists():
        machine.kill()
        # The kernel takes wires down some time after their namespace; the next test wants the name.
        with suppress(RuntimeError):
            _ip("link", "delete", machine.wire)
        _ip("netns", "delete", machine.namespace)
    shutil.rmtree(_HOSTS / machine.namespace, ignore_errors=True)


def _free_prefix() -> tuple[int, str]:
    routes = _ip("-4", "route", "show", "table", "all")
    for number in range(200, 250):
        prefix = f"10.77.{number}"
        if f" {prefix}." not in f" {routes}" and f"\n{prefix}." not in routes:
            return number, prefix
    msg = "no address range is free: machines of an earlier test are left (ip netns list)"
    raise RuntimeError(msg)


def _ip(*arguments: str) -> str:
    program = shutil.which("ip") or "ip"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"ip {' '.join(arguments)}: {done.stderr.strip()}"
        raise RuntimeError(msg)
    return done.stdout
