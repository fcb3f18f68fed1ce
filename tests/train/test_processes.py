"""Training by several processes: real ones, that take the steps of one, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.curves import assert_same_curve, curve, kept_curve, two_cores
from support.splits import small_factory, write_digits

from slimline.contract import BadParameters, LocalStore
from slimline.contract.job import identify
from slimline.train.spec import Train

pytestmark = two_cores

UNEVEN = 25
"""Examples in a step: 13 for one process, 12 for the other."""
FAULTY = """
import os
from torch import nn

class Faulty(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        if os.environ.get("RANK") == "1" and self.training:
            raise KeyError("wheel")
        return self.linear(x.flatten(1))

def faulty(classes, channels):
    return Faulty(classes)
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("few"), most=400)


@pytest.fixture(scope="module")
def values(few):
    """A job whose batch norm, augmentation and uneven batches would tell two processes from one."""
    job = {**few.inputs(), "epochs": 6, "batch_size": UNEVEN, "factory": small_factory(8, 16)}
    return job | {"augmentation": "flip_crop", "label_smoothing": 0.1}


@pytest.fixture(scope="module")
def alone(values, tmp_path_factory):
    return curve(Train.parse(values | {"devices": "1"}), tmp_path_factory.mktemp("alone"))


class Job:
    """`slimline run train` as its runner starts it, and the ranks that it started."""

    def __init__(self, values, root):
        self.root, self.ranks = root, []
        options = [f"--{k.replace('_', '-')}={_text(v)}" for k, v in values.items()]
        options += [f"--store={root / 'store'}", f"--work-dir={root / 'work'}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slimline", "run", "train", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, told):
        """Read the log until it tells something; the ranks are there then."""
        log = ""
        for line in self.process.stderr:
            log += line
            if re.search(told, line):
                break
        self.ranks = _children(self.process.pid)
        assert len(self.ranks) == 2, log
        return log

    def end(self):
        """The exit status and the rest of the log."""
        log = self.process.communicate(timeout=120)[1]
        return self.process.returncode, log


def _text(value):
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _children(pid):
    """The processes of a parent, in the order in which they were started."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sorted(int(c) for t in threads for c in (t / "children").read_text().split())


def gone(ranks):
    """Whether no rank runs; a killed one may take a moment to leave."""
    for _ in range(200):
        if not any(_runs(pid) for pid in ranks):
            return True
        time.sleep(0.05)
    return False


def _runs(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


@pytest.fixture(scope="module")
def together(values, tmp_path_factory):
    """The same job by two processes: its curve and its log."""
    root = tmp_path_factory.mktemp("together")
    job = Job(values | {"devices": "2"}, root)
    status, log = job.end()
    assert status == 0, log
    return kept_curve(root / "work" / "checkpoint"), log


def test_two_processes_give_the_curve_of_one(alone, together):
    assert_same_curve(alone, together[0])


def test_progress_of_two_processes_is_told_once(together):
    told = [int(n) for n in re.findall(r"train: epoch (\d+)/", together[1])]
    assert told == [1, 2, 3, 4, 5, 6]


def test_after_sigterm_the_next_try_goes_on_with_another_number_of_processes(
    values, alone, tmp_path
):
    two = Job(values | {"devices": "2"}, tmp_path)
    two.until(r"train: epoch 2/")
    two.process.send_signal(signal.SIGTERM)
    status, log = two.end()
    assert status == 143, log
    assert gone(two.ranks)
    assert re.search(r"kept what epoch \d reached", log)
    one = Train.parse(values | {"devices": "1"})
    store = LocalStore(tmp_path / "store")
    (left,) = (tmp_path / "store" / "jobs").glob("*/checkpoint")
    store.put(f"jobs/{identify(one).digest}/checkpoint", left.read_bytes())
    outcome = one.run(store, work_dir=tmp_path / "one")
    assert 2 <= outcome.manifest.numbers["resumed_from_epoch"] < 6
    assert_same_curve(alone, kept_curve(next((tmp_path / "one").glob("*/checkpoint"))))


def test_a_killed_process_ends_all_and_is_told_as_killed(values, tmp_path):
    job = Job(values | {"devices": "2", "epochs": 2000}, tmp_path)
    job.until(r"train: epoch 1/")
    os.kill(job.ranks[0], signal.SIGKILL)
    status, log = job.end()
    assert status == 137, log
    assert re.search(r"process \d of 2 was killed \(SIGKILL\).*lower batch_size \(25\)", log)
    assert "Traceback" not in log
    assert gone(job.ranks)


def test_no_process_outlives_a_job_that_is_killed(values, tmp_path):
    job = Job(values | {"devices": "2", "epochs": 2000}, tmp_path)
    job.until(r"train: epoch 1/")
    job.process.kill()
    assert gone(job.ranks)
    job.end()


def test_a_bug_in_one_process_is_told_with_its_own_traceback(few, tmp_path, monkeypatch):
    (tmp_path / "broken_network.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "broken_network")
    job = Train.parse({**few.inputs(), "factory": {"call": "broken_network:faulty"}, "devices": 2})
    with pytest.raises(RuntimeError, match=r"(?s)process 2 of 2 failed.*KeyError: 'wheel'"):
        job.run(work_dir=tmp_path / "work")
    assert not list((tmp_path / "work").glob("*/ranks-*"))


def test_more_processes_than_cores_are_refused(few):
    with pytest.raises(BadParameters, match=r"devices is 99, here are \d+ CPU cores: give at most"):
        Train.parse({**few.inputs(), "devices": "99"}).run()


def test_more_processes_than_examples_in_a_step_are_refused(few, monkeypatch):
    monkeypatch.setattr("slimline.models.fit.cpu_quota", lambda: 64)
    with pytest.raises(BadParameters, match=r"devices is 3, a step has 2 examples \(batch_size 2"):
        Train.parse({**few.inputs(), "devices": "3", "batch_size": 2}).run()


@pytest.mark.parametrize("devices", ["0", "-1", "100", "all", "1.5"])
def test_other_devices_are_refused(few, devices):
    with pytest.raises(BadParameters, match="devices"):
        Train.parse({**few.inputs(), "devices": devices})


def test_devices_may_be_written_as_a_number(few):
    job = Train.parse({**few.inputs(), "devices": 2})
    assert identify(job) == identify(Train.parse({**few.inputs(), "devices": "2"}))
    assert identify(job) != identify(Train.parse({**few.inputs(), "devices": 1}))
