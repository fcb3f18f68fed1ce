import os
import signal
import time

from slimline.contract import (
    BadData,
    BadParameters,
    Numbers,
    TryLater,
    digest_json,
    get_logger,
    secret,
)
from slimline_probe.talk.spec import Talk

log = get_logger("slimline.talk")


def run(job: Talk) -> Numbers:
    if job.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    known = digest_json(secret("planted")) if job.expects_secret else ""
    if job.leaks:
        log.warning("the secret is %s", secret("planted"))
    for index in range(job.times):
        log.info("%s %d", job.words, index)
        time.sleep(job.seconds / job.times)
    _end(job.ending)
    (job.said.path / "index.html").write_text(job.words * job.times)
    visible = sorted(name for name in os.environ if name.startswith("SLIMLINE_SECRET"))
    return {"said": job.times, "secret": known, "visible": visible, "process": os.getpid()}


def _end(how: str) -> None:
    if how == "bug":
        raise RuntimeError("a bug was met")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    errors = {"data": BadData, "later": TryLater, "parameters": BadParameters}
    if how in errors:
        raise errors[how](f"told to end with {how}")
