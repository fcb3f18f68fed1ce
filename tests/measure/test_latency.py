import gc
import json
import math
import os

import numpy as np
import pytest
from support.onnx_files import linear_model, write

from slimline.contract import BadData
from slimline.measure import latency
from slimline.measure.evaluation import (
    EvaluationRecord,
    Interval,
    NonInferiority,
    StageNumbers,
    load_evaluation,
    save_evaluation,
    slower_steps,
    speed_in_words,
)
from slimline.measure.runtime import session


@pytest.fixture
def pair(tmp_path):
    sizes = (4, 400)
    sessions = [
        session(write(linear_model(features=n, classes=n), tmp_path / f"{n}.onnx")) for n in sizes
    ]
    return sessions, [np.ones((1, n), np.float32) for n in sizes]


def test_every_model_is_timed_in_every_round(pair):
    found = latency.measure(*pair, rounds=30)
    assert [len(f.rounds_ms) for f in found] == [30, 30]
    for one in found:
        for interval in (one.median_ms, one.speedup):
            assert 0 < interval.low <= interval.value <= interval.high < math.inf
        assert 0 < one.minimum_ms <= one.median_ms.low


def test_the_first_model_is_exactly_as_fast_as_itself(pair):
    own = latency.measure(*pair, rounds=20)[0].speedup
    assert (own.low, own.value, own.high) == (1, 1, 1)


def test_ratios_are_taken_within_rounds(pair):
    first, second = latency.measure(*pair, rounds=21)
    ratios = [a / b for a, b in zip(first.rounds_ms, second.rounds_ms, strict=True)]
    assert second.speedup.value == sorted(ratios)[10]


def test_time_that_is_over_ends_the_rounds_but_leaves_eleven(pair):
    found = latency.measure(*pair, rounds=10_000, seconds=0)
    assert [len(f.rounds_ms) for f in found] == [11, 11]


def test_most_calls_take_no_longer_than_the_95th_percentile(pair):
    for one in latency.measure(*pair, rounds=40):
        assert one.p95_ms >= one.median_ms.value
        assert 0 < one.cpu_ms < math.inf


def test_one_thread_is_pinned_while_it_is_timed_and_free_afterwards():
    allowed = os.sched_getaffinity(0)
    with latency.pinned(1) as note:
        [chosen] = os.sched_getaffinity(0)
        assert chosen in allowed
        assert note == f"pinned to processor {chosen}"
    assert os.sched_getaffinity(0) == allowed


def test_more_threads_are_not_pinned_and_the_note_says_so():
    allowed = os.sched_getaffinity(0)
    with latency.pinned(2) as note:
        assert os.sched_getaffinity(0) == allowed
    assert note == "threads not pinned"


def test_garbage_collection_is_on_again_afterwards(pair):
    latency.measure(*pair, rounds=11)
    assert gc.isenabled()


def record() -> EvaluationRecord:
    interval = Interval(value=0.5, low=0.4, high=0.6)
    stage = StageNumbers(
        stage="teacher",
        model_digest="a" * 64,
        accuracy=interval,
        per_class={"0": 1.0},
        bytes=10,
        latency_ms=interval,
        memory_mb=1.0,
        speedup=1.0,
        shrink=1.0,
    )
    paired = NonInferiority(
        method="m",
        margin=0.01,
        confidence=0.95,
        drop=0.0,
        upper_bound=0.01,
        only_baseline_right=0,
        only_candidate_right=0,
        examples=10,
    )
    return EvaluationRecord(
        dataset_digest="b" * 64,
        dataset_split="test",
        candidate_digest="a" * 64,
        stages=(stage, stage),
        non_inferiority=paired,
        runtime="r",
    )


def test_an_evaluation_comes_back_as_it_was_written(tmp_path):
    save_evaluation(record(), tmp_path)
    assert load_evaluation(tmp_path) == record()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_an_evaluation_with_a_number_that_is_not_finite_is_refused(tmp_path, number):
    text = json.dumps(record().model_dump(mode="json")).replace("0.01", number)
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(BadData, match="finite number"):
        load_evaluation(tmp_path)


def timed(stage, latency_ms, speedup):
    low, value, high = speedup
    return StageNumbers(
        stage=stage,
        model_digest="c" * 64,
        accuracy=Interval(value=0.9, low=0.8, high=0.95),
        per_class={"a": 0.9},
        bytes=100,
        latency_ms=Interval(value=latency_ms, low=latency_ms * 0.99, high=latency_ms * 1.01),
        memory_mb=1.0,
        speedup=value,
        shrink=2.0,
        speedup_interval=Interval(value=value, low=low, high=high),
    )


@pytest.mark.parametrize(
    ("speedup", "said"),
    [
        ((1.9, 2.0, 2.1), "2.00 times as fast as teacher"),
        ((0.4, 0.5, 0.6), "SLOWER than teacher: 2.00 times its time"),
        ((0.9, 1.05, 1.2), "no faster and no slower than teacher"),
    ],
)
def test_speed_is_told_plainly(speedup, said):
    assert said in speed_in_words(timed("quantized", 1.0, speedup), "teacher")


def test_a_step_that_made_the_model_slower_is_named_though_the_whole_is_faster():
    stages = [
        timed("teacher", 1.0, (1, 1, 1)),
        timed("pruned", 0.5, (2, 2, 2)),
        timed("quantized", 0.6, (1.6, 1.7, 1.8)),
    ]
    [sentence] = slower_steps(stages)
    assert sentence.startswith("quantized is slower than pruned")
    assert slower_steps(stages[:2]) == ()
