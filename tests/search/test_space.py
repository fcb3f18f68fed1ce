import pytest
from support.splits import small_factory

from slimline.contract import BadParameters
from slimline.contract.job import identify
from slimline.search import space as space_module
from slimline.search.space import Space, chain_in_words, chain_key

from .conftest import search_job


def chain(space, **picked):
    return Space.model_validate(space).chain(picked)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"prune": {"sharpness": [1]}}, r"space\.prune: .*sharpness is no parameter to choose of"),
        ({"prune": {"ratio": [0.5, 1.5]}}, r"space\.prune: .*ratio: .*less than 1 \(given: 1.5\)"),
        ({"quantize": {"scheme": ["int3"]}}, r"space\.quantize: .*scheme: .*\(given: 'int3'\)"),
        ({"train": {"epochs": [1]}}, r"space\.train: Extra inputs are not permitted"),
        ({"distill": {"alpha": [0.5]}}, r"there is no student to distill: give factory"),
        ({"prune": {"ratio": []}}, r"space\.prune\.ratio: .*at least 1"),
        ({"factory": [{"call": "nowhere"}]}, r"space\.factory\.0\.call"),
    ],
)
def test_a_space_that_does_not_fit_the_components_is_refused_with_the_field(space, told):
    with pytest.raises(BadParameters, match=told):
        search_job(space=space)


def test_rounds_that_do_not_grow_are_refused():
    with pytest.raises(BadParameters, match=r"epochs: .*rounds must grow"):
        search_job(epochs=[4, 4])


def test_a_chain_has_its_components_in_order_with_export_before_onnx():
    space = {
        "quantize": {"scheme": ["int8-static"]},
        "prune": {"ratio": [0.5]},
        "factory": [small_factory(8)],
        "distill": {"alpha": [0.5]},
    }
    steps = chain(
        space, **{"factory": 0, "distill.alpha": 0, "prune.ratio": 0, "quantize.scheme": 0}
    )
    assert [s.component for s in steps] == ["distill", "prune", "export", "quantize"]
    assert steps[0].parameters["alpha"] == 0.5
    assert steps[0].parameters["factory"]["arguments"] == {"widths": [8]}


def test_null_and_a_prune_ratio_of_0_leave_a_step_out():
    space = {"prune": {"ratio": [0.5, 0]}, "quantize": {"scheme": [None, "int8-static"]}}
    parsed = Space.model_validate(space)
    assert parsed.dimensions["prune.ratio"] == (0, 0.5)
    left = parsed.chain({"prune.ratio": 0, "quantize.scheme": 0})
    assert [s.component for s in left] == ["export"]
    assert chain_in_words(left) == "the teacher as it is"


def test_a_network_that_learned_levels_is_quantized_by_them():
    steps = chain({"qat": {"seed": [0]}}, **{"qat.seed": 0})
    assert [s.component for s in steps] == ["qat", "export", "quantize"]


def test_what_does_not_matter_to_a_chain_makes_no_other_one():
    space = {"factory": [None, small_factory(8)], "distill": {"alpha": [0.1, 0.9]}}
    one, other = (chain(space, **{"factory": 0, "distill.alpha": i}) for i in (0, 1))
    assert chain_key(one) == chain_key(other)


def test_the_code_of_what_a_search_runs_is_part_of_its_identity(monkeypatch):
    job = search_job()
    before = identify(job)
    names = {name.removeprefix("code of ") for name in before.inputs if name.startswith("code of")}
    assert names == {"trial", "distill", "export", "quantize"}
    digest = space_module.code_digest

    def changed(kind):
        return "0" * 64 if kind.component_name() == "quantize" else digest(kind)

    monkeypatch.setattr(space_module, "code_digest", changed)
    assert identify(job).difference(before) == "input code of quantize has other bytes"
