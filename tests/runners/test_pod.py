"""The pod runner against a simulated Kubernetes API, with real jobs in its pods."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.kubernetes import cluster as simulated
from support.pods import Bench, settle, write_lock

from slimline.adapters.runners import open_runner
from slimline.adapters.runners.pod import PodRunner
from slimline.adapters.runners.pod.sweep import sweep_pods
from slimline.contract import BadParameters, LocalStore, TryLater
from slimline.contract.cache import read_manifest


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "cluster").mkdir()
    with simulated(tmp_path / "cluster") as found:
        yield found


@pytest.fixture
def bench(cluster, monkeypatch, tmp_path):
    settle(monkeypatch, tmp_path, cluster)
    return Bench(PodRunner(poll=0.05), LocalStore(tmp_path / "store"), cluster)


def said(lines: list[str]) -> list[str]:
    found = [json.loads(line) for line in lines if line.startswith('{"time"')]
    return [r["message"] for r in found if r["message"].startswith("hello ")]


def wait_for(bench: Bench, words: bytes, name: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pod = bench.cluster.pods.get(name)
        if pod is not None and any(words in line for line in pod.lines):
            return
        time.sleep(0.02)
    pytest.fail(f"{words!r} was not said")


def test_the_runner_pod_is_opened_by_its_name(bench):
    assert isinstance(open_runner("pod"), PodRunner)
    assert bench.runner.image_digest("base") == "e" * 64


def test_a_job_runs_as_a_pod_its_log_streams_and_its_manifest_tells_the_rest(bench):
    launch = bench.launch(times=4, expects_secret=True)
    handle = bench.runner.start(launch)
    assert not handle.attached
    assert handle.wait(bench.lines.append) == 0
    assert said(bench.lines) == [f"hello {i}" for i in range(4)]
    manifest = read_manifest(bench.store, launch.identity)
    assert manifest is not None
    assert manifest.numbers["visible"] == ["SLIMLINE_SECRET_PLANTED"]
    handle.discard()
    assert not bench.cluster.pods


@pytest.mark.parametrize(
    ("ending", "code"), [("bug", 1), ("parameters", 64), ("data", 65), ("later", 75), ("kill", 137)]
)
def test_the_exit_code_of_the_container_is_the_result(bench, ending, code):
    assert bench.run(ending=ending) == code


def test_no_value_of_a_secret_is_in_what_the_cluster_is_sent(bench, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "value-of-the-store")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "value-of-mlflow")
    bench.run()
    assert "value-of-" not in json.dumps(bench.cluster.created)
    assert "secretKeyRef" in json.dumps(bench.cluster.created)


def test_a_second_task_with_the_same_identity_attaches_to_the_pod(bench):
    first = bench.start(seconds=2.0)
    second = bench.start(seconds=2.0, claim="another/run/talk")
    assert (first.attached, second.attached) == (False, True)
    assert second.wait(bench.lines.append) == 0
    assert said(bench.lines) == ["hello 0", "hello 1", "hello 2"]
    assert len(bench.cluster.created) == 1


def _worker(bench: Bench) -> None:
    bench.run(seconds=3.0)


def test_after_kill_9_of_its_worker_the_retry_follows_the_same_pod_from_the_start(bench):
    worker = multiprocessing.get_context("fork").Process(target=_worker, args=(bench,))
    worker.start()
    name = bench.name(seconds=3.0)
    wait_for(bench, b"hello 0", name)
    worker.kill()
    worker.join()
    retry = bench.start(seconds=3.0)
    assert retry.attached
    assert retry.wait(bench.lines.append) == 0
    assert said(bench.lines) == ["hello 0", "hello 1", "hello 2"]
    assert len(bench.cluster.created) == 1


def test_a_result_that_nobody_fetched_is_given_to_the_same_claim_only(bench):
    assert bench.run() == 0
    again = bench.start()
    assert again.attached
    assert again.wait(bench.lines.append) == 0
    other = bench.start(claim="the/next/run")
    assert not other.attached
    assert other.wait(bench.lines.append) == 0


def test_a_failed_pod_is_kept_to_look_at_until_the_next_try_takes_its_name(bench):
    assert bench.run(ending="later") == 75
    first = bench.cluster.get(bench.name(ending="later"))
    again = bench.start(ending="later")
    assert not again.attached
    assert bench.cluster.get(bench.name(ending="later")) is not first
    assert again.wait(bench.lines.append) == 75


def test_an_answer_that_was_lost_makes_no_second_pod(bench):
    bench.cluster.faults.lose_answer = True
    assert bench.run() == 0
    assert len(bench.cluster.created) == 1


def test_stop_lets_the_job_end_by_sigterm_and_the_waiter_is_told(bench):
    handle = bench.start(seconds=60)
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(handle.wait(bench.lines.append)))
    waiter.start()
    wait_for(bench, b"hello 0", handle.name)
    handle.stop()
    waiter.join(15)
    assert codes == [143]
    assert not bench.cluster.pods


def test_a_job_that_ignores_sigterm_is_ended_by_force(bench, monkeypatch):
    monkeypatch.setattr("slimline.adapters.runners.pod.runner.GRACE_SECONDS", 1)
    handle = bench.start(seconds=60, deaf=True)
    wait_for(bench, b"hello 0", handle.name)
    handle.stop()
    assert not bench.cluster.pods


def test_a_log_stream_that_breaks_anywhere_loses_no_line_and_tells_none_twice(bench):
    bench.cluster.faults.cut_logs = [1, 10, 40, 300, 301, 900]
    assert bench.run(times=20, seconds=2.0) == 0
    assert said(bench.lines) == [f"hello {i}" for i in range(20)]
    assert not bench.cluster.faults.cut_logs


def test_an_api_that_is_away_for_a_while_is_waited_for(bench):
    handle = bench.start(seconds=1.0)
    bench.cluster.faults.api_errors = 3
    assert handle.wait(bench.lines.append) == 0


def test_an_api_that_stays_away_is_told_and_the_retry_attaches(bench, monkeypatch):
    monkeypatch.setattr("slimline.adapters.runners.pod.api._FIRST_PAUSE", 0.01)
    handle = bench.start(seconds=3.0)
    bench.cluster.faults.api_errors = 1000
    with pytest.raises(TryLater, match=r"the Kubernetes API is away.*leader changed"):
        handle.wait(bench.lines.append)
    bench.cluster.faults.api_errors = 0
    retry = bench.start(seconds=3.0)
    assert retry.attached
    assert retry.wait(bench.lines.append) == 0


def test_out_of_memory_is_told_with_the_limit_and_the_parameter_that_raises_it(bench):
    bench.cluster.faults.out_of_memory = True
    assert bench.run(ending="kill") == 137
    told = bench.lines[-1]
    assert told.startswith("slimline: out of memory")
    assert "limit of 2Gi" in told
    assert "tasks: {talk: {memory: ...}}" in told


def test_an_evicted_pod_is_tried_later_with_the_clusters_words(bench):
    handle = bench.start(seconds=60)
    wait_for(bench, b"hello 0", handle.name)
    bench.cluster.evict(handle.name, 'Usage of EmptyDir volume "slimline-work" exceeds the limit')
    with pytest.raises(TryLater, match=r"Usage of EmptyDir.*SLIMLINE_POD_WORK_SIZE"):
        handle.wait(bench.lines.append)
    assert not bench.start(seconds=60).attached


def test_a_pod_that_a_node_lost_counts_as_killed_and_runs_again(bench):
    handle = bench.start(seconds=60)
    wait_for(bench, b"hello 0", handle.name)
    bench.cluster.lose(handle.name)
    assert handle.wait(bench.lines.append) == 137
    assert not bench.start(seconds=60).attached


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_told_and_the_pod_removed(bench, reason):
    bench.cluster.faults.image = (reason, "manifest unknown")
    with pytest.raises(TryLater, match=r"manifest unknown: push it \(`make images PUSH="):
        bench.run()
    assert not bench.cluster.pods


def test_a_missing_secret_is_told_by_its_name(bench):
    bench.cluster.secrets.clear()
    with pytest.raises(TryLater, match='secret "slimline-planted" not found: create that Secret'):
        bench.run()


def test_a_pod_that_finds_no_node_says_why_and_gives_up_after_its_time(bench):
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    bench.cluster.faults.unschedulable = words
    bench.runner.settings = replace(bench.runner.settings, start_minutes=0.02)
    with pytest.raises(TryLater, match=r"Insufficient nvidia.com/gpu.*tasks: \{talk: \{cpu:"):
        bench.run()
    assert sum(words in line for line in bench.lines) == 1
    assert not bench.cluster.pods


def test_a_pod_that_waits_for_a_node_starts_when_there_is_one(bench):
    bench.cluster.faults.unschedulable = "0/3 nodes are available"
    handle = bench.start()
    threading.Timer(0.3, lambda: setattr(bench.cluster.faults, "unschedulable", "")).start()
    assert handle.wait(bench.lines.append) == 0


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        ((403, "Forbidden", "exceeded quota: jobs"), TryLater, "raise the quota"),
        ((403, "Forbidden", 'User "x" cannot create pods'), BadParameters, "service account"),
        ((422, "Invalid", "spec: wrong"), BadParameters, "SLIMLINE_POD_TEMPLATE"),
    ],
)
def test_what_the_api_refuses_is_told_with_the_cure(bench, refusal, error, words):
    bench.cluster.faults.refuse = refusal
    with pytest.raises(error, match=words):
        bench.start()


def test_wrong_credentials_are_told(bench):
    bench.cluster.token = "another"
    with pytest.raises(BadParameters, match="Unauthorized"):
        bench.start()


def test_a_pod_of_the_same_name_that_is_not_ours_is_left_alone(bench):
    handle = bench.start(seconds=60)
    pod = bench.cluster.get(handle.name)
    pod.body["metadata"]["annotations"]["dev.slimline.identity"] = "another"
    with pytest.raises(BadParameters, match="is not of this job"):
        bench.start(seconds=60)
    assert bench.cluster.get(handle.name) is pod


def test_an_image_that_only_its_builder_has_is_refused(bench, tmp_path):
    write_lock(tmp_path / "lock.json", pushed=False)
    with pytest.raises(BadParameters, match="make images PUSH=<registry>"):
        bench.start()
    assert not bench.cluster.created


def test_a_job_that_starts_containers_cannot_be_a_pod(bench):
    launch = bench.launch()
    with pytest.raises(BadParameters, match=r"needs a Docker engine.*runner: docker"):
        bench.runner.start(replace(launch, needs=replace(launch.needs, engine=True)))


def test_a_store_that_a_pod_does_not_see_is_refused(bench):
    with pytest.raises(BadParameters, match=r"s3://bucket/prefix, or mount that path"):
        bench.runner.start(replace(bench.launch(), store="file:///elsewhere/store"))


def test_the_sweep_removes_pods_that_ended_long_ago_and_no_other(bench):
    assert bench.run(ending="bug") == 1
    running = bench.start(seconds=60)
    wait_for(bench, b"hello 0", running.name)
    old = bench.name(ending="bug")
    day, api = timedelta(days=1), running.api
    tomorrow = datetime.now(UTC) + 2 * day
    assert sweep_pods(api, older_than=day, dry_run=False) == ()
    (found,) = sweep_pods(api, older_than=day, dry_run=True, now=tomorrow)
    assert (found.what, found.reason[:24]) == (f"pod {old}", "ended with exit code 1, ")
    assert set(bench.cluster.pods) == {old, running.name}
    sweep_pods(api, older_than=day, dry_run=False, now=tomorrow)
    assert set(bench.cluster.pods) == {running.name}


def test_the_settings_are_checked(monkeypatch, bench, tmp_path):
    monkeypatch.setenv("SLIMLINE_POD_START_MINUTES", "soon")
    with pytest.raises(BadParameters, match="SLIMLINE_POD_START_MINUTES is 'soon'"):
        PodRunner()
    monkeypatch.delenv("SLIMLINE_POD_START_MINUTES")
    monkeypatch.setenv("SLIMLINE_POD_TEMPLATE", str(tmp_path / "missing.yaml"))
    with pytest.raises(BadParameters, match="there is no such file"):
        PodRunner().start(bench.launch())
