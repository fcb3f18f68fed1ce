import json
import os
import signal

import pytest
from support.teacher import taught

from slimline.contract import Killed, LocalStore, Model, execute, job, run_inside
from slimline.contract.store import fetch_artifact
from slimline.export.spec import Export
from slimline.models.build import load_torch_model
from slimline.search import run as search_run
from slimline.search.front import dominates
from slimline.search.propose.spec import Propose
from slimline.search.result import TrialResult, upper_of
from slimline.search.settings import SearchSettings
from slimline.search.trial.spec import Trial

from .conftest import search_job


@pytest.fixture
def executed(monkeypatch):
    """The jobs that really run, as (component, identity)."""
    done, work = [], job._work

    def counted(component, store, identity, *rest):
        outcome = work(component, store, identity, *rest)
        done.append((component.component_name(), identity.digest))
        return outcome

    monkeypatch.setattr(job, "_work", counted)
    return done


@pytest.fixture
def trials(done, tmp_path):
    return json.loads((fetched(done, "front", tmp_path) / "trials.json").read_text())


def fetched(outcome, name, root):
    return fetch_artifact(outcome[name], root / name).path


def test_the_front_is_not_dominated_and_what_is_off_it_is(trials):
    told = [(t["on_front"], t["result"]) for t in trials["trials"] if t["result"]["answers"]]
    rows = [(on, TrialResult.model_validate(r).objectives()) for on, r in told]
    assert sum(on for on, _ in rows) >= 2
    for on_front, point in rows:
        assert on_front is not any(dominates(other, point) for _, other in rows)


def test_the_choice_is_the_smallest_that_keeps_the_drop_and_its_bytes_are_those_measured(
    done, trials, tmp_path
):
    chosen = done.manifest.numbers["chosen"]
    assert done.manifest.numbers["passed"]
    assert done.manifest.numbers["reason"].startswith("smallest of ")
    model = fetched(done, "chosen", tmp_path)
    assert (model / "model.onnx").stat().st_size == chosen["bytes"]
    assert done["chosen"].digest == chosen["model_digest"]
    assert chosen["drop_upper"] <= 0.2
    rivals = [t["result"] for t in trials["trials"] if t["result"]["answers"]]
    wanted = search_job().search_settings()
    able = map(TrialResult.model_validate, rivals)
    kept = [r for r in able if upper_of(r.answers, wanted) <= 0.2]
    assert chosen["bytes"] == min(r.measured.bytes for r in kept)


def test_a_recipe_can_go_on_from_the_torch_model_of_the_choice(done, tmp_path):
    module, info = load_torch_model(fetched(done, "chosen_torch", tmp_path))
    parameters = sum(p.numel() for p in module.parameters())
    assert parameters == done.manifest.numbers["chosen"]["parameters"]
    assert info.format == "torch"


def test_the_report_draws_the_front_and_tells_every_network_with_its_end(done, trials, tmp_path):
    page = (fetched(done, "front", tmp_path / "page") / "index.html").read_text()
    assert page.count("<svg") == 2
    assert 'polyline class="front" points="' in page
    assert done.manifest.numbers["reason"] in page
    assert page.count("<tr>") == 1 + len(trials["trials"])


def test_only_what_was_promising_was_trained_for_long(done, trials):
    numbers = done.manifest.numbers
    assert numbers["trials"] == 5
    assert numbers["stopped"] == sum(t["status"] == "stopped" for t in trials["trials"]) >= 1
    stopped = [t["result"]["epochs"] for t in trials["trials"] if t["status"] == "stopped"]
    assert stopped == [[1]] * len(stopped)


def test_a_step_of_a_trial_is_the_job_that_a_dag_would_run(done, shared_store, tmp_path):
    teacher = taught()
    export = Export.parse({"model": teacher.model, "examples": teacher.splits.selection})
    again = execute(export, shared_store, work_dir=tmp_path)
    assert not any(tmp_path.iterdir())
    assert again.manifest.identity.component == "export"
    assert done.manifest.identity.image == again.manifest.identity.image


def test_a_killed_search_goes_on_without_running_a_finished_step_again(
    tmp_path, monkeypatch, executed
):
    store, calls = LocalStore(tmp_path / "store"), []

    def killed(component):
        calls.append(component)
        if len(calls) == 6:  # export, the teacher's trial, three untrained, one that trains
            os.kill(os.getpid(), signal.SIGTERM)
        return run_inside(component)

    monkeypatch.setattr(search_run, "run_inside", killed)
    with pytest.raises(Killed) as caught:
        execute(search_job(population=3, trials=3), store, work_dir=tmp_path / "first")
    assert caught.value.exit_code == 143
    before = list(executed)
    assert {name for name, _ in before} >= {"export", "trial"}
    executed.clear()
    monkeypatch.setattr(search_run, "run_inside", run_inside)
    outcome = execute(search_job(population=3, trials=3), store, work_dir=tmp_path / "second")
    assert outcome.manifest.numbers["trials"] == 3
    assert set(before).isdisjoint(executed)
    assert len(set(executed)) == len(executed)
    jobs = {name.split("/")[1] for name in store.keys("jobs/") if name.endswith("manifest.json")}
    assert jobs == {digest for _, digest in before + executed}


def test_time_that_is_over_ends_a_search_with_what_there_is(done, shared_store, tmp_path):
    short = search_job(minutes=1e-6)
    outcome = execute(short, shared_store, work_dir=tmp_path)
    numbers = outcome.manifest.numbers
    assert numbers["out_of_time"] == numbers["trials"] == 4
    assert not numbers["passed"]
    assert outcome["chosen_torch"].digest == Model.at(taught().model).digest
    assert done.manifest.numbers["out_of_time"] == 0


def test_limits_hold_and_proxies_prune_before_training(shared_store, tmp_path, done, executed):
    size = done.manifest.numbers["chosen"]["bytes"]
    job = search_job(max_bytes=size, max_parameters=3000)
    numbers = execute(job, shared_store, work_dir=tmp_path).manifest.numbers
    assert numbers["pruned"] >= 1
    assert all(n["bytes"] <= size and n["parameters"] <= 3000 for n in numbers["front"])
    assert numbers["chosen"]["bytes"] <= size
    # Limits are no part of a trial: what was measured before is judged anew.
    assert [name for name, _ in executed if name == "distill"] == []


def test_mapped_tasks_go_the_same_way_and_reuse_every_trial(done, shared_store, tmp_path, executed):
    settings = search_job().search_settings().model_dump(mode="json")
    teacher, places = taught(), iter(range(1000))

    def do(component):
        return execute(component, shared_store, work_dir=tmp_path / str(next(places)))

    splits = {"train": teacher.splits.train, "selection": teacher.splits.selection}
    exported = do(Export.parse({"model": teacher.model, "examples": splits["selection"]}))
    given = {"teacher": teacher.model, "baseline": exported["exported"], **splits}
    baseline = do(Trial.parse({**given, "rounds": 11}))["result"]
    results, known = [], set()
    while True:
        job = Propose.parse({**settings, "baseline_result": baseline, "results": results})
        batch = do(job).manifest.numbers["trials"]
        if not batch:
            break
        for parameters in batch:
            trial = Trial.parse({**parameters, **given, "baseline_result": baseline})
            results.append(do(trial)["result"])
            known.add(json.dumps(parameters["chain"]))
    assert len(known) == done.manifest.numbers["trials"]
    assert {name for name, _ in executed} == {"propose"}
    assert set(settings) == set(SearchSettings.model_fields)
