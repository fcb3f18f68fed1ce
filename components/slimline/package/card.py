"""The model card: what a person must know before using the model, made from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.measure.evaluation import slower_steps, speed_in_words

if TYPE_CHECKING:
    from slimline.data.dataset import DatasetInfo
    from slimline.measure.evaluation import EvaluationRecord, StageNumbers
    from slimline.models.info import ModelInfo
    from slimline.package.spec import BuildPackage
    from slimline.trust.verdict import VerdictRecord

_UNSTATED = "Not stated."
_DEMANDS = {
    "margin": "largest accepted drop in accuracy, a fraction",
    "confidence": "least confidence of that bound, one-sided",
    "min_accuracy": "least accuracy, a fraction",
    "per_class_max_drop": "largest drop in the accuracy of a class, a fraction",
    "slice_max_drop": "largest drop of a class or slice, by Holm's corrected bound",
    "max_robustness_drop": "largest drop in accuracy on corrupted images, upper bound",
    "max_ece_rise": "largest rise of the calibration error, upper bound",
    "max_bytes": "most bytes of model.onnx",
    "max_latency_ms": "longest median latency, ms",
    "max_memory_mb": "most memory, MB",
    "min_shrink": "least times smaller",
    "min_speedup": "least speed against the baseline, lower end of its interval",
    "min_test_examples": "fewest test examples",
}


def write_card(
    job: BuildPackage,
    info: ModelInfo,
    data: DatasetInfo,
    record: EvaluationRecord,
    judged: VerdictRecord,
) -> str:
    """The card as Markdown; no time and no place is in it."""
    lines = [f"# {job.name}", "", job.description or _UNSTATED, ""]
    lines += _section("Owner", [job.owner or _UNSTATED])
    lines += _section("Intended use", _use(info, record))
    lines += _section("Limits", [job.limits or _UNSTATED, *_weakest(record)])
    lines += _section("Data", _data(job, data, record))
    lines += _section("Numbers", _table(record))
    lines += _section("What it needs", _needs(job, info, record))
    lines += _section("How it was judged", _judged(record, judged))
    lines += _section("How it was made", [f"{i}. {s}" for i, s in enumerate(info.history, 1)])
    lines += _section("Licence", [job.licence or _UNSTATED])
    return "\n".join(lines)


def _section(title: str, body: list[str]) -> list[str]:
    return [f"## {title}", "", *(body or [_UNSTATED]), ""]


def _use(info: ModelInfo, record: EvaluationRecord) -> list[str]:
    shape = " x ".join(str(side) for side in info.preprocessing.shape)
    steps = ", ".join(step.op for step in info.preprocessing.steps) or "none"
    named = ", ".join(info.labels)
    told = f"Does {record.task}{f' of {len(info.labels)} classes: {named}' if named else ''}."
    output = f"float32, as the metric {record.non_inferiority.metric} takes it."
    if record.task == "classification" and info.labels:
        told = f"Tells which of {len(info.labels)} classes an input is: {named}."
        output = f"{len(info.labels)} logits, in the order of the classes."
    return [
        told,
        "",
        f"- Input: {info.preprocessing.dtype}, {shape}; preprocessing: {steps}.",
        f"- Output: {output}",
    ]


def _weakest(record: EvaluationRecord) -> list[str]:
    per_class = record.stages[-1].per_class
    if not per_class:
        return []
    label = min(per_class, key=lambda name: (per_class[name], name))
    what = "accuracy" if record.task == "classification" else record.non_inferiority.metric
    return ["", f"Weakest class: {label}, {what} {per_class[label]:.4f}."]


def _data(job: BuildPackage, data: DatasetInfo, record: EvaluationRecord) -> list[str]:
    return [
        f"- Source: {data.name}, sha256 {data.source_digest}",
        f"- Measured on its {record.dataset_split} split: {data.count} examples that no training,",
        f"  selection or calibration saw; artifact {record.dataset_digest}",
        f"- {job.golden_count} of these test examples travel in this package (`golden.npz`), and",
        "  maybe others in `report.html`: send it nowhere that the data may not go.",
    ]


def _table(record: EvaluationRecord) -> list[str]:
    name = record.non_inferiority.metric
    head = [
        f"| stage | {name} (interval) | bytes | times smaller | latency ms (interval) | speed |",
        "|---|---|---|---|---|---|",
    ]
    first, last = record.stages[0], record.stages[-1]
    where = f" Machine: {record.machine}." if record.machine else ""
    return [
        *head,
        *(_row(stage) for stage in record.stages),
        "",
        f"{last.stage}, the model in this package, is {speed_in_words(last, first.stage)}.",
        *slower_steps(record.stages),
        f"Speed is that of {first.stage} over the stage's own, one example at a time. Another",
        f"machine gives other times. Runtime: {record.runtime}.{where}",
    ]


def _needs(job: BuildPackage, info: ModelInfo, record: EvaluationRecord) -> list[str]:
    return [
        f"- ONNX Runtime {job.onnxruntime} that runs opset {info.opset}",
        f"- Processor: {' or '.join(job.arch)}",
        f"- Memory: about {record.stages[-1].memory_mb:.1f} MB, with what the runtime sets up",
        f"- Logits within {job.golden_tolerance:g} of the golden ones",
    ]


def _row(stage: StageNumbers) -> str:
    accuracy, latency = (
        f"{n.value:.4f} ({n.low:.4f} to {n.high:.4f})" for n in (stage.measured, stage.latency_ms)
    )
    size = f"{stage.bytes} | {stage.shrink:.2f}"
    return f"| {stage.stage} | {accuracy} | {size} | {latency} | {stage.speedup:.2f} |"


def _judged(record: EvaluationRecord, judged: VerdictRecord) -> list[str]:
    paired = record.non_inferiority
    demands = (
        f"- {_DEMANDS.get(name, name)}: {value:.10g}"
        for name, value in sorted(judged.thresholds.items())
        if value is not None
    )
    finding = (
        f"{_capital(paired.metric)} {'dropped' if paired.higher_is_better else 'rose'} by "
        f"{paired.drop:.4f} against {record.stages[0].stage}; with "
        f"{100 * paired.confidence:.4g} % confidence by no more than {paired.upper_bound:.4f} "
        f"({paired.method}, {paired.examples} examples). Demands that were met:"
    )
    return [finding, "", *demands]


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
