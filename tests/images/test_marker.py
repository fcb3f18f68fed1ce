"""What becomes of tests marked `docker` on a machine without an engine; and hadolint."""

import os
import subprocess
import sys
from pathlib import Path

from support.engine import ROOT

HADOLINT = Path(sys.executable).with_name("hadolint")


def run_without_engine(**environment):
    command = [sys.executable, "-m", "pytest", "tests/images/test_serving.py"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": "unix:///no/such.sock", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_an_engine_docker_tests_are_left_out_and_the_summary_says_so():
    done = run_without_engine(SLIMLINE_REQUIRE_DOCKER="")
    assert done.returncode == 0, done.stdout
    assert "left out: 3 tests need a Docker engine" in done.stdout
    assert "infra/engine.sh start, make images" in done.stdout


def test_where_an_engine_is_required_a_missing_one_is_a_failure():
    done = run_without_engine(SLIMLINE_REQUIRE_DOCKER="1")
    assert done.returncode == 1
    assert "3 failed" in done.stdout or "3 errors" in done.stdout
    assert "left out" not in done.stdout


def lint(*files):
    config = ROOT / "images" / ".hadolint.yaml"
    command = [str(HADOLINT), "--config", str(config), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_dockerfile_is_clean():
    done = lint(*(ROOT / "images").glob("*/Dockerfile"))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_does_refuse(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp && apt-get install curl\n")
    assert lint(bad).returncode == 1
