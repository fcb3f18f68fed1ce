from __future__ import annotations

import pytest
from support.packages import tiny_evaluation, tiny_verdict

from slimline.contract import Refused
from slimline.trust.dsse import sign_statement, statement
from slimline.trust.verdict import PREDICATE_TYPE, read_verdict, require_passed, sign_verdict

DIGEST = "a" * 64
YES = tiny_verdict(tiny_evaluation(DIGEST))
NO = tiny_verdict(tiny_evaluation(DIGEST), passed=False)


def _sign(private, subjects, kind=PREDICATE_TYPE, record=YES):
    return sign_statement(statement(subjects, kind, record.model_dump(mode="json")), private)


def test_a_verdict_is_read_whether_it_says_yes_or_no(keys, trusted):
    assert read_verdict(sign_verdict(YES, DIGEST, keys[0]), DIGEST, trusted) == YES
    assert read_verdict(sign_verdict(NO, DIGEST, keys[0]), DIGEST, trusted) == NO


def test_a_verdict_that_says_no_lets_nothing_pass(keys, trusted):
    with pytest.raises(Refused, match=r"verdict says no: accuracy 0.96 is below 0.99"):
        require_passed(sign_verdict(NO, DIGEST, keys[0]), DIGEST, trusted)


def test_a_verdict_that_passed_with_reasons_against_it_lets_nothing_pass(keys, trusted):
    torn = YES.model_copy(update={"reasons": ("it is too slow",)})
    with pytest.raises(Refused, match="verdict says no: it is too slow"):
        require_passed(sign_verdict(torn, DIGEST, keys[0]), DIGEST, trusted)


def test_a_signed_statement_of_another_kind_is_no_verdict(keys, trusted):
    other = _sign(keys[0], {"model": DIGEST}, "https://slsa.dev/provenance/v1")
    with pytest.raises(Refused, match="verdict is malformed: it is a statement of type"):
        require_passed(other, DIGEST, trusted)


def test_a_verdict_about_several_things_is_refused(keys, trusted):
    both = _sign(keys[0], {"model": DIGEST, "other": "b" * 64})
    with pytest.raises(Refused, match="for other bytes"):
        require_passed(both, DIGEST, trusted)
