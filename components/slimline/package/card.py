"""The model card: what a person must know before using the model, made from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slimline.data.dataset import DatasetInfo
    from slimline.measure.evaluation import EvaluationRecord, StageNumbers
    from slimline.models.info import ModelInfo
    from slimline.package.spec import BuildPackage
    from slimline.trust.verdict import VerdictRecord

_UNSTATED = "Not stated."


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
    lines += _section("Intended use", _use(info))
    lines += _section("Limits", [job.limits or _UNSTATED, *_weakest(record)])
    lines += _section("Data", _data(data, record))
    lines += _section("Numbers", _table(record))
    lines += _section("How it was judged", _judged(record, judged))
    lines += _section("How it was made", [f"{i}. {s}" for i, s in enumerate(info.history, 1)])
    lines += _section("Licence", [job.licence or _UNSTATED])
    return "\n".join(lines)


def _section(title: str, body: list[str]) -> list[str]:
    return [f"## {title}", "", *(body or [_UNSTATED]), ""]


def _use(info: ModelInfo) -> list[str]:
    shape = " x ".join(str(side) for side in info.preprocessing.shape)
    steps = ", ".join(step.op for step in info.preprocessing.steps) or "none"
    return [
        f"Tells which of {len(info.labels)} classes an input is: {', '.join(info.labels)}.",
        "",
        f"- Input: {info.preprocessing.dtype}, {shape}; preprocessing: {steps}.",
        f"- Output: {len(info.labels)} logits, in the order of the classes.",
    ]


def _weakest(record: EvaluationRecord) -> list[str]:
    per_class = record.stages[-1].per_class
    label = min(per_class, key=lambda name: (per_class[name], name))
    return ["", f"Weakest class: {label}, accuracy {per_class[label]:.4f}."]


def _data(data: DatasetInfo, record: EvaluationRecord) -> list[str]:
    return [
        f"- Source: {data.name}, sha256 {data.source_digest}",
        f"- Measured on its {record.dataset_split} split: {data.count} examples that no training,",
        f"  selection or calibration saw; artifact {record.dataset_digest}",
    ]


def _table(record: EvaluationRecord) -> list[str]:
    head = [
        "| stage | accuracy (interval) | bytes | latency ms | times smaller | times faster |",
        "|---|---|---|---|---|---|",
    ]
    return [*head, *(_row(stage) for stage in record.stages), "", f"Runtime: {record.runtime}."]


def _row(stage: StageNumbers) -> str:
    accuracy, latency = stage.accuracy, stage.latency_ms.value
    interval = f"{accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})"
    ratios = f"{stage.shrink:.2f} | {stage.speedup:.2f}"
    return f"| {stage.stage} | {interval} | {stage.bytes} | {latency:.4f} | {ratios} |"


def _judged(record: EvaluationRecord, judged: VerdictRecord) -> list[str]:
    paired = record.non_inferiority
    demands = (f"- {n}: {v:.10g}" for n, v in sorted(judged.thresholds.items()) if v is not None)
    finding = (
        f"Accuracy dropped by {paired.drop:.4f} against {record.stages[0].stage}; with "
        f"{paired.confidence:.0%} confidence by no more than {paired.upper_bound:.4f} "
        f"({paired.method}, {paired.examples} examples). Demands that were met:"
    )
    return [finding, "", *demands]
