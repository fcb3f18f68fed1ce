"""The peers of benchmark 2: what each needs, and its script run in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from points import Made

from slimline.contract.artifact import digest_json

SCRIPTS = Path(__file__).parent / "peers"
_ONNX = ("onnx==1.23.2", "onnxruntime==1.31.1")
_TORCH = (*_ONNX, "torch==2.13.0", "onnxscript==0.7.2")


@dataclass(frozen=True)
class Peer:
    """A toolkit: what to install (some leave out what they import), and what runs in it."""

    tool: str
    script: str
    requirements: tuple[str, ...]
    heals: bool = False


PEERS = (
    Peer("onnxruntime 1.31.1", "onnxruntime_defaults", _ONNX),
    Peer("NNCF 3.4.0", "nncf_ptq", ("nncf==3.4.0", *_ONNX)),
    Peer("Neural Compressor 3.10", "inc_static", ("neural-compressor-pt==3.10", *_TORCH)),
    Peer(
        "Neural Compressor for ONNX 1.0",
        "inc_tuned",
        ("onnx-neural-compressor==1.0", "prettytable", "scipy", *_ONNX),
    ),
    Peer("Olive 0.13.0", "olive_search", ("olive-ai==0.13.0", "requests", "torchmetrics", *_TORCH)),
    Peer("torch-pruning 1.6.1", "pruned_group", ("torch-pruning==1.6.1", *_TORCH), heals=True),
)


def theirs(
    peer: Peer, homes: Path, inputs: Path, healing: dict[str, Any], *, quick: bool
) -> list[Made]:
    """A peer's points, made when they are not there yet; or why there is none.

    Args:
        peer: which.
        homes: where environments and what they made lie.
        inputs: see `peers/peer_common.py`.
        healing: epochs and so on, for those that cut.
        quick: try it out.
    """
    names = [peer.script, *(("resnet20", "onnxruntime_defaults") if peer.heals else ())]
    texts = [(SCRIPTS / f"{name}.py").read_text() for name in names]
    mode, told = "quick" if quick else "full", healing if peer.heals else {}
    key = digest_json([texts, mode, told, peer.requirements, inputs.name])
    home = homes / peer.script
    out = home / f"made-{key[:12]}"
    try:
        python = _environment(peer, home)
        command = [python, SCRIPTS / f"{peer.script}.py", inputs, out, mode, json.dumps(told)]
        _call(command, home / "log.txt")
    except subprocess.CalledProcessError as error:
        last = (home / "log.txt").read_text().strip().splitlines()[-1:]
        return [Made(peer.tool, "", error=last[0][:200] if last else str(error))]
    found = json.loads((out / "points.json").read_text())
    return [_their(peer.tool, name, told, out) for name, told in found.items()]


def _their(tool: str, name: str, told: dict[str, Any], out: Path) -> Made:
    if "error" in told:
        return Made(tool, name, error=told["error"])
    return Made(tool, name, told["note"], told["seconds"], out / told["file"])


def _environment(peer: Peer, home: Path) -> Path:
    """The peer's Python, with nothing of ours in it."""
    python, ready = home / "venv" / "bin" / "python", home / "requirements.txt"
    wanted = "\n".join(peer.requirements) + "\n"
    if not ready.exists() or ready.read_text() != wanted:
        home.mkdir(parents=True, exist_ok=True)
        _call([sys.executable, "-m", "venv", home / "venv"], home / "log.txt")
        index = os.environ.get("TORCH_INDEX", "")
        option = "--find-links" if Path(index).is_dir() else "--extra-index-url"
        options = [option, index] if index else []
        pip = [python, "-m", "pip", "install", "--quiet", *options, *peer.requirements]
        _call(pip, home / "log.txt")
        ready.write_text(wanted)
    return python


def _call(command: list[Any], log: Path) -> None:
    with log.open("w") as written:
        subprocess.run(command, check=True, stdout=written, stderr=subprocess.STDOUT)
