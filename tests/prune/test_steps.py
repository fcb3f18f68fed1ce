"""Several cuts, each healed; killed in between, the next try ends with the same bytes."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.pruning import prune, pruning
from support.splits import write_digits
from support.teacher import taught

import slimline.prune.run as room
from slimline.contract import Killed, LocalStore, execute
from slimline.models.build import load_torch_model
from slimline.models.info import load_model_info
from slimline.prune.steps import share_done, together

SCRIPT = Path(__file__).parents[1] / "support" / "training_job.py"
STEPS = {"steps": 3, "epochs": 2, "round_to": 2, "ratio": 0.5, "learning_rate": 0.003}


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", [0.25, 0.5, 0.75, 1]), ("cubic", [0.578125, 0.875, 0.984375, 1])],
)
def test_cuts_are_spread_in_equal_parts_or_large_ones_first(schedule, shares):
    assert [share_done(step, 4, schedule) for step in (1, 2, 3, 4)] == pytest.approx(shares)


def test_widths_over_several_steps_are_told_from_the_first_to_the_last():
    before, now = {"a": "16 -> 12", "b": "8 -> 6"}, {"a": "12 -> 8", "c": "8 -> 4"}
    assert together(before, now) == {"a": "16 -> 8", "b": "8 -> 6", "c": "8 -> 4"}


@pytest.fixture(scope="module")
def linear():
    return prune(**STEPS, schedule="linear")


def test_each_step_cuts_more_and_the_last_one_reaches_the_ratio(linear):
    numbers = linear.manifest.numbers
    rows = numbers["per_step"]
    assert list(rows) == ["1", "2", "3"]
    parameters = [numbers["parameters_before"], *(row["parameters"] for row in rows.values())]
    assert parameters == sorted(parameters, reverse=True)
    assert len(set(parameters)) == 4
    assert numbers["widths"] == {"conv1": "8 -> 4", "conv2": "16 -> 8", "conv3": "16 -> 8"}
    assert all(row["epochs"] == 2 for row in rows.values())


def test_edits_of_all_steps_rebuild_the_network(linear):
    module, info = load_torch_model(linear["pruned"].path)
    assert module.conv2.out_channels == 8
    assert sum(e.parameter == "conv2.weight" and e.axis == 0 for e in info.edits) == 3
    before = load_model_info(taught().model).history
    assert info.history == (*before, "channels cut by 0.5 (l2, local, x2), in 3 steps, linear")


def test_a_step_too_small_to_cut_anything_is_left_out():
    outcome = prune(**STEPS | {"round_to": 8, "epochs": 0}, schedule="linear")
    assert list(outcome.manifest.numbers["per_step"]) == ["3"]
    assert load_torch_model(outcome["pruned"].path)[0].conv2.out_channels == 8


def test_blocks_and_weights_go_in_steps_too():
    thin = prune(method="magnitude", ratio=0.8, steps=2, epochs=1).manifest.numbers
    shares = [row["sparsity"] for row in thin["per_step"].values()]
    assert shares == pytest.approx([0.7, 0.8], abs=0.01)
    assert thin["sparsity"] == pytest.approx(0.8, abs=0.01)
    flat = prune(method="blocks", ratio=0.99, steps=1, epochs=0, reestimate=False)
    assert flat.manifest.numbers["notes"] == {"conv3": flat.manifest.numbers["notes"]["conv3"]}


def digest(outcome):
    return outcome.manifest.outputs["pruned"].digest


@pytest.mark.parametrize("how", [{"method": "magnitude", "steps": 2, "epochs": 1}, STEPS])
def test_a_job_stopped_after_a_cut_goes_on_with_its_healing(how, tmp_path, monkeypatch):
    whole = prune(**how)
    store, healings = LocalStore(tmp_path / "store"), []
    heal = room.heal

    def stopped(*given, **named):
        healings.append(given)
        if len(healings) == 2:
            raise Killed("told to stop")
        return heal(*given, **named)

    monkeypatch.setattr(room, "heal", stopped)
    with pytest.raises(Killed):
        execute(pruning(**how), store, work_dir=tmp_path / "one")
    cuts = []
    monkeypatch.setattr(room, "_cut", lambda *given, cut=room._cut: cuts.append(1) or cut(*given))
    again = execute(pruning(**how), store, work_dir=tmp_path / "two")
    assert again.manifest.numbers["resumed_from_step"] == 2
    assert len(cuts) == how["steps"] - 2
    assert digest(again) == digest(whole)
    assert again.manifest.numbers["per_step"] == whole.manifest.numbers["per_step"]


def start(root, attempt, values):
    command = [sys.executable, SCRIPT, "prune", root / "store", root / f"work{attempt}", values]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(root, attempt, values):
    process = start(root, attempt, values)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return json.loads(out), log


def test_after_sigkill_the_next_try_goes_on_in_the_middle_of_a_healing(tmp_path):
    few = write_digits(tmp_path / "few", most=600)
    job = {**few.inputs(), "model": taught().model, **STEPS, "steps": 2, "epochs": 5}
    values = json.dumps({**job, "batch_size": 8}, default=str)
    process, log = start(tmp_path, 0, values), ""
    for line in process.stderr:
        log += line
        if "prune: step 2/2" in log and re.search(r"heal: kept what epoch [1-9]", line):
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(timeout=60) == -signal.SIGKILL, log
    process.communicate()
    again, told = finished(tmp_path, 1, values)
    assert "prune: goes on with step 2" in told
    assert re.search(r"heal: resumes at epoch [2-9]", told)
    assert "prune: step 2/2" not in told
    whole, _ = finished(tmp_path / "whole", 2, values)
    assert again["outputs"]["pruned"]["digest"] == whole["outputs"]["pruned"]["digest"]
