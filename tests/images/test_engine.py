"""Which client builds, and the script that starts an engine; with clients that only pretend."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from images.engine import find_engine
from support.engine import ROOT

from slimline.contract import BadParameters, TryLater

SCRIPT = ROOT / "infra" / "engine.sh"
SYSTEMD = Path("/run/systemd/system").is_dir()


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A function that puts a shell script on PATH; a few real commands are there already."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER", raising=False)

    def put(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return str(folder / name)

    return put


def client(version, *, buildx=False, answers=True):
    return (
        f'case "$1" in --version) echo "Docker version {version}, build x";;'
        f" buildx) exit {0 if buildx else 1};;"
        f" *) {'exit 0' if answers else 'echo cannot connect >&2; exit 1'};; esac"
    )


@pytest.mark.parametrize(("version", "buildx"), [("20.10.24", False), ("28.2.2", True)])
def test_a_client_that_can_use_buildkit_is_taken(commands, version, buildx):
    commands("docker", client(version, buildx=buildx))
    assert find_engine().client == "docker"


def test_a_client_that_is_named_is_taken_and_no_other(commands, monkeypatch):
    commands("docker", client("20.10.24"))
    mine = commands("mine", client("28.2.2"))
    monkeypatch.setenv("DOCKER", mine)
    with pytest.raises(BadParameters, match=f"{mine} cannot use BuildKit: install"):
        find_engine()


def test_no_client_is_told_with_the_script_that_helps(monkeypatch):
    monkeypatch.setenv("DOCKER", "/no/such/docker")
    with pytest.raises(BadParameters, match=r"infra/engine\.sh start"):
        find_engine()


def test_an_engine_that_does_not_answer_is_tried_later(commands):
    commands("docker", client("20.10.24", answers=False))
    with pytest.raises(TryLater, match="cannot connect"):
        find_engine()


@pytest.fixture
def machine(commands, tmp_path):
    """A machine with a pretended engine; returns a function that runs the script there."""
    up = tmp_path / "up"
    commands("docker", f'[ -e {up} ] || exit 1; echo "$@" >> {tmp_path}/asked')
    commands("id", "echo 0")

    def run(argument):
        return subprocess.run(
            [str(SCRIPT), argument],
            env={**os.environ, "SLIMLINE_ENGINE_STATE": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run.up, run.state = up, tmp_path / "state"
    return run


def daemon(machine):
    end = f"trap 'rm -f {machine.up}; exit 0' TERM"
    return f"{end}; touch {machine.up}; while :; do sleep 0.05; done"


@pytest.mark.skipif(SYSTEMD, reason="systemd starts the engine here")
def test_the_script_starts_an_engine_and_stops_what_it_started(machine, commands):
    commands("dockerd", daemon(machine))
    assert machine("status").returncode == 1
    assert machine("start").stdout == "engine: started\n"
    assert machine("status").stdout == "engine: answers, started from here\n"
    assert machine("start").stdout == "engine: one answers already\n"
    assert machine("stop").stdout == "engine: stopped\n"
    assert not machine.up.exists()
    assert machine("stop").stdout == "engine: not started from here\n"


def test_the_script_leaves_an_engine_of_others_alone(machine):
    machine.up.touch()
    assert machine("start").stdout == "engine: one answers already\n"
    assert machine("status").stdout == "engine: answers, started by others\n"
    assert machine("stop").stdout == "engine: not started from here\n"
    assert machine.up.exists()


@pytest.mark.skipif(SYSTEMD, reason="systemd starts the engine here")
def test_an_engine_that_dies_at_once_is_told_with_its_last_words(machine, commands):
    commands("dockerd", "echo no space left on device; exit 1")
    started = time.monotonic()
    done = machine("start")
    assert done.returncode == 75
    assert "no space left on device" in done.stderr
    assert time.monotonic() - started < 30


def test_without_rights_the_script_says_so(machine, commands):
    commands("id", "echo 1000")
    commands("dockerd", "exit 1")
    done = machine("start")
    assert done.returncode == 75
    assert "needs root" in done.stderr


def test_an_unknown_word_shows_how_to_use_the_script(machine):
    done = machine("restart")
    assert (done.returncode, "start|stop|status" in done.stderr) == (64, True)
