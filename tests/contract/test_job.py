import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.double.spec import Double

from slimline.contract import BadData, BadParameters, Dataset, LocalStore, execute
from slimline.contract.artifact import Artifact
from slimline.contract.cache import commit, decide, last_answer, read_manifest
from slimline.contract.job import Checkpoint, identify
from slimline.contract.store import fetch_artifact, save_artifact


@pytest.fixture
def number(tmp_path):
    root = tmp_path / "number"
    root.mkdir()
    (root / "number.txt").write_text("21")
    return Dataset.at(root)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def do(job, store, tmp_path, **options):
    work = tmp_path / f"work-{time.monotonic_ns()}"
    return execute(job, store, work_dir=work, lineage="demo/double", **options)


def test_a_job_fills_its_output_and_writes_its_manifest_last(number, store, tmp_path):
    outcome = do(Double(number=number), store, tmp_path)
    assert (outcome["doubled"].path / "number.txt").read_text() == "42.0"
    assert outcome.manifest.numbers["value"] == 42.0
    assert read_manifest(store, outcome.manifest.job) == outcome.manifest


def test_the_second_equal_job_is_reused_and_says_which_job_made_it(number, store, tmp_path):
    first = do(Double(number=number), store, tmp_path)
    second = do(Double(number=number), store, tmp_path)
    assert second.manifest == first.manifest
    assert last_answer(store, "demo/double").reason.startswith("reused: job ")


def test_a_changed_parameter_runs_again_and_is_named(number, store, tmp_path):
    do(Double(number=number), store, tmp_path)
    outcome = do(Double(number=number, times=3), store, tmp_path)
    assert outcome.manifest.reason == "ran: parameter times changed from 2 to 3"


def test_changed_input_bytes_run_again_and_are_named(number, store, tmp_path):
    do(Double(number=number), store, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "number.txt").write_text("5")
    outcome = do(Double(number=Dataset.at(other)), store, tmp_path)
    assert outcome.manifest.reason == "ran: input number has other bytes"


def test_another_image_runs_again(number, store, tmp_path):
    do(Double(number=number), store, tmp_path, image="1" * 64)
    outcome = do(Double(number=number), store, tmp_path, image="2" * 64)
    assert outcome.manifest.reason == "ran: the image digest changed"


def test_a_damaged_output_is_no_hit_and_the_next_manifest_counts(number, store, tmp_path):
    first = do(Double(number=number), store, tmp_path)
    digest = first.manifest.outputs["doubled"].digest
    (store.root / "artifacts" / digest / "number.txt").write_text("1")
    decision = decide(store, first.manifest.identity)
    assert not decision.hit
    assert "has other bytes in number.txt" in decision.reason


def test_a_lost_manifest_means_that_nothing_happened(number, store, tmp_path):
    first = do(Double(number=number), store, tmp_path)
    store.delete(f"jobs/{first.manifest.job}/manifest.json")
    assert not decide(store, first.manifest.identity).hit


def test_a_number_that_is_not_finite_leaves_no_manifest(number, store, tmp_path):
    with pytest.raises(BadData, match="not finite"):
        do(Double(number=number, way="nan"), store, tmp_path)
    assert not any("manifest" in key for key in store.keys("jobs/"))


def test_of_two_equal_jobs_at_once_one_manifest_counts_for_both(number, store, tmp_path):
    made = do(Double(number=number), store, tmp_path).manifest
    store.delete(f"jobs/{made.job}/manifest.json")
    rivals = [made.model_copy(update={"seconds": float(i)}) for i in range(8)]
    barrier, kept = threading.Barrier(8), []

    def race(manifest):
        barrier.wait()
        kept.append(commit(store, manifest))

    threads = [threading.Thread(target=race, args=(m,)) for m in rivals]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert {m.seconds for m in kept} == {read_manifest(store, made.job).seconds}


def test_identity_holds_no_place(number, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "number.txt").write_text("21")
    assert identify(Double(number=number)) == identify(Double(number=Dataset.at(moved)))


def test_code_of_the_room_is_part_of_the_identity(number):
    identity = identify(Double(number=number))
    assert identity.difference(identity.model_copy(update={"code": "0" * 64})) == (
        "the component's code changed"
    )


def test_bad_parameters_name_field_value_and_bound(number):
    with pytest.raises(BadParameters, match=r"times: .*less than or equal to 10 \(given: 11\)"):
        Double.parse({"number": number, "times": 11})


def test_an_input_that_was_changed_in_the_store_is_refused(number, store, tmp_path):
    made = do(Double(number=number), store, tmp_path)["doubled"]
    (store.root / "artifacts" / made.digest / "number.txt").write_text("666")
    job = Double(number=Dataset(uri=made.uri, digest=made.digest))
    with pytest.raises(BadData, match="bytes are damaged"):
        do(job, store, tmp_path)


def cli(*arguments, **environment):
    return [sys.executable, "-m", "slimline", "run", "support.double.spec:Double", *arguments], {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **environment,
    }


@pytest.mark.parametrize(
    ("way", "code", "words"),
    [("bug", 1, "a bug"), ("bad-data", 65, "give another"), ("later", 75, "away")],
)
def test_exit_codes_are_those_of_sysexits(number, store, way, code, words):
    argv, environment = cli("--number", number.uri, "--store", store.uri, "--way", way)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert words in done.stderr


def test_bad_parameters_on_the_command_line_exit_with_64(number, store):
    for extra in (["--times", "0"], ["--nope"], ["--weights", "[1"], ["--times", "many"]):
        argv, environment = cli("--number", number.uri, "--store", store.uri, *extra)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 64, extra
        assert extra[0].strip("-") in done.stderr


def test_sigterm_exits_143_and_the_next_try_goes_on_from_the_checkpoint(number, store):
    argv, environment = cli("--number", number.uri, "--store", store.uri, "--seconds", "3")
    first = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(store.keys("jobs/")):
        time.sleep(0.05)
    time.sleep(0.7)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)
    assert first.returncode == 143
    second = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert '"began_at": 0' not in second.stdout
    assert not any("checkpoint" in key for key in store.keys("jobs/"))


def test_a_forced_job_says_so_and_a_work_directory_with_files_is_refused(number, store, tmp_path):
    execute(Double(number=number), store, work_dir=tmp_path / "w1")
    again = execute(Double(number=number), store, work_dir=tmp_path / "w2", force=True)
    assert again["doubled"].digest
    assert decide(store, identify(Double(number=number)), force=True).reason.startswith(
        "ran: it was asked for"
    )
    with pytest.raises(BadParameters, match=r"w1 is not empty: give a new one"):
        execute(Double(number=number), store, work_dir=tmp_path / "w1", force=True)


def test_a_checkpoint_that_was_damaged_is_left_behind(store, tmp_path):
    place = tmp_path / "checkpoint"
    place.mkdir()
    (place / "at").write_text("5")
    saved = Checkpoint(place, store, "f" * 64)
    saved.save()
    digest = Artifact.at(place).digest
    (store.root / "artifacts" / digest / "at").write_text("9")
    assert saved.restore() is False
    assert list(place.iterdir()) == []


def test_an_output_equal_to_a_checkpoint_outlives_it(store, tmp_path):
    place, output = tmp_path / "checkpoint", tmp_path / "output"
    for directory in (place, output):
        directory.mkdir()
        (directory / "at").write_text("5")
    saved = Checkpoint(place, store, "f" * 64)
    saved.save()
    kept = save_artifact(store, Artifact.at(output))
    saved.discard()
    assert (fetch_artifact(kept, tmp_path / "fetched").path / "at").read_text() == "5"
