"""More than one machine: Celery workers on machines of their own, one of which dies in the middle.

Each worker has its own network, host name, process table and directories; they share the broker,
S3 and one Docker engine. The record of each run is written to build/celery/.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from support import namespaces, postgres, redis
from support.celery_record import Record, docker, write
from support.celery_stack import celery_stack
from support.s3 import variables

from slimline.contract import open_store

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]
RECORDS = Path(__file__).parents[2] / "build" / "celery"
JUDGED = ("check_data", "teacher", "export_teacher", "quantized", "validate", "gate")
STEPS = (*JUDGED, "package", "push", "register")
EPOCHS = 150
RECIPE = """
name: {name}
owner: tests
data:
  source: {{kind: sklearn, name: digits}}
  test_fraction: 0.3
  selection_fraction: 0.1
model:
  factory:
    call: slimline.models.zoo:small_cnn
    arguments: {{classes: 10, channels: 1, widths: [8, 16]}}
train: {{epochs: {epochs}, batch_size: 256}}
passes:
  - quantize: {{scheme: int8-static}}
validate: {{latency_rounds: 20}}
gates: {{margin: 0.2, min_accuracy: 0.5}}
tasks:
{tasks}
"""
_ATTACHED = "attached to the job that was started before"
_EPOCH = re.compile(r"epoch (\d+)/")


def recipe(name, runner):
    tasks = "\n".join(f"  {step}: {{runner: {runner}, cpu: 1}}" for step in STEPS)
    return RECIPE.format(name=name, epochs=EPOCHS, tasks=tasks)


def missing():
    lacks = [namespaces.missing(), redis.missing()]
    if not postgres.program("postgres"):
        lacks.append("postgresql is missing: infra/servers.sh install")
    return "; ".join(filter(None, lacks))


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    recipes = {
        "contained": recipe("contained", "docker"),
        "plain": recipe("plain", "process"),
    }
    lock = str(Path(__file__).parents[2] / "images" / "lock.json")
    with celery_stack(tmp_path_factory.mktemp("celery"), recipes, SLIMLINE_IMAGES=lock) as found:
        yield found
        remove_containers(found)


@pytest.fixture
def both_up(stack):
    stack.bring_up()
    return stack


def remove_containers(stack):
    """Remove what a run that failed has left; a good one leaves no container."""
    told = docker("ps", "--all", "--format", '{{.ID}} {{.Label "dev.slimline.claim"}}')
    runs = stack.airflow.runs("compress_contained")
    left = [line.split()[0] for line in told.splitlines() if any(f"/{r}/" in line for r in runs)]
    if left:
        docker("rm", "--force", "--volumes", *left)


def job_with_checkpoint(stack, besides=()):
    """The job that has kept a checkpoint; None before there is one."""
    with variables(dict(stack.s3)):
        keys = open_store(stack.store).keys("jobs/")
        jobs = [key.split("/")[1] for key in keys if key.endswith("/checkpoint")]
    return next((job for job in jobs if job not in besides), None)


def container_of(job):
    return docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"name=slimline-{job[:24]}")


def last_epoch(container):
    epochs = _EPOCH.findall(docker("logs", container))
    return int(epochs[-1]) if epochs else 0


def hold_before_end(record, container):
    """Pause a training that is nearly done, so that it is not done before the retry comes."""
    if last_epoch(container) > EPOCHS * 3 // 4 and not is_paused(container):
        docker("pause", container)
        record.note("the container is nearly done: paused until the retry comes")


def is_paused(container):
    return docker("inspect", "--format={{.State.Paused}}", container) == "true"


def kill_machine_of(record, task):
    """End every process of the machine that runs a task; returns the machine."""
    machine = record.stack.machine_at(record.task(task)["hostname"])
    count = machine.kill()
    record.note(f"machine {machine.name} died: kill -9 of all its {count} processes")
    return machine


def retried(record, task, words, meanwhile=lambda: None):
    """The task on its second try, once its log says so."""

    def look():
        meanwhile()
        told = record.stack.airflow.log(record.dag, record.run, task, 2)
        return record.task(task) if words in told else None

    return record.until(look, 300)


@pytest.mark.docker
def test_a_container_goes_on_without_its_worker_and_another_machine_takes_it_over(both_up):
    stack = both_up
    title = "A worker dies while its container trains"
    record = Record(stack, "compress_contained", title, in_containers=True)
    record.begin()
    job = record.until(lambda: job_with_checkpoint(stack), 300)
    container = container_of(job)
    record.note(f"teacher has a checkpoint, in container {container[:12]}")
    killed = kill_machine_of(record, "teacher")
    before = last_epoch(container)
    again = retried(record, "teacher", _ATTACHED, lambda: hold_before_end(record, container))
    heir = stack.machine_at(again["hostname"])
    after = last_epoch(container)
    told = f"epoch {after} of {EPOCHS}, it was {before} when the machine died"
    record.note(f"try 2 of teacher attached to the container, on {heir.name}: {told}")
    docker("unpause", container)
    state = record.wait(600)
    facts = record.finish()
    print(write(RECORDS / "record", facts))  # noqa: T201 - pytest shows it

    assert state == "success"
    assert after > before, "the container went on without a worker"
    assert heir == stack.other_than(killed)
    tries = [a for a in facts["attempts"] if a["task"] == "teacher"]
    assert [(a["worker"], a["state"]) for a in tries][1:] == [(heir.name, "success")]
    assert tries[0]["worker"] == killed.name
    assert tries[0]["state"] != "success"
    assert {n for n, s in facts["steps"].items() if s["executed"]} == set(STEPS)
    starts = Counter(c["job"] for c in facts["containers"] if c["action"] == "start")
    assert starts == Counter(step["job"] for step in facts["steps"].values())
    successes = Counter(a["task"] for a in facts["attempts"] if a["state"] == "success")
    assert successes == dict.fromkeys((*STEPS, "gate_passed"), 1)
    assert facts["steps"]["teacher"]["numbers"]["resumed_from_epoch"] == 0


def test_a_job_that_died_with_its_machine_goes_on_from_its_checkpoint_on_another(both_up):
    stack = both_up
    with variables(dict(stack.s3)):
        earlier = {key.split("/")[1] for key in open_store(stack.store).keys("jobs/")}
    record = Record(stack, "compress_plain", "A worker dies with the child process that trains")
    record.begin()
    job = record.until(lambda: job_with_checkpoint(stack, earlier), 300)
    record.note("teacher has a checkpoint")
    killed = kill_machine_of(record, "teacher")
    again = retried(record, "teacher", "resumes at epoch")
    heir = stack.machine_at(again["hostname"])
    record.note(f"try 2 of teacher goes on from the checkpoint, on {heir.name}")
    record.until(lambda: record.task("teacher")["state"] == "success", 300)
    facts = record.finish()
    print(write(RECORDS / "checkpoint", facts))  # noqa: T201 - pytest shows it

    assert heir == stack.other_than(killed)
    teacher = facts["steps"]["teacher"]
    assert teacher["job"] == job
    assert 0 < teacher["numbers"]["resumed_from_epoch"] < EPOCHS
    assert not (stack.home(heir) / "work" / job).exists()
    assert (stack.home(killed) / "work" / job).exists(), "each machine has its own directories"


def test_workers_hold_no_password_of_the_database_and_no_secret_of_a_job(both_up):
    machines = both_up.network.machines
    every = [Path(f"/proc/{p}/environ").read_bytes() for m in machines for p in m.pids()]
    # Those of Airflow: a job's own process does have the secrets that it declares, and one that
    # gave itself a title wrote it over its environment.
    airflow = [environ for environ in every if b"AIRFLOW__CELERY__BROKER_URL=" in environ]
    assert len(airflow) >= len(machines)
    # By value: in a task's process Airflow itself sets SQL_ALCHEMY_CONN, to what is no database.
    assert len(both_up.hidden) >= 4
    for secret in both_up.hidden:
        assert not any(secret.encode() in environ for environ in airflow)
