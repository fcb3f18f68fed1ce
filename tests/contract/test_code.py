"""What the code digest sees: every module that the work is made of, and nothing else."""

from __future__ import annotations

import sys

import pytest

from slimline.contract import BadParameters, load_component
from slimline.contract.code import _closure, source_digest
from slimline.contract.job import identify
from slimline.models.info import Factory

FILES = {
    "__init__.py": "raise RuntimeError('nobody imports this')\n",
    "nets.py": "from . import parts\ndef make():\n    from .deep.blocks import Block\n",
    "parts.py": "import their_tools\nimport slimline.models.losses\n",
    "deep/__init__.py": "from .. import shared\n",
    "deep/blocks.py": "class Block: ...\n",
    "shared.py": "",
    "unused.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose import fails: reading it must be enough."""
    for name, text in FILES.items():
        file = tmp_path / "own_nets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "their_tools.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "own_nets"


def change(file):
    file.write_text(file.read_text() + "# changed\n")


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"unused.py"}))
def test_every_module_that_is_imported_counts_however_late_and_the_packages_around_it(
    package, name
):
    before = source_digest("own_nets.nets")
    change(package / name)
    assert source_digest("own_nets.nets") != before
    assert "own_nets" not in sys.modules


def test_what_is_not_imported_does_not_count_nor_other_packages_unless_asked_for(package):
    before = source_digest("own_nets.nets")
    asked = source_digest("own_nets.nets", ["their_tools"])
    change(package / "unused.py")
    change(package.parent / "their_tools.py")
    assert source_digest("own_nets.nets") == before
    assert source_digest("own_nets.nets", ["their_tools"]) != asked


def test_a_folder_without_an_init_file_is_a_package_too(package):
    (package / "__init__.py").unlink()
    (package / "deep" / "__init__.py").unlink()
    before = source_digest("own_nets.nets")
    change(package / "deep" / "blocks.py")
    assert source_digest("own_nets.nets") != before


def test_a_module_that_is_not_there_or_no_python_is_told(package):
    with pytest.raises(BadParameters, match=r"own_nets\.gone is not on the import path"):
        source_digest("own_nets.gone")
    (package / "parts.py").write_text("def (")
    with pytest.raises(BadParameters, match=r"own_nets\.parts \(.*\) cannot be read as Python"):
        source_digest("own_nets.nets")


@pytest.mark.usefixtures("package")
def test_a_room_of_another_package_counts_what_it_takes_from_this_project():
    found = _closure(("own_nets.parts",), ())
    assert {"own_nets.parts", "own_nets", "slimline.models.losses"} <= found.keys()


def test_a_rooms_shared_packages_count_and_how_jobs_are_started_does_not():
    found = _closure(("slimline.train.spec", "slimline.train.run"), ())
    assert {"slimline.train", "slimline.models.zoo", "slimline.models.loop"} <= found.keys()
    assert not any(name.startswith(("slimline.contract", "slimline.adapters")) for name in found)


@pytest.mark.parametrize("room", ["train", "distill"])
def test_a_changed_factory_of_your_own_is_another_job(room, package, tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "own_nets, their_tools")
    kind = load_component(room)
    given = {name: str(package) for name, port in kind.inputs().items() if port.required}
    inputs = tmp_path / "data"
    inputs.mkdir()
    (inputs / "file").write_text("bytes")
    job = kind.parse(
        {**dict.fromkeys(given, str(inputs)), "factory": {"call": "own_nets.nets:make"}}
    )
    before = identify(job)
    for file in (package / "parts.py", tmp_path / "their_tools.py"):
        change(file)
        after = identify(job)
        assert after.difference(before) == "input factory has other bytes"
        before = after


def test_a_factory_of_the_zoo_is_covered_by_the_rooms_own_code():
    train = load_component("train")
    assert (
        train.model_construct(factory=Factory(call="slimline.models.zoo:small_cnn")).outside() == {}
    )


def test_the_source_of_a_factory_that_is_not_trusted_is_not_even_read():
    train = load_component("train")
    with pytest.raises(BadParameters, match="not trusted here"):
        train.model_construct(factory=Factory(call="os:getcwd")).outside()
