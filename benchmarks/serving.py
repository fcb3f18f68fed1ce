"""Requests a second of our server beside a Starlette application over the same model.

Both run in one process each, on the same package, asked in turns by the same client, so that a busy
machine slows both alike: read the ratio. The peer does what a careful engineer writes in an hour:
Starlette on uvicorn (uvloop, httptools), orjson, the same preprocessing, ONNX Runtime in a thread.

    python benchmarks/serving.py [--rounds 4] [--seconds 1.5] [--connections 8]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.packages import tiny_package

from slimline.trust.keys import generate_key

_PEER = """
import sys
from pathlib import Path
import anyio.to_thread, numpy as np, orjson, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from slimline.measure import runtime
from slimline.models.info import load_model_info

root = Path(sys.argv[1]) / "model"
session, info = runtime.session(root / "model.onnx"), load_model_info(root)

def predict(body):
    raw = np.array(orjson.loads(body)["instances"], np.uint8)
    logits = runtime.logits(session, info.preprocessing.apply(raw))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    rows = [{"label": info.labels[x.argmax()], "probabilities": p, "logits": x}
            for p, x in zip(shares, logits)]
    return orjson.dumps({"predictions": rows}, option=orjson.OPT_SERIALIZE_NUMPY)

async def invocations(request):
    answer = await anyio.to_thread.run_sync(predict, await request.body())
    return Response(answer, media_type="application/json")

async def ready(request):
    return Response(b"")

app = Starlette(routes=[Route("/invocations", invocations, methods=["POST"]),
                        Route("/readyz", ready)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", http="httptools",
            log_level="warning", access_log=False)
"""


class Answers(NamedTuple):
    """What one server did in one round: answers, seconds, and each answer's seconds."""

    count: int
    seconds: float
    latencies: list[float]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--connections", type=int, default=8)
    given = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = _start(stack, directory)
        request = _request(directory / "package")
        rounds: dict[str, list[Answers]] = {name: [] for name in ports}
        for port in ports.values():
            asyncio.run(_ask(port, request, 0.5, given.connections))  # warm
        for _ in range(given.rounds):
            for name, port in ports.items():
                rounds[name].append(
                    asyncio.run(_ask(port, request, given.seconds, given.connections))
                )
    _print(rounds)


def _start(stack: ExitStack, directory: Path) -> dict[str, int]:
    private, public = generate_key()
    (directory / "keys").mkdir()
    (directory / "keys" / "key.pem").write_text(public)
    package = tiny_package(directory / "package", private_pem=private)
    (directory / "peer.py").write_text(_PEER)
    ours, peer = _free_port(), _free_port()
    commands = {
        "slimline": ["-m", "slimline.serving", "--model-dir", str(package), "--port", str(ours)],
        "starlette": [str(directory / "peer.py"), str(package), str(peer)],
    }
    environment = {**os.environ, "SLIMLINE_TRUSTED_KEYS": str(directory / "keys")}
    for arguments in commands.values():
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
    return {"slimline": ours, "starlette": peer}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _request(package: Path) -> bytes:
    with np.load(package / "golden.npz") as golden:
        body = orjson.dumps({"instances": golden["x"][:1].tolist()})
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: benchmark\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    return head + body


async def _ask(port: int, request: bytes, seconds: float, connections: int) -> Answers:
    """Ask over lasting connections, each its next request as soon as it is answered."""
    await _until_ready(port)
    began = time.perf_counter()
    clients = [_client(port, request, began + seconds) for _ in range(connections)]
    latencies = [x for found in await asyncio.gather(*clients) for x in found]
    return Answers(len(latencies), time.perf_counter() - began, latencies)


async def _client(port: int, request: bytes, until: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    while (sent := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"a server answered {head!r}")
        found.append(time.perf_counter() - sent)
    writer.close()
    return found


async def _until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if answer.startswith(b"HTTP/1.1 200 "):
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("a server did not get ready within 30 s")


def _print(rounds: dict[str, list[Answers]]) -> None:
    print(f"{'server':<12}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
    rates = {}
    for name, found in rounds.items():
        rates[name] = [r.count / r.seconds for r in found]
        latencies = np.concatenate([r.latencies for r in found]) * 1000
        middle, late = np.percentile(latencies, [50, 99])
        print(f"{name:<12}{statistics.median(rates[name]):>12.0f}{middle:>10.2f}{late:>10.2f}")
    ratios = [a / b for a, b in zip(rates["slimline"], rates["starlette"], strict=True)]
    print(
        f"slimline / starlette: {statistics.median(ratios):.2f} "
        f"(rounds: {', '.join(f'{r:.2f}' for r in ratios)})"
    )


if __name__ == "__main__":
    main()
