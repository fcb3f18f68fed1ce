"""The whole of it through Airflow's real scheduler, on one stack that all tests share, in order."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from support.stack import DEVICES, family, left, small_stack, worker_of

from slimline.adapters.runners.job_directory import JobDirectory
from slimline.contract import open_store
from slimline.embedded.demo.stack import GROUP
from slimline.embedded.demo.story import COMPRESS, MODEL, RELEASE
from slimline.embedded.process import stop_all
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrolled, receive
from slimline.trust.fetch import fetch_package, verify_uri
from slimline.trust.keys import load_trusted
from slimline.trust.request import CONTENT_TYPE, golden_request

pytestmark = pytest.mark.system
ROLLBACK = f"rollback_{MODEL}"
_ATTACHED = "attached to the job that was started before"
_AFTER_QUANTIZE = {"quantized", "validate", "gate", "package", "push", "register"}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with small_stack(tmp_path_factory.mktemp("system")) as found:
        found.story.unpause()
        yield found


@pytest.fixture(scope="module")
def killed(system):
    """The first run, whose training job is killed, and then the worker of its next try."""
    return _first_run(system)


def until(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def _first_run(system):
    airflow, story = system.stack.airflow, system.story
    run = airflow.trigger(COMPRESS)
    directory = until(lambda: _with_checkpoint(system))
    first = directory.process
    os.killpg(first.pid, signal.SIGKILL)
    second = until(lambda: _resumed(directory, first))
    (teacher,) = (t for t in airflow.tasks(COMPRESS, run) if t["task_id"] == "teacher")
    os.killpg(second.pid, signal.SIGSTOP)  # so that it is not done before the retry comes
    worker_of(system.stack.state_dir, teacher["id"]).kill()
    until(lambda: _ATTACHED in airflow.log(COMPRESS, run, "teacher", 3))
    assert directory.process == second
    os.killpg(second.pid, signal.SIGCONT)
    ended = story.follower.run(COMPRESS, run, limit=300)
    return story.act(ended, 0.0)


def _with_checkpoint(system):
    """The directory of the job that trains, once it has kept a checkpoint."""
    for key in open_store(system.stack.store).keys("jobs/"):
        if key.endswith("/checkpoint"):
            return JobDirectory(system.stack.state_dir / "work" / key.split("/")[1])
    return None


def _resumed(directory, before):
    """The process of the next try, once it goes on from the checkpoint."""
    process = directory.process
    if process in (None, before) or "resumes at epoch" not in directory.log.read_text():
        return None
    return process


def task_of(act, name):
    return next(t for t in act.run.tasks if t["task_id"] == name)


def log_of(system, act, task, attempt):
    return system.stack.airflow.log(act.run.dag, act.run.run, task, attempt)


def package_of(act):
    return {k: act.numbers("push")[k] for k in ("uri", "digest")}


def reports(system):
    objects = open_objects(system.stack.environment["SLIMLINE_FLEET"])
    return [receive(objects, device) for device in enrolled(objects, GROUP).values()]


def test_a_training_job_that_is_killed_goes_on_from_its_checkpoint(system, killed):
    assert "exit code 137" in log_of(system, killed, "teacher", 1)
    assert "resumes at epoch" in log_of(system, killed, "teacher", 2)
    numbers = killed.numbers("teacher")
    assert 0 < numbers["resumed_from_epoch"] < numbers["epochs"] == 100


def test_a_worker_that_is_killed_leaves_the_job_to_the_retry(system, killed):
    assert task_of(killed, "teacher")["try_number"] == 3
    third = log_of(system, killed, "teacher", 3)
    assert _ATTACHED in third
    assert "resumes at epoch" in third, "the log is that of the job from its start"
    assert len(killed.executed) == len(killed.steps) == 9


def test_the_package_of_a_green_run_verifies_and_is_registered(system, killed):
    package = package_of(killed)
    assert package["uri"].startswith(system.stack.environment["SLIMLINE_RELEASES"])
    manifest = verify_uri(package["uri"], load_trusted())
    tags = system.story.registry.version(MODEL, "1").tags
    assert tags["slimline.package.uri"] == package["uri"]
    assert tags["slimline.package.digest"] == package["digest"]
    assert tags["slimline.model.digest"] == manifest.model_digest


def test_a_promotion_brings_the_package_to_the_endpoint_and_to_every_device(
    system, killed, tmp_path
):
    package = package_of(killed)
    release = system.story.promote("1")
    manifest = fetch_package(package["uri"], tmp_path, load_trusted())
    golden = golden_request(tmp_path, manifest)
    address = release.numbers("deploy")["address"]
    headers = {"Content-Type": CONTENT_TYPE}
    answer = httpx.post(f"{address}/invocations", content=golden.body, headers=headers)
    assert golden.check(answer.content, "the endpoint").count == manifest.golden.count
    assert [r.after.digest for r in reports(system)] == [package["digest"]] * DEVICES
    assert [r.before for r in reports(system)] == [None] * DEVICES
    aliases = {"candidate": "1", "champion": "1", "deployed": "1"}
    assert system.story.registry.aliases(MODEL) == aliases


def test_an_unchanged_recipe_executes_nothing(system, killed):
    again = system.story.compress("again", {})
    assert again.executed == []
    assert package_of(again) == package_of(killed)


@pytest.mark.usefixtures("killed")
def test_a_changed_parameter_executes_its_step_and_what_depends_on_it(system):
    changed = system.story.compress("changed", {"quantized.calibration_samples": 64})
    assert set(changed.executed) == _AFTER_QUANTIZE
    command = [sys.executable, "-m", "slimline", "why", MODEL]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reasons = dict(line.split(": ", 1) for line in told.splitlines())
    compress = {n: reasons[f"{MODEL}/{n}"] for n in changed.steps}
    assert {n for n, r in compress.items() if r.startswith("ran: ")} == _AFTER_QUANTIZE
    assert {r[:11] for n, r in compress.items() if n not in _AFTER_QUANTIZE} == {"reused: job"}
    assert "calibration_samples" in compress["quantized"]
    assert "64" in compress["quantized"]
    assert "candidate" in compress["validate"]


@pytest.mark.usefixtures("killed")
def test_a_refused_candidate_leaves_nothing(system):
    before = _released(system)
    conf = {"quantized.calibration_samples": 32, "gate.min_accuracy": 1.0}
    refused = system.story.compress("refused", conf, expect="failed")
    assert set(refused.executed) == {"quantized", "validate", "gate"}
    states = {t["task_id"]: t["state"] for t in refused.run.tasks}
    assert states["gate_passed"] == "failed"
    assert states["package"] == states["register"] == "upstream_failed"
    assert task_of(refused, "gate_passed")["try_number"] == 1
    reasons = refused.numbers("gate")["reasons"]
    assert reasons
    told = log_of(system, refused, "gate_passed", 1)
    assert all(reason in told for reason in reasons)
    assert _released(system) == before


def _released(system):
    releases = open_store(system.stack.environment["SLIMLINE_RELEASES"])
    versions = [v.version for v in system.story.registry.versions(MODEL)]
    running = [report.after for report in reports(system)]
    return sorted(releases.keys("")), versions, system.story.registry.aliases(MODEL), running


def test_a_rollback_brings_the_version_before_back_on_every_target(system, killed):
    airflow, follower = system.stack.airflow, system.story.follower
    second = airflow.trigger(RELEASE, {"version": 2, "auto_approve": True})
    released = system.story.act(follower.run(RELEASE, second), 0.0)
    now = released.numbers("deploy")["after"]
    assert now != package_of(killed)["digest"]
    assert [r.after.digest for r in reports(system)] == [now] * DEVICES
    airflow.unpause(ROLLBACK)
    back = follower.run(ROLLBACK, airflow.trigger(ROLLBACK))
    address = system.story.act(back, 0.0).numbers("deploy")["address"]
    digest = package_of(killed)["digest"]
    assert httpx.get(f"{address}/readyz").json()["package_digest"] == digest
    assert [r.after.digest for r in reports(system)] == [digest] * DEVICES
    aliases = system.story.registry.aliases(MODEL)
    assert (aliases["deployed"], aliases["previous"]) == ("1", "2")


@pytest.mark.usefixtures("killed")
def test_no_secret_is_written_or_shown_anywhere(system):
    stack, needles = system.stack, _needles(system.stack)
    airflow = json.loads((stack.state_dir / "airflow.pid").read_text())["pid"]
    planted = Path(f"/proc/{airflow}/environ").read_bytes()
    assert all(needle in planted for needle in needles), "the search knows what it looks for"
    looked = {str(p): p.read_bytes() for p in stack.state_dir.rglob("*") if p.is_file()}
    looked |= {f"rows of {p}": _rows(Path(p)) for p in looked if p.endswith(".db")}
    looked |= system.lookout.job_files
    looked |= {line: line.encode() for line in system.lookout.command_lines}
    for part in ("/airflow/logs/", "rows of ", "/s3/data/", "/work/", " slimline run gate "):
        assert any(part in name for name in looked), f"there was no {part} to look at"
    shown = [name for name, data in looked.items() if any(needle in data for needle in needles)]
    assert shown == []


def _needles(stack):
    """What no one may see: the S3 secret, and each long line of each private key."""
    pems = [stack.keys["slimline_signing"], *json.loads(stack.keys["slimline_tuf"]).values()]
    lines = [line for pem in pems for line in pem.splitlines() if not line.startswith("-----")]
    found = [line.encode() for line in lines if len(line) >= 20]
    assert len(found) >= 1 + 6
    return [stack.environment["AWS_SECRET_ACCESS_KEY"].encode(), *found]


def _rows(database):
    """Every value of a database, since a long one may lie scattered over its file."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return "\n".join(connection.iterdump()).encode()


def test_an_interrupted_demo_leaves_no_process(tmp_path):
    command = [
        sys.executable,
        "-m",
        "slimline.embedded.demo",
        "--state-dir",
        str(tmp_path / "demo"),
    ]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    until((tmp_path / "demo" / "airflow.pid").exists)
    time.sleep(3)
    running = family(tmp_path / "demo")
    assert len(running) > 3
    demo.send_signal(signal.SIGINT)
    told, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "interrupted" in told
    assert left(tmp_path / "demo", running) == []


def test_a_demo_does_not_clear_a_directory_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    command = [sys.executable, "-m", "slimline.embedded.demo", "--state-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "is not empty, and no demo made it" in done.stdout
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


def test_stopping_ends_a_job_that_runs_too(system):
    system.stack.airflow.trigger(COMPRESS, {"teacher.epochs": 5000})
    directory = until(lambda: _with_checkpoint(system))
    running = family(system.stack.state_dir)
    assert psutil.Process(directory.process.pid) in running
    stop_all(system.stack.state_dir)
    assert left(system.stack.state_dir, running) == []
