import pytest

from slimline.search.course import course
from slimline.search.propose.run import missing
from slimline.search.space import chain_key

from .conftest import settings, simulated

BASELINE = simulated()


def follow(wanted, answer=lambda job: simulated(job.chain, job.epochs)):
    """Go through a search; returns its entries and the batches of trials that it asked for."""
    steps, batches = course(wanted, BASELINE), []
    try:
        batch = next(steps)
        while True:
            batches.append(batch)
            batch = steps.send([answer(job) for job in batch])
    except StopIteration as end:
        return end.value, batches


def proposed(entries):
    return [entry.proposal.key for entry in entries]


@pytest.mark.parametrize("algorithm", ["tpe", "nsga2"])
def test_the_same_seed_proposes_the_same_trials_and_another_seed_others(algorithm):
    one, two, other = (
        follow(settings(algorithm=algorithm, trials=8, seed=seed))[1] for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize("algorithm", ["tpe", "nsga2"])
def test_no_chain_is_tried_twice_and_a_small_space_is_tried_whole(algorithm):
    entries, _ = follow(settings(algorithm=algorithm, trials=50))
    assert len(proposed(entries)) == len(set(proposed(entries))) == 8


def test_limits_prune_before_anything_is_trained():
    entries, batches = follow(settings(max_bytes=2500, trials=8))
    trained = {job.key for batch in batches for job in batch if job.epochs}
    for entry in entries:
        large = entry.result.measured.bytes > 2500
        assert (entry.status == "pruned") is large
        assert (entry.proposal.key in trained) is not large
    assert any(e.reason == "3,000 bytes, the limit is 2,500" for e in entries)


def test_a_latency_that_is_surely_too_long_prunes_too():
    entries, _ = follow(settings(min_speedup=3.5, trials=8))
    pruned = {e.reason for e in entries if e.status == "pruned"}
    assert pruned == {
        "2.00 times as fast, the limit is 3.5",
        "3.00 times as fast, the limit is 3.5",
        "1.50 times as fast, the limit is 3.5",
    }


def test_of_an_inexact_stand_in_nothing_is_sure():
    def answer(job):
        return simulated(job.chain, job.epochs, exact=bool(job.epochs))

    _, batches = follow(settings(max_bytes=2500, trials=4), answer)
    assert len(batches[1]) == 4


def test_each_round_trains_the_promising_share_for_longer():
    _, batches = follow(settings(trials=4))
    assert [len(batch) for batch in batches] == [4, 4, 2, 1]
    assert [batch[0].epochs for batch in batches] == [(), (1,), (1, 2), (1, 2, 4)]


@pytest.mark.parametrize("promote", ["accuracy", "front"])
def test_the_most_accurate_go_on_where_that_is_asked_for(promote):
    _, batches = follow(settings(trials=8, population=8, promote=promote))
    first, then = batches[1], {job.key for job in batches[2]}
    drops = {job.key: simulated(job.chain, job.epochs).answers.drop for job in first}
    stopped = [drop for key, drop in drops.items() if key not in then]
    only_the_best = max(drops[key] for key in then) <= min(stopped)
    assert only_the_best is (promote == "accuracy")


def test_what_a_component_refuses_is_told_and_the_search_goes_on():
    def answer(job):
        result = simulated(job.chain, job.epochs)
        if len(job.chain) < 3:
            return result
        return result.model_copy(update={"failed": "it cannot be quantized", "measured": None})

    entries, _ = follow(settings(trials=8), answer)
    failed = [e for e in entries if e.status == "failed"]
    assert {e.reason for e in failed} == {"it cannot be quantized"}
    assert len(failed) == 4
    assert any(e.status == "finished" for e in entries)


def test_when_time_runs_out_no_further_generation_is_begun():
    asked = []

    def answer(job):
        asked.append(job)
        return simulated(job.chain, job.epochs) if len(asked) <= 6 else None

    entries, _ = follow(settings(trials=8), answer)
    assert len(entries) == 4
    assert sum(e.status == "out of time" for e in entries) == 3
    assert any(e.reason == "no time was left to train it for 1 epochs" for e in entries)


def test_batches_that_are_told_one_by_one_are_those_of_one_process():
    wanted = settings(trials=8)
    _, batches = follow(wanted)
    known, again = {}, []
    while batch := missing(wanted, BASELINE, known):
        again.append(batch)
        known |= {(chain_key(j.chain), j.epochs): simulated(j.chain, j.epochs) for j in batch}
    assert again == batches
