"""A job is killed in a process of its own, and the same job runs again on the same store."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.splits import small_factory, write_digits
from support.teacher import taught

SCRIPT = Path(__file__).parents[1] / "support" / "training_job.py"
EPOCHS = 8


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    few = write_digits(tmp_path_factory.mktemp("few"), most=600)
    job = {"train": str(few.train), "selection": str(few.selection), "epochs": EPOCHS}
    job |= {"batch_size": 4, "factory": small_factory(4, 8), "augmentation": "shift"}
    return json.dumps(job)


@pytest.fixture(scope="module")
def undisturbed(values, tmp_path_factory):
    """Manifest and store of a run without a kill."""
    root = tmp_path_factory.mktemp("undisturbed")
    return finished(values, root)[0], root / "store"


def start(values, root, attempt, component="train"):
    command = [sys.executable, SCRIPT, component, root / "store", root / f"work{attempt}", values]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(values, root, attempt=0, component="train"):
    """Run to the end; gives the manifest and the log."""
    process = start(values, root, attempt, component)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return json.loads(out), log


def killed(values, root, how, after, component="train"):
    """Run until a line of the log is there, then kill; gives the log and the exit status."""
    process = start(values, root, "killed", component)
    log = ""
    for line in process.stderr:
        log += line
        if re.search(after, line):
            process.send_signal(how)
            break
    rest = process.communicate(timeout=120)[1]
    return log + rest, process.returncode


def model_digest(manifest):
    return manifest["outputs"]["model"]["digest"]


def kept_epochs(log):
    return [int(n) for n in re.findall(r"kept what epoch (\d+) reached", log)]


def told_epochs(log):
    return [int(n) for n in re.findall(r"train: epoch (\d+)/", log)]


def test_after_sigkill_the_next_try_goes_on_from_the_kept_epoch(values, undisturbed, tmp_path):
    log, status = killed(values, tmp_path, signal.SIGKILL, r"kept what epoch \d+")
    assert status == -signal.SIGKILL
    reached = kept_epochs(log)[-1]
    assert 1 <= reached < EPOCHS
    manifest, again = finished(values, tmp_path)
    assert f"resumes at epoch {reached + 1}, step 1" in again
    assert told_epochs(again) == list(range(reached + 1, EPOCHS + 1))
    assert manifest["numbers"]["resumed_from_epoch"] == reached
    assert model_digest(manifest) == model_digest(undisturbed[0])


def test_sigterm_exits_143_after_saving_the_step_it_reached(values, undisturbed, tmp_path):
    log, status = killed(values, tmp_path, signal.SIGTERM, r"train: epoch 2/")
    assert status == 143, log
    reached = kept_epochs(log)[-1]
    assert reached == told_epochs(log)[-1]
    assert len(list((tmp_path / "store" / "artifacts").glob("*.json"))) == 1, "older saves stayed"
    manifest, again = finished(values, tmp_path)
    assert re.search(rf"resumes at epoch {reached + 1}, step \d+", again)
    assert told_epochs(again)[0] == reached + 1
    assert model_digest(manifest) == model_digest(undisturbed[0])


def test_a_finished_job_leaves_no_checkpoint(undisturbed):
    (job,) = (undisturbed[1] / "jobs").iterdir()
    assert [p.name for p in job.iterdir()] == ["manifest.json"]


@pytest.fixture(scope="module", params=["views", "hints"])
def taught_values(request, tmp_path_factory):
    few = write_digits(tmp_path_factory.mktemp("few"), most=600)
    job = {"train": str(few.train), "selection": str(few.selection), "epochs": EPOCHS}
    job |= {"teacher": str(taught().model), "batch_size": 4, "factory": small_factory(4, 8)}
    views = {"augmentation": "shift", "augmentation_views": 3, "averaging": "ema"}
    return json.dumps(job | (views if request.param == "views" else {"method": "hints"}))


def test_a_killed_distillation_goes_on_to_the_same_bytes(taught_values, tmp_path):
    whole = finished(taught_values, tmp_path / "whole", component="distill")[0]
    root = tmp_path / "parts"
    log, status = killed(
        taught_values, root, signal.SIGTERM, r"distill: epoch 2/", component="distill"
    )
    assert status == 143, log
    manifest, again = finished(taught_values, root, component="distill")
    assert "resumes at epoch" in again
    digests = [m["outputs"]["student"]["digest"] for m in (whole, manifest)]
    assert digests[0] == digests[1]
