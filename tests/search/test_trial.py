import pytest
from support.splits import small_factory, write_digits
from support.teacher import taught

from slimline.contract import BadData, LocalStore, execute
from slimline.contract.store import fetch_artifact
from slimline.export.spec import Export
from slimline.search.result import load_result
from slimline.search.trial.spec import Trial

from .conftest import TINY

EXPORT = {"component": "export"}
QUANTIZE = {"component": "quantize", "parameters": {n: v[0] for n, v in TINY.items()}}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The result of a chain on the teacher of the digits, beside the teacher."""
    root, teacher = tmp_path_factory.mktemp("trials"), taught()
    store, kept = LocalStore(root / "store"), {}

    def do(job):
        return execute(job, store, work_dir=tmp_path_factory.mktemp("work") / "job")

    def get(*chain, **values):
        if not kept:
            splits = {"examples": teacher.splits.selection}
            onnx = do(Export.parse({"model": teacher.model, **splits}))["exported"]
            given = {**teacher.inputs(), "teacher": teacher.model, "baseline": onnx, "rounds": 11}
            kept.update(given, baseline_result=do(Trial.parse(given))["result"])
        outcome = do(Trial.parse({**kept, "chain": chain, **values}))
        target = tmp_path_factory.mktemp("result") / "result"
        target.mkdir()
        return load_result(fetch_artifact(outcome["result"], target).path)

    return get


def distilled(*widths):
    parameters = {"factory": small_factory(*widths), "learning_rate": 0.01}
    return {"component": "distill", "parameters": parameters}


def test_the_teacher_loses_nothing_to_itself(measured):
    result = measured()
    assert (result.answers.lost, result.answers.won) == (0, 0)
    assert result.answers.accuracy == pytest.approx(taught().numbers["accuracy"])


def test_an_untrained_network_has_the_size_of_the_trained_one(measured):
    chain = distilled(4, 8), EXPORT, QUANTIZE
    before, after = measured(*chain), measured(*chain, epochs=(2,))
    assert before.answers is None
    assert before.exact
    assert before.measured.parameters == after.measured.parameters == 438
    assert before.measured.macs == after.measured.macs
    assert before.measured.bytes == pytest.approx(after.measured.bytes, rel=0.02)
    assert after.training_seconds > 0
    assert after.answers.lost > after.answers.won


def test_answers_are_paired_with_those_of_the_teacher(measured):
    before, after = measured().answers, measured(distilled(4, 8), EXPORT, epochs=(2,)).answers
    assert before.accuracy - after.accuracy == pytest.approx(after.drop)
    both = bytes(a & b for a, b in zip(*map(bits, (before, after)), strict=True))
    right = round(before.accuracy * before.examples)
    assert right - after.lost == sum(byte.bit_count() for byte in both)


def bits(answers):
    return bytes.fromhex(answers.right)


def test_what_needs_no_training_is_measured_at_once(measured):
    result = measured(EXPORT, QUANTIZE)
    assert result.answers.accuracy > 0.9
    assert result.measured.bytes < measured().measured.bytes


def test_a_cut_without_healing_shows_the_size_and_counts_as_untrained(measured):
    prune = {"component": "prune", "parameters": {"ratio": 0.5, "round_to": 1}}
    result = measured(prune, EXPORT)
    assert result.answers is None
    assert result.exact
    assert result.measured.parameters < 0.6 * measured().measured.parameters
    # Of a network with fresh weights, what is cut says little about the trained one.
    assert not measured(distilled(8, 16), prune, EXPORT).exact


def test_a_network_that_cannot_be_made_is_a_result_with_the_reason(measured):
    call = {"call": "slimline.models.zoo:cifar_resnet", "arguments": {"depth": 9}}
    chain = {"component": "distill", "parameters": {"factory": call}}, EXPORT
    assert "depth 9 is not 6 n + 2" in measured(*chain).failed
    assert measured(*chain).measured is None


def test_results_of_other_examples_are_refused(measured, tmp_path):
    few = write_digits(tmp_path / "few", most=200)
    result = measured(EXPORT, QUANTIZE, selection=few.selection)
    assert "baseline_result answered 269 examples, selection has 30" in result.failed
    with pytest.raises(BadData, match="holds no result of a trial"):
        load_result(tmp_path)
