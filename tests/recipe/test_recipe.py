from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from slimline.contract import BadParameters, load_component
from slimline.recipe.load import load_recipe
from slimline.recipe.plan import Source, plan
from slimline.recipe.release import release_plan
from slimline.recipe.schema import json_schema

RECIPES = sorted((Path(__file__).parents[2] / "dags" / "recipes").glob("*.yaml"))

GOOD = """\
name: tiny
owner: me
data:
  source: {kind: sklearn, name: digits}
model:
  factory: {call: "slimline.models.zoo:small_cnn", arguments: {classes: 10, channels: 1}}
train: {epochs: 1}
passes:
  - prune: {ratio: 0.25}
  - quantize: {scheme: int8-static}
targets:
  - {kind: endpoint, name: tiny, budget: {max_bytes: 1000, max_latency_ms: 4}}
  - {kind: fleet, group: lab, budget: {max_bytes: 500}}
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        file = tmp_path / "tiny.yaml"
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_a_recipe_of_ours_loads_and_fits_the_json_schema(file):
    load_recipe(file)
    jsonschema.validate(yaml.safe_load(file.read_text()), json_schema())


def test_steps_follow_one_another_and_every_input_is_made_before(recipe):
    made = set()
    for step in plan(load_recipe(recipe(GOOD))):
        wanted = {source.step for sources in step.inputs.values() for source in sources}
        assert wanted <= made, step
        made.add(step.name)
    assert made == {
        "check_data", "teacher", "export_teacher", "pruned", "export_pruned", "quantized",
        "validate", "gate", "package", "push", "register",
    }  # fmt: skip


def test_the_test_split_reaches_validate_and_package_alone(recipe):
    steps = plan(load_recipe(recipe(GOOD)))
    test = Source("check_data", "test")
    given = {s.name for s in steps if any(test in sources for sources in s.inputs.values())}
    assert given == {"validate", "package"}


def test_the_baseline_is_the_teacher_and_the_candidate_the_last_stage(recipe):
    steps = {s.name: s for s in plan(load_recipe(recipe(GOOD)))}
    inputs = steps["validate"].inputs
    assert [inputs[n][0].step for n in ("baseline", "stages", "candidate")] == [
        "export_teacher",
        "export_pruned",
        "quantized",
    ]


def test_the_gate_holds_the_candidate_to_the_tightest_budget_of_all_targets(recipe):
    steps = {s.name: s for s in plan(load_recipe(recipe(GOOD)))}
    assert steps["gate"].parameters["max_bytes"] == 500
    assert steps["gate"].parameters["max_latency_ms"] == 4


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("epochs: 1", "epochs: 0", 7, "train.epochs: .*greater than"),
        ("epochs: 1", "epoch: 1", 7, "train.epoch: Extra inputs"),
        ("ratio: 0.25", "ratio: much", 9, "passes.0.prune.ratio: .*valid number"),
        ("int8-static", "int3", 10, "quantize.scheme: .*given: 'int3'"),
        ("owner: me\n", "", 1, "owner: Field required"),
        ("- prune:", "- shrink:", 9, "no pass 'shrink'"),
        ("max_bytes: 1000", "max_bytes: -1", 12, "max_bytes: .*greater than 0"),
        ("kind: fleet", "kind: fleets", 13, "fleets"),
        ("kind: sklearn", "kind: sql", 4, "sql"),
        ("owner: me", "owner: me\nowner: you", 3, "owner is given twice"),
        ("owner: me", "owner: [me", 3, "not valid YAML"),
        ("name: tiny", "name: Tiny!", 1, "name: .*pattern"),
    ],
)
def test_a_mistake_is_told_with_file_line_field_and_cure(recipe, old, new, line, words):
    assert old in GOOD
    file = recipe(GOOD.replace(old, new))
    with pytest.raises(BadParameters, match=words) as caught:
        load_recipe(file)
    assert f"tiny.yaml:{line}:" in str(caught.value)


def test_a_pass_on_torch_after_one_on_onnx_is_refused(recipe):
    swapped = GOOD.replace(
        "  - prune: {ratio: 0.25}\n  - quantize: {scheme: int8-static}",
        "  - quantize: {scheme: int8-static}\n  - prune: {ratio: 0.25}",
    )
    with pytest.raises(BadParameters, match="put it before the passes on ONNX"):
        load_recipe(recipe(swapped))


def test_a_model_of_ones_own_in_onnx_can_be_a_teacher_and_then_be_pruned(recipe):
    factory = next(line for line in GOOD.splitlines() if "factory:" in line)
    own = GOOD.replace(factory, "  onnx: own.onnx").replace("train: {epochs: 1}\n", "")
    steps = {
        s.name: s
        for s in plan(load_recipe(recipe(own.replace("  - prune", "  - distill: {}\n  - prune"))))
    }
    assert steps["student"].inputs["teacher"] == (Source("adopt", "model"),)
    assert steps["pruned"].inputs["model"] == (Source("student", "student"),)


def test_a_search_gives_its_choice_to_both_kinds_of_passes(recipe):
    space = "{factory: [{call: 'slimline.models.zoo:small_cnn'}], quantize: {scheme: [int8]}}"
    text = GOOD.replace("  - prune", f"  - search: {{space: {space}, minutes: 5}}\n  - prune")
    steps = {s.name: s for s in plan(load_recipe(recipe(text)))}
    assert steps["search"].inputs["teacher"] == (Source("teacher", "model"),)
    assert steps["pruned"].inputs["model"] == (Source("search", "chosen_torch"),)
    assert steps["validate"].inputs["stages"][0] == Source("search", "chosen")
    alone = text.replace("  - prune: {ratio: 0.25}\n", "").replace(
        "  - quantize: {scheme: int8-static}\n", ""
    )
    steps = {s.name: s for s in plan(load_recipe(recipe(alone)))}
    assert steps["validate"].inputs["candidate"] == (Source("search", "chosen"),)


BRANCHED = """\
  - {distill: {}, name: wide}
  - {distill: {}, name: deep, inputs: {teacher: [teacher]}}
  - {prune: {ratio: 0.25}, inputs: {model: [wide]}}
"""


def test_a_pass_takes_its_models_from_the_steps_that_it_names(recipe):
    text = GOOD.replace("  - prune: {ratio: 0.25}\n", BRANCHED)
    steps = {s.name: s for s in plan(load_recipe(recipe(text)))}
    assert steps["deep"].inputs["teacher"] == (Source("teacher", "model"),)
    assert steps["pruned"].inputs["model"] == (Source("wide", "student"),)
    for wrong, words in (
        ("{teacher: [nobody]}", r"inputs.teacher: give the name of teacher, export_teacher, wide"),
        ("{teacher: [teacher, wide]}", "inputs.teacher: give the name of"),
        ("{train: [teacher]}", "inputs.train: distill takes models as teacher"),
    ):
        with pytest.raises(BadParameters, match=words) as caught:
            load_recipe(recipe(text.replace("{teacher: [teacher]}", wrong)))
        assert "tiny.yaml:10:" in str(caught.value)


def test_two_equal_passes_need_names(recipe):
    twice = "  - prune: {ratio: 0.25}\n"
    with pytest.raises(BadParameters, match="two steps are called pruned"):
        load_recipe(recipe(GOOD.replace(twice, twice * 2)))
    named = twice + "  - {prune: {ratio: 0.5}, name: thinner}\n"
    steps = plan(load_recipe(recipe(GOOD.replace(twice, named))))
    assert "export_thinner" in {s.name for s in steps}


def test_yaml_that_grows_without_end_is_refused(recipe):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip("bcdef", "abcde", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(BadParameters, match="more than 20000 values"):
        load_recipe(recipe(bomb))
    with pytest.raises(BadParameters, match="nested too deep"):
        load_recipe(recipe("a: &a [*a]\n"))


def test_a_scalar_that_yaml_cannot_make_is_told_by_its_line(recipe):
    with pytest.raises(BadParameters, match=r"tiny\.yaml:2: '2026-13-45'"):
        load_recipe(recipe(GOOD.replace("owner: me", "owner: 2026-13-45")))


def test_a_second_endpoint_is_refused_and_not_passed_over(recipe):
    more = GOOD + "  - {kind: endpoint, name: other}\n"
    with pytest.raises(BadParameters, match="one endpoint and one fleet at most"):
        load_recipe(recipe(more))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BadParameters, match="No such file"):
        load_recipe(tmp_path / "none.yaml")


def test_a_release_goes_to_the_endpoint_then_to_the_fleet_and_is_watched(recipe):
    steps = {s.name: s.parameters for s in release_plan(load_recipe(recipe(GOOD)))}
    assert list(steps) == ["deploy", "ota", "watch"]
    assert steps["deploy"] == {"target": "local", "endpoint": "tiny"}
    assert steps["ota"]["group"] == steps["watch"]["group"] == "lab"


def test_a_fleets_budget_is_what_its_devices_are_held_to(recipe):
    slow = GOOD.replace("budget: {max_bytes: 500}", "budget: {max_latency_ms: 9}")
    ota = {s.name: s.parameters for s in release_plan(load_recipe(recipe(slow)))}["ota"]
    assert ota["max_latency_ms"] == 9


def test_a_mistake_in_a_targets_settings_is_told_by_its_line(recipe):
    file = recipe(GOOD.replace("group: lab,", "group: lab, settings: {canaries: -1},"))
    with pytest.raises(BadParameters, match=r"settings\.canaries: .*greater than or equal to 0"):
        load_recipe(file)
    with pytest.raises(BadParameters, match=r"tiny\.yaml:14: watch\.seconds"):
        load_recipe(recipe(GOOD + "watch: {seconds: -1}\n"))


def test_a_task_has_the_limits_of_its_component_but_for_those_the_recipe_gives(recipe):
    tasks = "tasks:\n  quantized: {runner: docker, memory: 3Gi}\n  deploy: {cpu: 2}\n"
    limited = load_recipe(recipe(GOOD + tasks))
    steps = {step.name: step for step in (*plan(limited), *release_plan(limited))}
    needs = load_component("quantize").needs
    assert steps["quantized"].settings.limits(needs) == replace(needs, memory="3Gi")
    assert steps["quantized"].settings.runner == "docker"
    assert steps["deploy"].settings.limits(needs).cpu == 2
    assert steps["teacher"].settings.limits(needs) == needs


def test_settings_of_a_step_that_is_not_there_are_told_by_their_line(recipe):
    file = recipe(GOOD + "tasks:\n  quantised: {memory: 3Gi}\n")
    line = GOOD.count("\n") + 2
    with pytest.raises(BadParameters, match=rf"tiny.yaml:{line}: tasks.quantised: .*quantized"):
        load_recipe(file)
