"""How a job ends when its ranks do not; the ranks are processes that do not train."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from support import rank_double

from slimline.contract import BadData, Killed, LocalStore
from slimline.contract.job import Checkpoint
from slimline.data.preprocess import Preprocessing
from slimline.models import launch as launching
from slimline.models.info import Factory, ModelInfo
from slimline.models.settings import FitSettings
from slimline.models.task import Guide, Task
from slimline.models.task_file import read_task, write_task
from slimline.models.tensors import Batchable

TESTS = Path(__file__).parents[1]


@pytest.fixture
def task():
    info = ModelInfo(
        name="parts",
        stage="student",
        format="torch",
        labels=("good", "bad"),
        preprocessing=Preprocessing(shape=(4, 6, 3), dtype="uint8", steps=()),
        factory=Factory(call="slimline.models.zoo:small_cnn", arguments={"widths": [4]}),
    )
    train, selection = (Batchable(torch.rand(n, 3, 4, 6), torch.arange(n) % 2) for n in (5, 3))
    weights = {"a.weight": torch.rand(3, 2), "count": torch.tensor(7)}
    masks = {"a.weight": torch.eye(3)[:, :2]}
    guide = Guide(Path("teacher"), 2.5, 0.25)
    return Task("heal", info, weights, train, selection, FitSettings(), guide, "^a", masks)


@pytest.fixture
def saved(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    return Checkpoint(tmp_path / "checkpoint", LocalStore(tmp_path / "store"), "job")


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setattr(launching, "rank", rank_double)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    return lambda what: monkeypatch.setenv("RANK_DOUBLE", what)


def pids(saved):
    return [
        int(file.read_text()) for file in sorted(saved.path.glob("pid*")) if file.stat().st_size
    ]


def when_started(saved, act):
    """Act from a thread as soon as both ranks run."""

    def wait():
        while len(pids(saved)) < 2:
            time.sleep(0.02)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_a_task_comes_back_from_its_files_as_it_was(task, tmp_path):
    write_task(tmp_path, task)
    again = read_task(tmp_path)
    for name in ("what", "info", "settings", "guide", "frozen"):
        assert getattr(again, name) == getattr(task, name)
    for mine, other in ((task.train, again.train), (task.selection, again.selection)):
        assert torch.equal(mine.x, other.x)
        assert torch.equal(mine.y, other.y)
    for mine, other in ((task.weights, again.weights), (task.masks, again.masks)):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[k], other[k]) for k in mine)
    assert again.train.x.is_contiguous(memory_format=torch.channels_last)


def test_what_one_process_refuses_the_job_refuses_in_its_words(task, saved, double):
    double("refuse")
    with pytest.raises(BadData, match=r"^label 7 is unknown: add it$"):
        launching.launch(task, saved, 2)
    assert not list(saved.path.parent.glob("ranks-*"))


def test_sigterm_to_one_process_stops_the_job(task, saved, double):
    double("wait")
    when_started(saved, lambda: os.kill(pids(saved)[1], signal.SIGTERM))
    with pytest.raises(Killed, match="told to stop"):
        launching.launch(task, saved, 2)


def test_ctrl_c_stops_every_process_and_is_a_keyboard_interrupt(task, saved, double):
    double("wait")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    when_started(saved, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        launching.launch(task, saved, 2)
    assert not [pid for pid in pids(saved) if Path(f"/proc/{pid}").exists()]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
