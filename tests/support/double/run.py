"""The work of `Double`."""

import time

from slimline.contract import BadData, Numbers, TryLater, checkpoint, get_logger, progress, secret
from support.double.spec import Double

log = get_logger("slimline.double")


def run(job: Double) -> Numbers:
    saved = checkpoint()
    started = int((saved.path / "at").read_text()) if saved.restore() else 0
    log.info("starts at %d with a secret of %d letters", started, len(_planted()))
    steps = range(started, 10)
    for step in progress(steps, len(steps), "double"):
        time.sleep(job.seconds / 10)
        (saved.path / "at").write_text(str(step))
        if job.seconds:
            saved.save()
    if job.way == "bug":
        message = "a bug"
        raise RuntimeError(message)
    if job.way == "bad-data":
        message = "number.txt: the number is bad: give another"
        raise BadData(message)
    if job.way == "later":
        message = "the service is away"
        raise TryLater(message)
    total = sum(float((a.path / "number.txt").read_text()) for a in (job.number, *job.extra))
    (job.doubled.path / "number.txt").write_text(str(total * job.times))
    return {"value": float("nan") if job.way == "nan" else total * job.times, "began_at": started}


def _planted() -> str:
    try:
        return secret("planted")
    except Exception:  # noqa: BLE001 - the test component runs without it too
        return ""
