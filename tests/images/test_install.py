"""The script that runs in a build container, run here."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from images import install
from images.wheels import HOUSE

LIBRARY = Path(next(iter(Path(yaml.__file__).parent.glob("_yaml*.so"))))


def test_a_library_without_its_symbols_is_smaller_and_loads_as_before(tmp_path):
    shutil.copytree(LIBRARY.parent, tmp_path / "yaml")
    library = tmp_path / "yaml" / LIBRARY.name
    before = library.stat().st_size
    saved = install.cut_symbols(library)
    assert library.stat().st_size == before - saved < before
    code = "import yaml; print(yaml.__file__, yaml.load('[1, a]', yaml.CSafeLoader))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{tmp_path}/yaml/__init__.py [1, 'a']"


def test_cutting_twice_changes_nothing_more(tmp_path):
    library = Path(shutil.copy(LIBRARY, tmp_path))
    install.cut_symbols(library)
    once = library.read_bytes()
    assert install.cut_symbols(library) == 0
    assert library.read_bytes() == once


def test_all_that_a_loader_reads_stays_byte_for_byte(tmp_path):
    library = Path(shutil.copy(LIBRARY, tmp_path))
    before = library.read_bytes()
    install.cut_symbols(library)
    after = library.read_bytes()
    assert after[64:] == before[64 : len(after)]
    assert struct.unpack_from("<Q", after, 40) == (0,)


@pytest.mark.parametrize("content", [b"", b"/* GNU ld script */", b"\x7fELF\x01\x01" + bytes(80)])
def test_what_is_no_64_bit_library_is_left_alone(tmp_path, content):
    file = tmp_path / "libx.so"
    file.write_bytes(content)
    assert install.cut_symbols(file) == 0
    assert file.read_bytes() == content


def test_rules_drop_what_they_name_and_keep_what_they_except(tmp_path):
    for name in ("a/tests/x.py", "a/run.py", "data/s3/x", "data/ec2/x", "data/top.json"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("12345")
    saved = install.drop(tmp_path, "# tests\n**/tests  # all\n\ndata/*/\n!data/s3\n")
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["a/run.py", "data/s3/x", "data/top.json"]
    assert saved >= 10


def test_every_rule_for_an_installed_package_still_finds_something():
    packages = Path(yaml.__file__).parents[1]
    rules = [
        line.split("#")[0].strip()
        for line in (Path(install.__file__).parent / "drop.txt").read_text().splitlines()
    ]
    unused = [
        rule
        for rule in rules
        if rule
        and (packages / rule.lstrip("!").split("/")[0]).is_dir()
        and not any(packages.glob(rule.lstrip("!")))
    ]
    assert unused == []


@pytest.mark.skipif(not list(HOUSE.glob("click-*.whl")), reason="no wheels fetched: make images")
def test_equal_wheels_make_equal_layers(tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "tools").mkdir()
    shutil.copy(next(HOUSE.glob("click-*.whl")), tmp_path / "wheels")
    shutil.copy(next(HOUSE.glob("pip-*.whl")), tmp_path / "tools")
    shutil.copy(Path(install.__file__).parent / "drop.txt", tmp_path / "tools")
    made = []
    for name in ("one", "two"):
        layer = tmp_path / name / "layer"
        install.main(tmp_path / "wheels", tmp_path / "tools", layer)
        files = sorted(p for p in layer.rglob("*") if p.is_file())
        made.append({str(p.relative_to(layer)): (p.read_bytes(), p.stat().st_mtime) for p in files})
    assert made[0] == made[1]
    assert any(name.endswith("click/__pycache__/core.cpython-311.pyc") for name in made[0])
    assert json.dumps(sorted(made[0])).count(".dist-info/METADATA") == 1
