"""The stable split: where an example goes depends on its own bytes and on nothing else."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.sources import pictures

from slimline.data.dataset import load_examples, save_examples
from slimline.data.sources.raw import Raw, join, whole
from slimline.data.split import SPLITS, Splitting, hashes, place_examples, take

# Few values on purpose: duplicates are common.
ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(2)),
    elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]),
)
HOW = st.builds(
    Splitting,
    test_fraction=st.floats(0.05, 0.9),
    selection_fraction=st.floats(0.05, 0.9),
    salt=st.text(max_size=5),
    limit=st.none() | st.integers(1, 5),
)


def raw_of(x, test=None, y=None):
    y = np.zeros(len(x), np.int64) if y is None else np.asarray(y, np.int64)
    if test is None:
        return join(whole(x, y), None, ("a", "b"), "0" * 64)
    return Raw(x, y, np.arange(len(x)), test, ("a", "b"), "0" * 64)


def by_split(raw, how):
    placement = place_examples(raw, how)
    return {s: {raw.x[i].tobytes() for i in placement.where(s)} for s in SPLITS}


@settings(max_examples=150, deadline=None)
@given(x=ROWS, how=HOW, data=st.data())
def test_no_two_splits_share_an_example_with_and_without_an_official_test(x, how, data):
    official = data.draw(st.none() | hnp.arrays(np.bool_, len(x)))
    splits = by_split(raw_of(x, official), how)
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not splits[one] & splits[other]


@settings(max_examples=100, deadline=None)
@given(x=ROWS, how=HOW, data=st.data())
def test_the_order_of_examples_changes_nothing(x, how, data):
    order = np.array(data.draw(st.permutations(range(len(x)))))
    assert by_split(raw_of(x), how) == by_split(raw_of(x[order]), how)


@settings(max_examples=100, deadline=None)
@given(x=ROWS, more=ROWS, how=HOW)
def test_new_examples_move_none_of_the_old_ones(x, more, how):
    how = Splitting(how.test_fraction, how.selection_fraction, how.salt)
    before = by_split(raw_of(x), how)
    after = by_split(raw_of(np.concatenate([x, more])), how)
    assert all(before[s] <= after[s] for s in SPLITS)


def test_the_split_of_today_is_the_split_of_next_year():
    x = np.arange(12, dtype=np.float32).reshape(12, 1)
    placed = place_examples(raw_of(x), Splitting(0.3, 0.3, salt="salt")).place
    assert hashes(x, "salt")[3] == hashlib.sha256(b"salt\0" + x[3].tobytes()).digest()
    assert " ".join(placed) == (
        "test train train train test train test test test selection selection train"
    )


def test_fractions_come_out_as_asked():
    placement = place_examples(raw_of(pictures(20_000, height=2, width=2)), Splitting(0.2, 0.1))
    assert placement.count("test") / 20_000 == pytest.approx(0.2, abs=0.012)
    assert placement.count("selection") / 20_000 == pytest.approx(0.08, abs=0.008)


def test_another_salt_gives_another_split():
    raw = raw_of(pictures(300))
    one, other = (place_examples(raw, Splitting(0.3, 0.3, salt=s)).place for s in ("a", "b"))
    assert (one != other).mean() > 0.3


def test_an_official_test_part_stays_whole_and_its_copies_leave_training():
    x = pictures(40)
    x[3] = x[35]
    official = np.arange(40) >= 30
    placement = place_examples(raw_of(x, official), Splitting(0.5, 0.2))
    assert np.array_equal(placement.where("test"), np.arange(30, 40))
    assert placement.place[3] == "duplicate"
    assert placement.count("duplicate") == placement.repeated == 1


def test_repetitions_and_contradicting_labels_are_counted():
    x = pictures(6)
    x[1] = x[2] = x[0]
    x[4] = x[3]
    placement = place_examples(raw_of(x, y=[0, 0, 0, 0, 1, 1]), Splitting(0.2, 0.2))
    assert (placement.repeated, placement.contradicting) == (3, 2)


def test_examples_with_a_missing_label_or_value_go_nowhere():
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    x[1, 1] = np.nan
    placement = place_examples(raw_of(x, y=[0, 0, -1, 0]), Splitting(0.2, 0.2))
    assert np.flatnonzero(placement.place == "missing").tolist() == [1, 2]


def test_a_limit_takes_the_same_examples_whatever_their_order():
    x = pictures(200)
    how = Splitting(0.3, 0.3, limit=7)
    placement = place_examples(raw_of(x), how)
    assert [placement.count(s) for s in SPLITS] == [7, 7, 7]
    assert by_split(raw_of(x), how) == by_split(raw_of(x[::-1]), how)


def test_a_taken_split_is_stored_and_read_back(tmp_path):
    raw = raw_of(pictures(50))
    placement = place_examples(raw, Splitting(0.3, 0.3))
    save_examples(take(raw, placement, "selection", "d"), tmp_path)
    back = load_examples(tmp_path, split="selection")
    assert np.array_equal(back.id, placement.where("selection"))
    assert np.array_equal(back.x, raw.x[back.id])
    assert back.info.labels == ("a", "b")
