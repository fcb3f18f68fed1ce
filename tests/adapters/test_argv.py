import errno
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter
from support.double.spec import Double

from slimline.adapters.argv import (
    command_for,
    option_text,
    parameter_schemas,
    to_argv,
    values_of,
)
from slimline.contract import (
    BadParameters,
    Dataset,
    LocalStore,
    TryLater,
    component_names,
    load_component,
)
from slimline.contract.job import identify

NUMBER = Dataset(uri="s3://bucket/artifacts/" + "a" * 64, digest="a" * 64)


@pytest.fixture
def number(tmp_path):
    root = tmp_path / "number"
    root.mkdir()
    (root / "number.txt").write_text("21")
    return str(root)


def run(*arguments):
    return CliRunner().invoke(command_for(Double), arguments, catch_exceptions=False)


def test_the_command_runs_the_component_and_prints_its_manifest(number, tmp_path):
    done = run("--number", number, "--store", str(tmp_path / "s"), "--times", "3")
    assert json.loads(done.stdout)["numbers"]["value"] == 63.0


def test_several_inputs_are_given_by_repeating_the_option(number, tmp_path):
    more = ["--extra", number, "--extra", number]
    done = run("--number", number, *more, "--store", str(tmp_path / "s"))
    assert json.loads(done.stdout)["numbers"]["value"] == 126.0


def test_an_output_option_copies_the_output_to_a_directory(number, tmp_path):
    target = tmp_path / "here" / "doubled"
    run("--number", number, "--store", str(tmp_path / "s"), "--doubled", str(target))
    assert (target / "number.txt").read_text() == "42.0"


def test_an_output_is_not_copied_over_files_that_are_there(number, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(BadParameters, match=r"--doubled: .* is not empty"):
        run("--number", number, "--store", str(tmp_path / "s"), "--doubled", str(tmp_path / "full"))
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine"]
    assert not (tmp_path / "s").exists(), "the work was done before it was told"


def test_an_output_is_copied_whole_or_not_at_all(number, tmp_path, monkeypatch):
    def fill_the_disk(_source, target):
        Path(target).write_text("4")
        raise OSError(errno.ENOSPC, "No space left on device")

    store = LocalStore(tmp_path / "s")
    run("--number", number, "--store", str(store.root))
    monkeypatch.setattr("shutil.copyfile", fill_the_disk)
    with pytest.raises(TryLater, match="No space left on device; free some space"):
        run("--number", number, "--store", str(store.root), "--doubled", str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_an_output_cannot_be_copied_where_nothing_is_written(number, tmp_path):
    with pytest.raises(TryLater, match=r"cannot write /proc/none/copy: .*another directory"):
        run("--number", number, "--store", str(tmp_path / "s"), "--doubled", "/proc/none/copy")


@settings(deadline=None)  # the machine may be busy
@given(
    times=st.integers(1, 10),
    seconds=st.floats(0, 60),
    note=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    weights=st.lists(st.floats(-1e6, 1e6), max_size=4),
)
def test_argv_of_a_job_makes_the_same_job_again(times, seconds, note, weights):
    job = Double(number=NUMBER, times=times, seconds=seconds, note=note, weights=tuple(weights))
    context = command_for(Double).make_context("double", [*to_argv(job)[1:], "--store", "s"])
    assert Double.parse(values_of(Double, context.params)) == job


class Nullable(Double):
    """Parameters whose null is not their default."""

    labels: tuple[str, ...] | None = Field(("a",), description="Names.")
    rates: tuple[float, ...] | None = Field(default_factory=lambda: (1.0,), description="Rates.")
    size: int | None = Field(description="Required, and may be null.")
    either: int | str = Field("1", description="A number or a word.")


@pytest.mark.parametrize(
    "values",
    [
        {"labels": None, "rates": None, "size": None, "either": "1"},
        {"labels": (), "rates": (), "size": 3, "either": 1},
        {"labels": ("[", "null"), "rates": (1, 2), "size": None, "either": "null"},
    ],
)
def test_null_is_told_from_empty_and_a_number_from_a_word(values):
    job = Nullable(number=NUMBER, **values)
    context = command_for(Nullable).make_context("double", [*to_argv(job)[1:], "--store", "s"])
    again = Nullable.parse(values_of(Nullable, context.params))
    assert identify(again).digest == identify(job).digest


def test_help_teaches_defaults_bounds_and_choices():
    text = run("--help").output
    for words in (
        "Double the number that an artifact holds.",
        "(at least 1, at most 10) [default: 2]",
        "good|nan|bug|bad-data|later",
        "[required]",
        "SLIMLINE_STORE",
    ):
        assert words in " ".join(text.split())


@pytest.mark.parametrize("name", component_names())
def test_defaults_and_choices_of_every_component_survive_the_command_line(name):
    kind = load_component(name)
    schemas, fields = parameter_schemas(kind), kind.parameters_model().model_fields
    nothing = dict.fromkeys([*schemas, *kind.inputs()])
    for field, schema in schemas.items():
        adapter = TypeAdapter(fields[field].annotation)
        for value in schema.get("enum", [schema.get("default")]):
            texts = option_text(field, value, schema)[1:]
            if value is None or not texts:
                continue
            given = texts if schema.get("type") == "array" else texts[0]
            (read,) = values_of(kind, {**nothing, field: given}).values()
            assert adapter.validate_python(read) == adapter.validate_python(value), field
