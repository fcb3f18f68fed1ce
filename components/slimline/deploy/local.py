"""An endpoint on this machine: a stable address, a server behind it, and the switch between two.

    start the new server -> ready -> golden request -> switch -> golden request at the address
        -> drain the old one

Until the switch no client meets the new server; when anything up to the last check fails, the old
one serves on (or serves again) and the new one is stopped.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters, get_logger
from slimline.deploy import backend as backends
from slimline.deploy import processes
from slimline.deploy.receipt import DeployReceipt
from slimline.deploy.record import (
    FILE,
    EndpointRecord,
    Front,
    alone,
    read_record,
    write_record,
)

if TYPE_CHECKING:
    from slimline.deploy.record import Backend
    from slimline.deploy.spec import Deploy, Local
    from slimline.trust.manifest import PackageManifest
    from slimline.trust.request import GoldenAnswer, GoldenRequest

log = get_logger(__name__)
VARIABLE = "SLIMLINE_ENDPOINTS"
_FRONT_SECONDS = 30
_STEP = 0.02


def deploy(job: Deploy, manifest: PackageManifest, golden: GoldenRequest) -> DeployReceipt:
    """Serve a verified package at the endpoint's address.

    Raises:
        Refused, BadData: when the new server does not get ready or answers otherwise than its
            package expects; what served before serves on.
        TryLater: when another job is at it.
    """
    root = _state_dir(job.local) / job.endpoint
    with alone(root):
        record = _clear_others(root, read_record(root))
        before = record.current.digest if record.current else ""
        changed = not (record.current and _serves(record.current, job.package.digest))
        if changed:
            record = _switch(root, record, job, manifest, golden)
        record = _ensure_front(root, record, job.local.port)
        assert record.front is not None  # noqa: S101 - just ensured
        answer = backends.ask_golden(record.front.port, golden, f"endpoint {job.endpoint}")
        return DeployReceipt(
            target="local",
            endpoint=job.endpoint,
            address=f"http://{backends.HOST}:{record.front.port}",
            package=manifest.name,
            version=manifest.version,
            before=before,
            after=job.package.digest,
            changed=changed,
            golden=answer,
        )


def stop_endpoint(state_dir: Path, name: str) -> bool:
    """Stop an endpoint: its address first, then its servers; False when there is none.

    Its record stays, without processes, so that the next deployment finds its port again.
    """
    root = state_dir / name
    if not (root / FILE).is_file():
        return False
    with alone(root, wait=True):
        record = read_record(root)
        if record.front:
            processes.stop(record.front.process)
        for backend in (*record.others, *((record.current,) if record.current else ())):
            backends.remove(backend)
        write_record(root, EndpointRecord(front=record.front))
    return True


def list_endpoints(state_dir: Path) -> tuple[str, ...]:
    """The names of the endpoints that a directory holds."""
    return tuple(sorted(file.parent.name for file in state_dir.glob(f"*/{FILE}")))


def address_of(state_dir: Path, name: str) -> str:
    """The URL of an endpoint that runs; "" when it does not."""
    front = read_record(state_dir / name).front
    alive = front is not None and processes.is_alive(front.process)
    return f"http://{backends.HOST}:{front.port}" if front and alive else ""


def _switch(
    root: Path,
    record: EndpointRecord,
    job: Deploy,
    manifest: PackageManifest,
    golden: GoldenRequest,
) -> EndpointRecord:
    """Bring the new server up beside the old one, switch, prove it, and let the old one go."""
    old, who = record.current, f"endpoint {job.endpoint}"
    new = backends.start(root, job.package.path, job.package.digest, manifest, job.local)
    try:
        record = write_record(root, record.model_copy(update={"others": (new,)}))
        log.info("%s: package %s starts as process %d", who, new.digest[:12], new.process.pid)
        new = backends.wait_until_ready(new, job.local.start_seconds)
        backends.ask_golden(new.port, golden, "the new server")
        record = _ensure_front(root, record, job.local.port)
        leaving = (old,) if old else ()
        record = write_record(root, EndpointRecord(front=record.front, current=new, others=leaving))
        _prove(record, golden, who)
    except BaseException:
        write_record(root, EndpointRecord(front=record.front, current=old, others=(new,)))
        backends.remove(new)
        write_record(root, EndpointRecord(front=record.front, current=old))
        log.warning("%s: the new server failed and was stopped; %s", who, _remains(old))
        raise
    log.info("%s: switched to package %s", who, new.digest[:12])
    return _clear_others(root, record)


def _prove(record: EndpointRecord, golden: GoldenRequest, who: str) -> GoldenAnswer:
    """The address must lead to the new package, and it must answer there as it should."""
    assert record.front is not None  # noqa: S101 - the switch ensured it
    assert record.current is not None  # noqa: S101 - as above
    found = backends.package_of(record.front.port)
    if found != record.current.digest:
        msg = f"{who}: its address leads to {found[:12] or 'nobody'} after the switch"
        raise BadData(msg)
    return backends.ask_golden(record.front.port, golden, who)


def _ensure_front(root: Path, record: EndpointRecord, port: int) -> EndpointRecord:
    """Start the process that holds the address, unless it runs.

    Raises:
        BadParameters: when the endpoint has another port, or the port is taken.
    """
    front = record.front
    if front and processes.is_alive(front.process):
        if port not in (0, front.port):
            msg = (
                f"local.port is {port}, endpoint {root.name} listens on {front.port}: leave it out,"
                " or stop the endpoint first"
            )
            raise BadParameters(msg)
        return record
    wanted = port or (front.port if front else 0)
    port_file = root / "front.port"
    port_file.unlink(missing_ok=True)
    argv = [sys.executable, "-P", "-m", "slimline.deploy.front"]
    process = processes.spawn([*argv, str(root), str(wanted), str(port_file)], root / "front.log")
    deadline = time.monotonic() + _FRONT_SECONDS
    while not port_file.is_file():
        if not processes.is_alive(process) or time.monotonic() > deadline:
            processes.stop(process)
            msg = f"cannot listen on local.port {wanted}: see {root / 'front.log'}; give another"
            raise BadParameters(msg)
        time.sleep(_STEP)
    made = Front(process=process, port=int(port_file.read_text()))
    return write_record(root, record.model_copy(update={"front": made}))


def _clear_others(root: Path, record: EndpointRecord) -> EndpointRecord:
    """Stop servers that drain, or that a killed deployment left behind."""
    for backend in record.others:
        backends.remove(backend)
    return write_record(root, record.model_copy(update={"others": ()}))


def _serves(current: Backend, digest: str) -> bool:
    alive = current.digest == digest and processes.is_alive(current.process)
    return alive and backends.package_of(current.port) == digest


def _remains(old: Backend | None) -> str:
    return f"package {old.digest[:12]} serves on" if old else "nothing serves"


def _state_dir(settings: Local) -> Path:
    given = settings.state_dir or os.environ.get(VARIABLE, "")
    if not given:
        msg = f"local.state_dir: give a directory for endpoints, or set {VARIABLE}"
        raise BadParameters(msg)
    return Path(given).resolve()
