from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from slimline.adapters.airflow.retry import ExitCodePolicy, JobFailed
from slimline.contract import BadData, BadParameters, Refused, TryLater


def decide(exception: BaseException, try_number: int = 1):
    return ExitCodePolicy().evaluate(exception, try_number, 3)


@pytest.mark.parametrize("code", [1, 2, 64, 65])
def test_what_stays_wrong_is_not_tried_again(code):
    decision = decide(JobFailed("x", code))
    assert decision.action is RetryAction.FAIL
    assert str(code) in decision.reason


def test_a_service_that_is_away_is_tried_later_and_later():
    delays = [decide(JobFailed("x", 75), n).retry_delay for n in (1, 2, 3, 12)]
    assert delays == sorted(delays)
    assert delays[0] < delays[2] < delays[3] == timedelta(minutes=10)


@pytest.mark.parametrize("code", [137, 143])
def test_a_killed_job_goes_on_soon(code):
    decision = decide(JobFailed("x", code))
    assert decision.action is RetryAction.RETRY
    assert decision.retry_delay <= timedelta(seconds=10)
    assert "checkpoint" in decision.reason


def test_an_error_of_the_operator_itself_counts_by_its_code():
    assert decide(BadParameters("x")).action is RetryAction.FAIL
    assert decide(BadData("x")).action is RetryAction.FAIL
    assert decide(Refused("x")).action is RetryAction.FAIL
    assert decide(TryLater("x")).action is RetryAction.RETRY


def test_another_error_follows_the_tasks_own_settings():
    assert decide(RuntimeError("x")).action is RetryAction.DEFAULT
