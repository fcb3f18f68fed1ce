import os

from slimline.contract import Numbers
from slimline_probe.passes.spec import Passes


def run(job: Passes) -> Numbers:
    (job.judged.path / "index.html").write_text(f"heard {len(job.heard)}")
    numbers = {"heard": len(job.heard), "process": os.getpid()}
    if job.verdict is None:
        return numbers
    return {**numbers, "passed": job.verdict, "reasons": [] if job.verdict else ["it was too loud"]}
