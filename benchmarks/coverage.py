"""Which structures can be pruned and exported: our groups beside torch-pruning's.

Every network of the zoo (tests/support/structures.py, fresh weights) shall lose half of its
channels. It counts when parameters and multiply-accumulates are fewer, the answer keeps its shape,
the network exports to ONNX with a dynamic batch, and ONNX Runtime agrees with torch within 1e-4.
torch-pruning runs with its defaults (BasePruner, MagnitudeImportance, ratio 0.5) in a virtual
environment of its own; it is told which layers make the answer, as its manual asks for.

What was found is kept after each structure: the same command goes on where it was interrupted.

    python benchmarks/coverage.py
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import onnxruntime
import torch
from support.structures import STRUCTURES, Structure
from torch.utils.flop_counter import FlopCounterMode

from slimline.models.edit import apply_edits
from slimline.models.to_onnx import to_onnx
from slimline.prune.edits import edits_for
from slimline.prune.graph import find_groups

if TYPE_CHECKING:
    from torch import nn

BENCH = Path(__file__).parent.parent / "build" / "bench"
PEER = BENCH / "peers" / "torch-pruning"
VERSION = "1.6.1"
NAMES = ("slimline", "torch-pruning")
_TOLERANCE = 1e-4
_OPSET = 20


def main() -> None:
    """Judge what is not judged yet, and write the table."""
    if len(sys.argv) > 1:
        _work(sys.argv[1], sys.argv[2:])
        return
    BENCH.mkdir(parents=True, exist_ok=True)
    kept = BENCH / "coverage.json"
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in NAMES:
        known = found.setdefault(name, {})
        missing = [structure for structure in STRUCTURES if structure not in known]
        python = str(_peer() if name == "torch-pruning" else sys.executable)
        command = [python, __file__, name, *missing]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None  # noqa: S101 - it is a pipe
            for line in filter(lambda text: text.startswith("{"), worker.stdout):
                known |= json.loads(line)
                kept.write_text(json.dumps(found, indent=1))
        if worker.returncode:
            raise SystemExit(f"the worker of {name} ended with status {worker.returncode}")
    table = _table(found)
    (BENCH / "coverage.md").write_text(table)
    print(table)


def _peer() -> Path:
    """The peer's environment: torch-pruning of its own, all else as it is here."""
    python = PEER / "bin" / "python"
    if not (PEER / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        (own,) = PEER.glob("lib/python*/site-packages")
        shared = [p for p in sys.path if p.endswith("site-packages")]
        lines = [f"import site; site.addsitedir({path!r})" for path in shared]
        (own / "shared.pth").write_text("\n".join(lines) + "\n")
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"torch-pruning=={VERSION}"]
        subprocess.run(pip, check=True)
        (PEER / "ready").touch()
    return python


def _work(name: str, structures: list[str]) -> None:
    """In a process of its own: a line of JSON for each structure."""
    warnings.simplefilter("ignore")
    cut = _ours if name == "slimline" else _theirs
    for title in structures:
        structure = STRUCTURES[title]
        try:
            told = _judge(structure, structure.network(), cut(structure))
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
            said = str(error).strip().splitlines() or [""]
            told = {"why": f"{type(error).__name__}: {said[0]:.100}"}
        print(json.dumps({title: told}), flush=True)


def _ours(structure: Structure) -> nn.Module:
    module = structure.network()
    groups, _ = find_groups(module, structure.example())
    keep = [range(len(group.units) // 2, len(group.units)) for group in groups]
    return apply_edits(copy.deepcopy(module), edits_for(module, groups, keep)).eval()


def _theirs(structure: Structure) -> nn.Module:
    import torch_pruning  # noqa: PLC0415 - in its own environment alone

    module, x = structure.network(), structure.example()
    _, left_alone = find_groups(module, x)
    answer = [layer for layer, why in left_alone.items() if "network's answer" in why]
    pruner = torch_pruning.pruner.BasePruner(
        module,
        x,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[module.get_submodule(layer) for layer in answer],
    )
    pruner.step()
    return module.eval()


def _judge(structure: Structure, before: nn.Module, after: nn.Module) -> dict[str, Any]:
    x = structure.example(batch=5, seed=1)
    told = {
        "parameters": [_parameters(before), _parameters(after)],
        "macs": [_macs(before, x), _macs(after, x)],
    }
    with torch.no_grad():
        wanted, answer = before(x), after(x)
    if answer.shape != wanted.shape:
        return {**told, "why": f"it answers {list(answer.shape)}, not {list(wanted.shape)}"}
    if any(large <= small for large, small in told.values()):
        return {**told, "why": "nothing was cut"}
    off = _difference(after, x)
    return {**told, "why": f"ONNX differs by {off:.1e}"} if off > _TOLERANCE else told


def _difference(module: nn.Module, x: torch.Tensor) -> float:
    """Largest difference between torch and ONNX Runtime, at a batch of 1 and 5."""
    exported = to_onnx(module, x[:2].numpy(), _OPSET)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 5):
        (answer,) = session.run(None, {"input": x[:batch].numpy()})
        with torch.no_grad():
            worst = max(worst, float((torch.from_numpy(answer) - module(x[:batch])).abs().max()))
    return worst


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _macs(module: nn.Module, x: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return int(counter.get_total_flops()) // 2


def _table(found: dict[str, dict[str, Any]]) -> str:
    """Parameters left of each, or that it failed and why."""
    ours, theirs = (found[name] for name in NAMES)
    lines = [
        f"| structure | slimline | torch-pruning {VERSION} | why not |",
        "|---|---|---|---|",
    ]
    for title in STRUCTURES:
        whys = "; ".join(
            f"{name}: {told['why']}" for name in NAMES if "why" in (told := found[name][title])
        ).replace("|", "\\|")
        lines.append(f"| {title} | {_cell(ours[title])} | {_cell(theirs[title])} | {whys} |")
    scores = [sum("why" not in row for row in found[name].values()) for name in NAMES]
    count = len(STRUCTURES)
    lines.append(f"| **pruned and exported** | **{scores[0]}/{count}** | {scores[1]}/{count} | |")
    return "\n".join(lines) + "\n"


def _cell(told: dict[str, Any]) -> str:
    if "why" in told:
        return "no"
    before, after = told["parameters"]
    return f"{before:,} to {after:,}"


if __name__ == "__main__":
    main()
