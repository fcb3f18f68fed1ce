"""What a search found: all of it as JSON, and the part that its manifest keeps."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.search.result import drop_of, upper_of
from slimline.search.space import chain_in_words

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.contract import Numbers
    from slimline.search.course import Entry
    from slimline.search.front import Choice
    from slimline.search.result import TrialResult
    from slimline.search.settings import SearchSettings

_STATUSES = ("finished", "stopped", "pruned", "failed", "out of time")
_MOST = 20
"""Members of the front in the manifest; the report holds them all."""


@dataclass(frozen=True)
class Record:
    """A search from its settings to its choice."""

    settings: SearchSettings
    baseline: TrialResult
    entries: tuple[Entry, ...]
    front: tuple[TrialResult, ...]
    choice: Choice
    minutes: float

    def numbers(self) -> Numbers:
        """What the manifest keeps."""
        counts = Counter(str(entry.status) for entry in self.entries)
        return {
            "passed": self.choice.passed,
            "reason": self.choice.reason,
            "trials": len(self.entries),
            **{status.replace(" ", "_"): counts[status] for status in _STATUSES},
            "front": [chosen_numbers(r, self.baseline, self.settings) for r in self.front[:_MOST]],
            "front_size": len(self.front),
            "minutes": self.minutes,
        }

    def save(self, target: Path) -> None:
        """Write `trials.json`: every network with its chain, its result and its end."""
        chosen, front = self.choice.result.key, {r.key for r in self.front}
        rows = [
            {
                "number": entry.number,
                "generation": entry.generation,
                "network": chain_in_words(entry.chain),
                "chain": [step.model_dump(mode="json") for step in entry.chain],
                "status": entry.status,
                "reason": entry.reason,
                "on_front": entry.proposal.key in front,
                "chosen": entry.proposal.key == chosen,
                "result": entry.result.model_dump(mode="json") if entry.result else None,
            }
            for entry in self.entries
        ]
        whole = {
            "settings": self.settings.model_dump(mode="json"),
            "baseline": self.baseline.model_dump(mode="json"),
            "reason": self.choice.reason,
            "passed": self.choice.passed,
            "note": "latencies are of the runs that measured them: another run measures others",
            "trials": rows,
        }
        (target / "trials.json").write_text(json.dumps(whole, indent=1, allow_nan=False))


def chosen_numbers(result: TrialResult, baseline: TrialResult, settings: SearchSettings) -> Numbers:
    """One network in a line of numbers."""
    here, before = result.measured, baseline.measured
    found: Numbers = {"network": chain_in_words(result.chain), "epochs": list(result.epochs)}
    if here and before:
        found |= {
            "bytes": here.bytes,
            "shrink": round(before.bytes / here.bytes, 3),
            "latency_ms": here.latency_ms.value,
            "speedup": round(here.speedup.value, 3),
            "parameters": here.parameters,
            "macs": here.macs,
        }
    if result.answers:
        found |= {
            "accuracy": result.answers.accuracy,
            "drop": drop_of(result.answers, settings),
            "drop_upper": upper_of(result.answers, settings),
            "model_digest": result.onnx,
        }
    return found
