"""Push and pull of one large file and of many small ones: our store beside its peers.

Peers: `aws s3 cp` and `aws s3 sync` (awscli), and s3transfer over the AWS Common Runtime
(boto3[crt]), in a virtual environment of their own. All speak to the same server in turns, each as
a process of its own, so that a busy machine slows all alike. Ours also hashes what it sends and
what it gets.

The server is Ceph's gateway in Docker where there is an engine, else the embedded Swift. What was
measured is kept after each step: the same command goes on where it was interrupted.

    python benchmarks/store.py [--size 1000] [--files 10000] [--repeat 5] [--server ceph]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.ceph import Unavailable, ceph_gateway
from support.s3 import s3_server

from slimline.contract.artifact import digest_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.s3 import S3

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "build" / "bench"
PEERS = BENCH / "peers"
MB = 10**6
_SMALL = 4096

_OURS = """
import sys
from pathlib import Path
from slimline.contract import Model, open_store
from slimline.contract.store import fetch_artifact, save_artifact
step, local, uri, note = sys.argv[1:]
if step == "push":
    Path(note).write_text(save_artifact(open_store(uri), Model.at(Path(local))).uri)
else:
    fetch_artifact(Model.model_validate(Path(note).read_text()), Path(local))
"""
_CRT = """
import os, sys
from pathlib import Path
import boto3, botocore.session
from s3transfer.crt import (BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer,
                            CRTTransferManager, create_s3_crt_client)
step, local, uri, _ = sys.argv[1:]
bucket, _, prefix = uri.removeprefix("s3://").partition("/")
client = boto3.client("s3")
# As boto3 does it, which has no way to say that the server speaks plain HTTP.
session, region = botocore.session.get_session(), client.meta.region_name
endpoint = {"region_name": region, "endpoint_url": client.meta.endpoint_url}
provider = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
tls = not client.meta.endpoint_url.startswith("http:")
crt = create_s3_crt_client(region, provider, use_ssl=tls)
with CRTTransferManager(crt, BotocoreCRTRequestSerializer(session, endpoint)) as manager:
    if step == "push":
        paths = [p for p in Path(local).rglob("*") if p.is_file()]
        keys = [f"{prefix}/{p.relative_to(local).as_posix()}" for p in paths]
        done = [manager.upload(str(p), bucket, k) for p, k in zip(paths, keys, strict=True)]
    else:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        done = []
        for key in (found["Key"] for page in pages for found in page["Contents"]):
            path = Path(local, key.removeprefix(f"{prefix}/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            done.append(manager.download(bucket, key, str(path)))
    for future in done:
        future.result()
"""
# The kernel counts what a process was before exec as its memory: so its parent must be small.
_WATCH = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
NAMES = ("slimline", "awscli", "crt")


class Work(NamedTuple):
    """What is moved: a directory, and what it counts in the table."""

    name: str
    path: Path
    amount: float
    unit: str


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    given = _arguments()
    BENCH.mkdir(parents=True, exist_ok=True)
    _make_peers()
    works = _works(given.size, given.files)
    with _server(given.server, 4 * given.size * MB + 2**31) as (name, server):
        kept = BENCH / f"store-{name}-{given.size}-{given.files}.json"
        found: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
        for turn in range(given.repeat):
            for work in works:
                for contestant in NAMES[turn % 3 :] + NAMES[: turn % 3]:
                    if not _known(found, turn, work, contestant):
                        found += _measure(server, turn, work, contestant)
                        kept.write_text(json.dumps(found, indent=1))
    _print(name, works, [row for row in found if row["turn"] < given.repeat])
    print(f"\nEach measurement: {kept.relative_to(ROOT)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1000, help="MB of the large file (1000)")
    parser.add_argument("--files", type=int, default=10_000, help="small files, 4 KiB each (10000)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (5)")
    parser.add_argument("--server", choices=("ceph", "swift"), help="default: ceph if it can run")
    return parser.parse_args()


def _make_peers() -> None:
    ready = PEERS / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
        pip = [PEERS / "bin" / "pip", "install", "--quiet", "awscli", "boto3[crt]"]
        subprocess.run(pip, check=True)
        ready.touch()


def _works(megabytes: int, files: int) -> tuple[Work, Work]:
    large = BENCH / f"data-{megabytes}-mb"
    if not large.exists():
        with _made_whole(large) as made, (made / "model.onnx").open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(MB))
    small = BENCH / f"data-{files}-files"
    if not small.exists():
        with _made_whole(small) as made:
            for number in range(files):
                path = made / f"{number // 100:04}" / f"{number:06}.bin"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(os.urandom(_SMALL))
    return (
        Work(f"one file of {megabytes} MB", large, megabytes, "MB/s"),
        Work(f"{files} files of 4 KiB", small, files, "files/s"),
    )


@contextmanager
def _made_whole(path: Path) -> Iterator[Path]:
    """A directory that gets its name when it is complete."""
    made = Path(tempfile.mkdtemp(dir=BENCH))
    yield made
    made.rename(path)


@contextmanager
def _server(wanted: str | None, memory: int) -> Iterator[tuple[str, S3]]:
    """The server and its name; told why when it is not the one that is best to measure on."""
    if wanted != "swift":
        try:
            with ceph_gateway(memory) as server:
                print(f"Server: Ceph object gateway in Docker, {memory >> 30} GiB of memory")
                yield "ceph", server
                return
        except Unavailable as why:
            if wanted == "ceph":
                raise SystemExit(f"no Ceph gateway: {why}") from why
            print(f"No Ceph gateway ({why}).")
    with tempfile.TemporaryDirectory(dir=BENCH) as root, s3_server(Path(root)) as server:
        print("Server: the embedded Swift, one process and slow: it bounds all contestants")
        yield "swift", server


def _known(found: list[dict[str, Any]], turn: int, work: Work, contestant: str) -> bool:
    return any(
        (row["turn"], row["work"], row["contestant"]) == (turn, work.name, contestant)
        for row in found
    )


def _measure(server: S3, turn: int, work: Work, contestant: str) -> list[dict[str, Any]]:
    """Push, pull, compare what came back, remove it all."""
    uri, rows = server.new_prefix(), []
    with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
        note, back = Path(scratch, "note"), Path(scratch, "back")
        for step, local in (("push", work.path), ("pull", back)):
            command = _command(contestant, step, local, uri, note)
            row = {"turn": turn, "work": work.name, "contestant": contestant, "step": step}
            rows.append({**row, **_run(command, server.environment)})
        if digest_tree(back) != digest_tree(work.path):
            raise SystemExit(f"{contestant} brought back something else than it was given")
    _remove(server, uri)
    print(f"  {turn + 1}: {work.name}, {contestant}: {[round(r['seconds'], 2) for r in rows]} s")
    return rows


def _command(contestant: str, step: str, local: Path, uri: str, note: Path) -> list[str]:
    if contestant == "slimline":
        return [sys.executable, "-c", _OURS, step, str(local), uri, str(note)]
    if contestant == "crt":
        return [str(PEERS / "bin" / "python"), "-c", _CRT, step, str(local), uri, str(note)]
    files = [p for p in local.glob("*") if p.is_file()] if step == "push" else []
    aws = [str(PEERS / "bin" / "python"), str(PEERS / "bin" / "aws"), "s3"]
    if files:
        note.write_text(files[0].name)
        return [*aws, "cp", "--quiet", str(files[0]), f"{uri}/{files[0].name}"]
    if note.exists():
        return [*aws, "cp", "--quiet", f"{uri}/{note.read_text()}", str(local / note.read_text())]
    ends = (str(local), uri) if step == "push" else (uri, str(local))
    return [*aws, "sync", "--quiet", *ends]


def _run(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall and processor seconds, and MiB of memory at most, of one process from start to end."""
    watched = [sys.executable, "-IS", "-c", _WATCH, *command]
    done = subprocess.run(
        watched, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} {command[1][:20]} ended with status {done.returncode}")
    seconds, cpu, kib = (float(word) for word in done.stdout.split()[-3:])
    return {"seconds": seconds, "cpu_seconds": cpu, "memory_mib": kib / 1024}


def _remove(server: S3, uri: str) -> None:
    client, prefix = server.client(), uri.removeprefix(f"s3://{server.bucket}/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix=prefix)
    for page in pages:
        keys = [{"Key": found["Key"]} for found in page.get("Contents", ())]
        client.delete_objects(Bucket=server.bucket, Delete={"Objects": keys, "Quiet": True})


def _print(server: str, works: tuple[Work, ...], found: list[dict[str, Any]]) -> None:
    rounds = len({row["turn"] for row in found})
    print(f"\nOn {server}; median [lowest, highest] of {rounds} rounds; whole processes\n")
    print(f"{'':<30}{'':<10}{'seconds':>24}{'rate':>16}{'CPU s':>8}{'MiB':>6}")
    for work in works:
        for step in ("push", "pull"):
            medians = {}
            for name in NAMES:
                rows = [
                    row
                    for row in found
                    if (row["work"], row["step"], row["contestant"]) == (work.name, step, name)
                ]
                seconds = sorted(row["seconds"] for row in rows)
                medians[name] = median(seconds)
                spread = f"{medians[name]:.2f} [{seconds[0]:.2f}, {seconds[-1]:.2f}]"
                rate = f"{work.amount / medians[name]:.0f} {work.unit}"
                cpu = median(row["cpu_seconds"] for row in rows)
                memory = max(row["memory_mib"] for row in rows)
                title = f"{step} {work.name}" if name == NAMES[0] else ""
                print(f"{title:<30}{name:<10}{spread:>24}{rate:>16}{cpu:>8.2f}{memory:>6.0f}")
            best = min(NAMES[1:], key=medians.__getitem__)
            ratio = medians["slimline"] / medians[best]
            print(f"{'':<30}slimline takes {ratio:.2f} of the time of {best}, the best peer")


if __name__ == "__main__":
    main()
