"""The process runner with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import probe

from slimline.adapters.argv import to_argv
from slimline.adapters.runners import Launch
from slimline.adapters.runners import process as process_module
from slimline.adapters.runners.environment import job_environment, secret_values
from slimline.adapters.runners.process import LOST, ProcessRunner
from slimline.contract import Component, LocalStore, TryLater, load_component
from slimline.contract.cache import read_manifest
from slimline.contract.job import environment_digest, identify

if TYPE_CHECKING:
    from slimline.adapters.runners.process import ProcessHandle

SECRET = "planted-7f3a9c-do-not-show"


@dataclass
class Bench:
    """A runner, a store, and a short way to launch the talking room."""

    runner: ProcessRunner
    store: LocalStore
    lines: list[str] = field(default_factory=list)

    def launch(
        self, claim: str = "dag/run/task", *, secrets: bool = False, **values: Any
    ) -> Launch:
        kind = load_component("talk")
        job = kind.parse(values)
        image = self.runner.image_digest(kind.image)
        identity = identify(job, image).digest
        work = self.runner.directory(identity).work
        options = ["--store", self.store.uri, "--work-dir", str(work), "--image-digest", image]
        given = {"SLIMLINE_SECRET_PLANTED": SECRET, "SLIMLINE_SECRET_OTHER": "other-value"}
        environment = job_environment(kind, given if secrets else {})
        arguments = (*to_argv(job), *options)
        name = kind.component_name()
        return Launch(identity, name, kind.image, arguments, environment, claim=claim)

    def start(self, **values: Any) -> ProcessHandle:
        return self.runner.start(self.launch(**values))

    def run(self, **values: Any) -> int:
        return self.start(**values).wait(self.lines.append)

    def wait_for(self, words: str, handle: ProcessHandle) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if handle.directory.log.exists() and words in handle.directory.log.read_text():
                return
            time.sleep(0.05)
        pytest.fail(f"{words!r} was not said")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    probe.install(monkeypatch)
    return Bench(ProcessRunner(tmp_path / "work", grace=1.5), LocalStore(tmp_path / "store"))


@pytest.mark.parametrize(
    ("ending", "code"),
    [("good", 0), ("bug", 1), ("parameters", 64), ("data", 65), ("later", 75), ("kill", 137)],
)
def test_the_exit_code_of_the_job_is_the_result(bench: Bench, ending: str, code: int) -> None:
    assert bench.run(ending=ending) == code


def test_every_line_of_the_log_is_handed_on_and_the_manifest_tells_the_rest(bench: Bench) -> None:
    launch = bench.launch(words="tick", times=4)
    handle = bench.runner.start(launch)
    assert not handle.attached
    assert handle.wait(bench.lines.append) == 0
    said = [line for line in bench.lines if "tick" in line and '"message"' in line]
    assert len(said) == 4
    manifest = read_manifest(bench.store, launch.identity)
    assert manifest is not None
    assert manifest.numbers["said"] == 4
    handle.discard()
    assert not handle.directory.path.exists()


def test_a_second_task_with_the_same_identity_attaches_to_the_running_job(bench: Bench) -> None:
    first = bench.start(seconds=2.0)
    second = bench.start(seconds=2.0, claim="another")
    assert (first.attached, second.attached) == (False, True)
    assert first.directory.process == second.directory.process
    heard: list[str] = []
    assert second.wait(heard.append) == 0
    assert first.wait(bench.lines.append) == 0
    assert heard == bench.lines
    first.discard()
    assert second.wait(heard.append) == 0


def test_after_kill_9_of_its_worker_the_job_goes_on_and_the_retry_takes_its_result(
    bench: Bench,
) -> None:
    launch = bench.launch(seconds=4.0, times=8)
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(bench.runner.work), repr(launch.arguments)],
        env={**os.environ, "IDENTITY": launch.identity},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline().strip() == "started"
    directory = bench.runner.directory(launch.identity)
    process = directory.process
    worker.kill()
    worker.wait()
    assert directory.alive

    retry = bench.runner.start(launch)
    assert retry.attached
    assert retry.directory.process == process
    assert retry.wait(bench.lines.append) == 0
    assert sum("hello " in line for line in bench.lines) == 8
    manifest = read_manifest(bench.store, launch.identity)
    assert manifest is not None
    assert manifest.identity.parameters["times"] == 8


_WORKER = textwrap.dedent(
    """
    import ast, os, sys
    from pathlib import Path
    from slimline.adapters.runners import Launch
    from slimline.adapters.runners.process import ProcessRunner
    arguments = ast.literal_eval(sys.argv[2])
    identity, claim = os.environ["IDENTITY"], "dag/run/task"
    launch = Launch(identity, "double", "base", arguments, dict(os.environ), claim=claim)
    handle = ProcessRunner(Path(sys.argv[1])).start(launch)
    print("started", flush=True)
    handle.wait(lambda line: None)
    """
)


def test_a_result_that_nobody_fetched_is_given_to_the_same_claim_only(bench: Bench) -> None:
    first = bench.start(words="once")
    first.wait(bench.lines.append)
    assert bench.start(words="once").attached
    other = bench.start(words="once", claim="the next run")
    assert not other.attached
    assert other.wait(bench.lines.append) == 0


def test_a_failed_job_is_started_again(bench: Bench) -> None:
    assert bench.run(ending="later") == 75
    again = bench.start(ending="later")
    assert not again.attached
    assert again.wait(bench.lines.append) == 75


def test_stop_lets_the_job_end_by_sigterm(bench: Bench) -> None:
    handle = bench.start(seconds=60)
    bench.wait_for("hello 0", handle)
    handle.stop()
    assert handle.wait(bench.lines.append) == 143
    assert not handle.directory.alive


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(bench: Bench) -> None:
    handle = bench.start(seconds=60, deaf=True)
    bench.wait_for("hello 0", handle)
    handle.stop()
    assert handle.wait(bench.lines.append) == 137


def test_the_grace_ends_even_when_the_worker_is_gone(bench: Bench) -> None:
    handle = bench.start(seconds=60, deaf=True)
    bench.wait_for("hello 0", handle)
    process = handle.directory.process
    assert process is not None
    process.signal_group(signal.SIGTERM)
    assert handle.wait(bench.lines.append) == 137


def test_a_job_whose_shell_is_killed_counts_as_killed_and_runs_again(bench: Bench) -> None:
    handle = bench.start(seconds=60)
    process = handle.directory.process
    assert process is not None
    process.signal_group(signal.SIGKILL)
    assert handle.wait(bench.lines.append) == LOST
    again = bench.start(seconds=60)
    assert not again.attached
    again.stop()


def test_a_process_that_took_over_the_number_is_not_mistaken_for_the_job(bench: Bench) -> None:
    handle = bench.start(seconds=60)
    handle.stop()
    own = Path("/proc/self/stat").read_text()
    fields = own.rpartition(")")[2].split()
    fields[19] = str(int(fields[19]) - 1)
    handle.directory.path.joinpath("exit").unlink(missing_ok=True)
    stale = own.rpartition(")")[0] + ") " + " ".join(fields)
    handle.directory.path.joinpath("process").write_text(stale)
    assert not handle.directory.alive


def test_a_declared_secret_reaches_the_job_and_no_other_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    launch = bench.launch(expects_secret=True, seconds=3, secrets=True)
    handle = bench.runner.start(launch)
    bench.wait_for("hello 0", handle)
    process = handle.directory.process
    assert process is not None
    session = [p for p in Path("/proc").glob("[0-9]*") if _session(p) == process.pid]
    argv = [(p / "cmdline").read_bytes() for p in session]
    assert any(b"slimline" in line for line in argv)
    assert not any(SECRET.encode() in line for line in argv)
    assert handle.wait(bench.lines.append) == 0
    assert SECRET not in "\n".join(bench.lines)
    kept = [*bench.runner.work.rglob("*"), *bench.store.root.rglob("*")]
    assert not any(SECRET in p.read_text("latin-1") for p in kept if p.is_file())
    assert SECRET not in repr(launch)
    assert secret_values(launch.environment) == (SECRET,)
    manifest = read_manifest(bench.store, launch.identity)
    assert manifest is not None
    assert manifest.numbers["visible"] == ["SLIMLINE_SECRET_PLANTED"]


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return 0


class _Quiet(Component):
    """Declares no secret."""


def test_a_log_is_handed_on_in_pieces_and_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(process_module, "_PIECE", 8)
    log = tmp_path / "log"
    log.write_text("one\ntwo is long\n\nthr")
    lines = process_module._Lines(log)
    read = lambda whole: "\n".join(x for y in iter(lambda: lines.new(whole=whole), []) for x in y)  # noqa: E731
    assert read(whole=True).replace("\n", "") == "onetwo is long"
    with log.open("a") as file:
        file.write("ee")
    assert read(whole=False) == "three"


def test_the_environment_of_a_job_is_small() -> None:
    base = {
        "PATH": "/bin",
        "HOME": "/h",
        "EDITOR": "vi",
        "AIRFLOW__CORE__FERNET_KEY": "k",
        "SLIMLINE_TRUSTED_KEYS": "/keys",
        "SLIMLINE_SECRET_SIGNING": "s",
        "AWS_SECRET_ACCESS_KEY": "a",
        "MLFLOW_TRACKING_URI": "http://m",
    }
    made = job_environment(_Quiet, {"AWS_ENDPOINT_URL_S3": "http://s3"}, base=base)
    assert made.keys() & {"EDITOR", "AIRFLOW__CORE__FERNET_KEY", "SLIMLINE_SECRET_SIGNING"} == set()
    assert made["SLIMLINE_TRUSTED_KEYS"] == "/keys"
    assert made["AWS_ENDPOINT_URL_S3"] == "http://s3"
    assert made["AWS_SECRET_ACCESS_KEY"] == "a"
    assert made["MLFLOW_TRACKING_URI"] == "http://m"
    assert made["OMP_NUM_THREADS"] == "1"
    assert made["OMP_WAIT_POLICY"] == "PASSIVE"
    given = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "let-me-in"}
    assert given.items() <= job_environment(_Quiet, given, base=base).items()
    assert secret_values(given) == ("let-me-in",)


def test_a_work_directory_that_cannot_be_written_is_told_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    runner = ProcessRunner(tmp_path / "file" / "work")
    with pytest.raises(TryLater, match="SLIMLINE_WORK"):
        runner.start(Launch("0" * 64, "double", "base", (), {}))


def test_an_image_may_have_a_python_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.install(monkeypatch)
    environment_digest.cache_clear()
    runner = ProcessRunner(tmp_path)
    here = runner.image_digest("base")
    twin = tmp_path / "python"
    twin.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    twin.chmod(0o755)
    monkeypatch.setenv("SLIMLINE_PYTHON_BASE", str(twin))
    assert runner.image_digest("base") == here
    monkeypatch.setenv("SLIMLINE_PYTHON_BASE", str(tmp_path / "missing"))
    with pytest.raises(TryLater, match="missing"):
        runner.image_digest("base")
