"""Ten agents in one process: enrolled, updated, stopped by SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

from support.fleet import make_fleet

from slimline.fleet.reports import enrolled


def test_ten_devices_in_one_process_are_updated_and_stop_cleanly(tmp_path):
    fleet = make_fleet(tmp_path)
    home = tmp_path / "ten"
    command = [
        *(sys.executable, "-m", "slimline.device.fleet", "--devices", "10", "--enrol"),
        *("--home", home, "--repository", fleet.uri, "--group", "gate", "--interval", "0.2"),
        *("--root", fleet.root, "--trusted", fleet.trusted),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready 10 devices\n"
            assert len(enrolled(fleet.objects, "gate")) == 10
            version = fleet.tell(fleet.package(1)).version
            assert _until(lambda: _versions(home) == [version] * 10)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    keys = {(home / f"device-{n:02d}" / "key.pem").read_text() for n in range(1, 11)}
    assert len(keys) == 10


def _versions(home):
    status = home / "status.json"
    devices = json.loads(status.read_text())["devices"].values() if status.is_file() else ()
    return [device["version"] for device in devices]


def _until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
