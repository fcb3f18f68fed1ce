"""The life of a job's container on the real engine."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.engine_proxy import proxied

from slimline.adapters.runners import open_runner
from slimline.adapters.runners.docker import DockerRunner
from slimline.adapters.runners.docker.container import container_name
from slimline.adapters.runners.docker.engine import LABEL, Engine, EngineAway
from slimline.adapters.runners.docker.runner import LOST
from slimline.contract import Resources, TryLater, open_store
from slimline.contract.cache import read_manifest

if TYPE_CHECKING:
    from support.docker_bench import DockerBench

pytestmark = pytest.mark.docker


def _ignore(_line: str) -> None:
    """For who wants the exit code alone."""


@pytest.fixture
def bench(docker_bench) -> DockerBench:
    return docker_bench()


@pytest.mark.parametrize(
    ("ending", "code"),
    [("good", 0), ("bug", 1), ("parameters", 64), ("data", 65), ("later", 75), ("kill", 137)],
)
def test_the_exit_code_of_the_job_is_the_result(bench, ending, code):
    assert bench.run(ending=ending) == code


def test_every_line_is_handed_on_and_the_manifest_tells_the_rest_and_the_image(bench):
    launch = bench.launch(words="tick", times=4)
    handle = bench.runner.start(launch)
    assert not handle.attached
    assert handle.wait(bench.lines.append) == 0
    assert bench.said("tick") == 4
    manifest = read_manifest(open_store(bench.store), launch.identity)
    assert manifest is not None
    assert manifest.numbers["said"] == 4
    assert manifest.versions["image"] == bench.runner.lock.image("base").digest
    assert manifest.identity.image == bench.runner.lock.image("base").environment


def test_what_is_discarded_is_gone_with_its_volume(bench):
    handle = bench.start()
    handle.wait(bench.lines.append)
    mounts = Engine().inspect(handle.container)["Mounts"]
    volume = next(m["Name"] for m in mounts if m["Destination"] == "/work")
    handle.discard()
    handle.discard()
    assert bench.inspect(handle.launch.identity) is None
    left = Engine().api.volumes()["Volumes"] or []
    assert volume not in [v["Name"] for v in left]


def test_a_second_task_with_the_same_identity_attaches_to_the_running_container(bench):
    first = bench.start(seconds=2.0)
    second = bench.start(seconds=2.0, claim="another")
    assert (first.attached, second.attached) == (False, True)
    assert first.container == second.container
    heard: list[str] = []
    assert second.wait(heard.append) == 0
    assert first.wait(bench.lines.append) == 0
    assert heard == bench.lines


def _work_for_ever(bench: DockerBench, started) -> None:
    bench.runner = DockerRunner(settings=bench.runner.settings)
    handle = bench.start(seconds=4.0, times=8)
    started.put(handle.container)
    handle.wait(_ignore)


def test_after_kill_9_of_its_worker_the_container_goes_on_and_the_retry_takes_its_result(bench):
    method = multiprocessing.get_context("fork")
    started = method.Queue()
    worker = method.Process(target=_work_for_ever, args=(bench, started))
    worker.start()
    container = started.get(timeout=60)
    bench.wait_for("hello 0", bench.start(seconds=4.0, times=8))
    worker.kill()
    worker.join()

    retry = bench.start(seconds=4.0, times=8)
    assert retry.attached
    assert retry.container == container
    assert retry.wait(bench.lines.append) == 0
    assert bench.said("hello") == 8


def test_a_result_that_nobody_fetched_is_given_to_the_same_claim_only(bench):
    first = bench.start(words="once")
    first.wait(bench.lines.append)
    assert bench.start(words="once").attached
    other = bench.start(words="once", claim="the next run")
    assert not other.attached
    assert other.container != first.container
    assert other.wait(bench.lines.append) == 0


def test_a_failed_job_is_started_again(bench):
    assert bench.run(ending="later") == 75
    again = bench.start(ending="later")
    assert not again.attached
    assert again.wait(bench.lines.append) == 75


def test_of_two_workers_that_start_the_same_job_at_once_one_makes_the_container(bench):
    settings = bench.runner.settings
    handles = []

    def start(claim: str) -> None:
        runner = DockerRunner(settings=settings)
        handles.append(runner.start(replace(launch, claim=claim)))

    launch = bench.launch(seconds=3.0)
    workers = [threading.Thread(target=start, args=(f"run/{n}",)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({handle.container for handle in handles}) == 1
    assert sorted(handle.attached for handle in handles) == [False, True, True, True]
    label = f"{LABEL}identity={launch.identity}"
    assert len(Engine().api.containers(all=True, filters={"label": label})) == 1
    assert [handle.wait(_ignore) for handle in handles] == [0, 0, 0, 0]


def test_a_container_whose_worker_died_before_it_was_started_is_made_anew(bench):
    launch = bench.launch()
    label = {f"{LABEL}identity": launch.identity}
    image = bench.runner.lock.image("base").reference
    name = container_name(launch.identity)
    dead = Engine().api.create_container(image, labels=label, name=name)["Id"]
    handle = bench.runner.start(launch)
    assert handle.container != dead
    assert handle.wait(bench.lines.append) == 0


def test_a_strangers_container_of_that_name_is_left_alone(bench):
    launch = bench.launch()
    image, name = bench.runner.lock.image("base").reference, container_name(launch.identity)
    Engine().api.create_container(image, name=name)
    with pytest.raises(TryLater, match=f"container {name} is not this job's"):
        bench.runner.start(launch)


def test_stop_lets_the_job_end_by_sigterm(bench):
    handle = bench.start(seconds=60)
    bench.wait_for("hello 0", handle)
    handle.stop()
    assert handle.wait(bench.lines.append) == 143


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(bench):
    handle = bench.start(seconds=60, deaf=True)
    bench.wait_for("hello 0", handle)
    handle.stop()
    assert handle.wait(bench.lines.append) == 137
    handle.discard()
    handle.stop()


def test_a_container_that_somebody_removes_counts_as_killed(bench):
    handle = bench.start(seconds=60)
    bench.wait_for("hello 0", handle)
    Engine().remove(handle.container, force=True)
    assert handle.wait(bench.lines.append) == LOST


def test_out_of_memory_is_told_with_the_limit_and_the_parameter_that_raises_it(bench):
    handle = bench.script("x = b'1' * 10**9", needs=Resources(memory="64Mi"))
    assert handle.wait(bench.lines.append) == 137
    assert bench.lines[-1].startswith("slimline: out of memory")
    assert "limit of 64Mi" in bench.lines[-1]
    assert "tasks: {talk_step: {memory: 128Mi}}" in bench.lines[-1]


def test_out_of_memory_of_a_child_is_told_where_the_job_itself_lives_to_fail(bench):
    script = """
import subprocess, sys
done = subprocess.run([sys.executable, "-c", "x = b'1' * 10**9"])
print("child ended with", done.returncode)
sys.exit(1)
"""
    handle = bench.script(script, needs=Resources(memory="64Mi"))
    assert handle.wait(bench.lines.append) == 1
    assert "child ended with -9" in bench.lines
    assert bench.lines[-1].startswith("slimline: out of memory")


_COUNT = """
import time
for number in range(1, 401):
    print("line", number)
    time.sleep(0.01)
"""


def test_a_connection_that_breaks_is_taken_up_again_and_no_line_is_lost_or_doubled(
    docker_bench, tmp_path
):
    with proxied(tmp_path / "engine") as proxy:
        bench = docker_bench(engine=Engine({"DOCKER_HOST": proxy.address}))
        handle = bench.script(_COUNT)
        done = threading.Event()

        def disturb() -> None:
            while not done.wait(0.6):
                proxy.cut()

        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            assert handle.wait(bench.lines.append) == 0
        finally:
            done.set()
            disturber.join()
    assert bench.lines == [f"line {i}" for i in range(1, 401)]


def test_an_engine_that_stays_away_is_told_and_the_retry_attaches(docker_bench, tmp_path):
    with proxied(tmp_path / "engine") as proxy:
        bench = docker_bench(engine=Engine({"DOCKER_HOST": proxy.address}))
        handle = bench.start(seconds=6.0, times=6)
        threading.Timer(1.0, proxy.away).start()
        with pytest.raises(EngineAway, match=r"does not answer.*the next try attaches"):
            handle.wait(bench.lines.append)
        bench.lines.clear()
        proxy.back()
        retry = bench.start(seconds=6.0, times=6)
        assert retry.attached
        assert retry.container == handle.container
        assert retry.wait(bench.lines.append) == 0
    assert bench.said("hello") == 6


def test_lines_stream_while_the_job_runs(bench):
    handle = bench.script("import time; print('first'); time.sleep(2); print('last')")
    heard = []
    handle.wait(lambda line: heard.append((time.monotonic(), line)))
    assert [line for _, line in heard] == ["first", "last"]
    assert heard[1][0] - heard[0][0] > 0.5


def test_the_runner_is_chosen_by_name(monkeypatch):
    assert isinstance(open_runner("docker"), DockerRunner)
    monkeypatch.setenv("SLIMLINE_RUNNER", "docker")
    assert isinstance(open_runner(), DockerRunner)
