"""Read, split, check, keep: a source becomes three datasets and a report, or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.check_data.frames import class_balance, example_frame, split_frame
from slimline.check_data.report import Evidence, write_report
from slimline.check_data.suite import example_checks, split_checks, validate
from slimline.check_data.verdict import judge, label_order, refuse_unusable
from slimline.contract import get_logger
from slimline.data.dataset import save_examples
from slimline.data.sources import read_source
from slimline.data.split import SPLITS, Splitting, place_examples, take
from slimline.data.statistics import channel_statistics

if TYPE_CHECKING:
    from slimline.check_data.spec import CheckData
    from slimline.contract import Numbers

log = get_logger(__name__)


def run(job: CheckData) -> Numbers:
    """Do the work of `CheckData`."""
    raw = read_source(job.source)
    log.info("read %d examples of %s, %d classes", len(raw.y), raw.task, len(raw.labels))
    refuse_unusable(raw)

    how = Splitting(job.test_fraction, job.selection_fraction, job.salt, job.limit)
    placement = place_examples(raw, how)
    splits = {split: take(raw, placement, split, job.name) for split in SPLITS}

    by_example = validate(example_frame(raw, placement), example_checks(job.expectations, raw))
    by_split = validate(split_frame(splits), split_checks(job.expectations, raw.task))
    order = (label_order(job.expectations, raw),) if raw.labels else ()
    findings = (*order, *by_example.findings, *by_split.findings)
    judge(job.name, findings, splits)

    for split, examples in splits.items():
        save_examples(examples, getattr(job, split).path)
    mean, std = channel_statistics(splits["train"])
    numbers: dict[str, Any] = {
        "read": len(raw.y),
        **{split: len(examples) for split, examples in splits.items()},
        "task": raw.task,
        "classes": len(raw.labels),
        "class_balance": {split: class_balance(examples) for split, examples in splits.items()},
        "left_out_by_filter": raw.left_out,
        "missing_dropped": placement.count("missing"),
        "duplicates_dropped": placement.count("duplicate"),
        "duplicates_seen": placement.repeated,
        "contradicting_labels": placement.contradicting,
        "over_limit": placement.count("limit"),
        "expectations_evaluated": len(findings),
        "expectations_passed": sum(f.passed for f in findings),
        "channel_mean": list(mean),
        "channel_std": list(std),
        "source_digest": raw.digest,
    }
    evidence = Evidence(job.name, findings, splits, numbers, (by_example, by_split))
    write_report(evidence, job.report.path)
    return numbers
