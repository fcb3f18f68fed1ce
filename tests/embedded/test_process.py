"""The supervisor: a server is up when start returns, and gone with all its children after stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slimline.contract import BadParameters, TryLater
from slimline.embedded.ports import free_port, free_ports
from slimline.embedded.process import Launch, answers, says, start, stop_all

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
HAS_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", child.pid, flush=True)
time.sleep(600)
"""
HAS_STRAY = HAS_CHILD.replace('time.sleep(600)"]', 'time.sleep(600)"], start_new_session=True')


def launch(code, name="server", patience=20, **environment):
    command = (sys.executable, "-c", code)
    return Launch(name, command, says("ready "), environment, patience_seconds=patience)


def is_gone(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_server_and_its_children_end_with_the_block(tmp_path):
    with start(launch(HAS_CHILD), tmp_path) as server:
        child = int(server.url)
        assert not is_gone_now(child)
    assert is_gone(server.pid)
    assert is_gone(child)
    assert list(tmp_path.glob("*.pid")) == []


def is_gone_now(pid):
    return not Path(f"/proc/{pid}").exists()


def test_a_server_ends_when_the_block_fails(tmp_path):
    with pytest.raises(RuntimeError), start(launch(HAS_CHILD), tmp_path) as server:
        raise RuntimeError
    assert is_gone(server.pid)


def test_a_server_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("slimline.embedded.process._GRACE_SECONDS", 0.3)
    with start(launch(STUBBORN + HAS_CHILD), tmp_path) as server:
        pass
    assert is_gone(server.pid)
    assert is_gone(int(server.url))


def test_a_server_that_ends_early_is_told_with_its_log(tmp_path):
    with pytest.raises(TryLater, match=r"status 3 before it answered:\n(.|\n)*no such table"):
        start(launch("print('no such table'); raise SystemExit(3)"), tmp_path)
    assert list(tmp_path.glob("*.pid")) == []


def test_a_server_that_never_answers_is_stopped_and_told(tmp_path):
    code = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(TryLater, match=r"did not answer within 1 s:\npid \d+") as told:
        start(launch(code, patience=1), tmp_path)
    assert is_gone(int(str(told.value).split()[-1]))


def test_a_second_server_of_the_same_name_is_refused(tmp_path):
    with (
        start(launch(HAS_CHILD), tmp_path),
        pytest.raises(BadParameters, match="runs already"),
    ):
        start(launch(HAS_CHILD), tmp_path)


def test_another_process_stops_all_that_was_left(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from slimline.embedded.process import Launch, says, start\n"
        f"code = {HAS_STRAY!r}\n"
        "for name in ('one', 'two'):\n"
        "    made = start(Launch(name, (sys.executable, '-c', code), says('ready ')),"
        f" Path({str(tmp_path)!r}))\n"
        "    print(made.pid, made.url, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pids = [int(word) for word in left.stdout.split()]
    assert len(pids) == 4
    assert not any(is_gone_now(pid) for pid in pids)
    assert stop_all(tmp_path) == ("one", "two")
    assert all(is_gone(pid) for pid in pids)
    assert stop_all(tmp_path) == ()


def test_a_pid_that_was_given_to_another_process_is_left_alone(tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (tmp_path / "old.pid").write_text(json.dumps({"pid": sleeper.pid, "started": 1}))
        assert stop_all(tmp_path) == ()
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_pid_file_that_cannot_be_read_is_removed(tmp_path):
    (tmp_path / "old.pid").write_text("{")
    assert stop_all(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_secrets_of_a_server_are_in_no_file_and_no_command_line(tmp_path):
    with start(launch(HAS_CHILD, PLANTED="planted-secret"), tmp_path) as server:
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert b"planted-secret" not in command
        assert all(b"planted-secret" not in p.read_bytes() for p in tmp_path.iterdir())
    assert "planted-secret" not in repr(launch(HAS_CHILD, PLANTED="planted-secret"))


def test_free_ports_are_different_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20


def test_a_server_answers_over_http(tmp_path):
    port = free_port()
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    with start(Launch("web", command, answers(url)), tmp_path) as server:
        assert server.url == url
