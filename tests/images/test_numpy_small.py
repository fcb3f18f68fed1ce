"""NumPy for devices: when it is compiled, what is done when it cannot be, and what was made."""

import re
import sysconfig
from base64 import urlsafe_b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
from images import build, numpy_small, plan
from images.table import render
from images.wheels import HOUSE

from slimline.contract import TryLater

VERSION = plan.plan_layers(("device",), "sha256:0")["device"].pins["numpy"]
KEPT = list((HOUSE / "small").glob("*/numpy-*.whl"))


@pytest.fixture
def house(tmp_path, monkeypatch):
    """An empty wheelhouse."""
    monkeypatch.setattr(numpy_small, "HOUSE", tmp_path)
    monkeypatch.setattr(numpy_small, "CONTEXT", tmp_path / "build" / "images")
    return tmp_path


@pytest.fixture
def planned():
    """A build of the device image on an engine that holds these tags; what it told."""

    def make(*tags, code_only=False):
        one = build.Build.__new__(build.Build)
        one.engine = SimpleNamespace(inspect=lambda tag: {"Id": tag} if tag in tags else None)
        one.options, one.base_id = build.Options(code_only=code_only), "sha256:0"
        said = []
        one.tell = said.append
        return one, said

    return make


def layer(*, small=True):
    return plan.plan_layers(("device",), "sha256:0", small=small)["device"]


def refuse(*_):
    raise TryLater("no compiler fits")


def test_only_the_device_s_layer_holds_a_numpy_that_is_compiled():
    layers = plan.plan_layers(plan.NAMES, "sha256:0")
    assert {name for name, one in layers.items() if one.compiled} == {"device"}
    assert layers["device"].parent == layers["runtime"]
    assert "numpy" not in layers["runtime"].all_pins
    assert layers["device"].pins["numpy"] == layers["numpy"].pins["numpy"]


def test_another_recipe_gives_the_device_another_layer(monkeypatch):
    before = plan.plan_layers(("device", "onnx"), "sha256:0")
    monkeypatch.setattr(numpy_small, "RECIPE", "f" * 64)
    after = plan.plan_layers(("device", "onnx"), "sha256:0")
    assert after["device"].tag != before["device"].tag
    assert after["onnx"].tag == before["onnx"].tag


def test_where_it_cannot_be_compiled_the_index_s_wheel_is_taken_and_it_is_said(
    planned, monkeypatch
):
    monkeypatch.setattr(build, "small_numpy", refuse)
    one, said = planned()
    assert one._settle(layer()) == layer(small=False) != layer()
    assert said == [
        "device: larger by OpenBLAS, as NumPy could not be compiled here: no compiler fits"
    ]


def test_a_layer_that_is_there_is_not_compiled_for_again(planned, monkeypatch):
    monkeypatch.setattr(build, "small_numpy", refuse)
    one, said = planned(layer().tag)
    assert (one._settle(layer()), said) == (layer(), [])


def test_new_code_alone_never_waits_for_a_compiler(planned, monkeypatch):
    monkeypatch.setattr(build, "small_numpy", refuse)
    one, said = planned(layer(small=False).tag, code_only=True)
    assert (one._settle(layer()), said) == (layer(small=False), [])


def test_the_table_says_which_image_is_larger_than_it_could_be():
    image = SimpleNamespace(size=185_000_000, reference="sha256:1")
    small = build.Built("device", image, 120_000_000, 1.0)
    assert "device: " not in render([small])
    assert render([replace(small, note="larger")]).endswith("\ndevice: larger\n")


def test_what_was_compiled_once_is_taken_again(house, monkeypatch):
    monkeypatch.setattr(numpy_small, "_compile", lambda *_: make_wheel(house, "made"))
    made = numpy_small.small_numpy(VERSION, print)
    monkeypatch.setattr(numpy_small, "_compile", refuse)
    assert numpy_small.small_numpy(VERSION, print) == made
    with pytest.raises(TryLater, match="no compiler fits"):
        numpy_small.small_numpy("2.0.0", print)
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_a_compiler_that_cannot_be_fetched_is_told_with_pip_s_own_words(house, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house))
    with pytest.raises(TryLater, match=r"(?s)pip install failed:.*ziglang==0\.17\.1"):
        numpy_small.small_numpy(VERSION, print)


def test_a_python_without_headers_is_told_with_its_cure(house, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(house))
    with pytest.raises(TryLater, match="apt-get install python3-dev"):
        numpy_small.small_numpy(VERSION, print)


def test_a_build_says_how_far_it_is_eight_times_and_keeps_its_last_lines():
    said = []
    last = numpy_small._follow(
        [f"  [{n}/331] Compiling x{n}.c\n" for n in range(1, 332)], said.append
    )
    assert (said[0], said[-1], len(said)) == (
        "NumPy: 42 of 331 steps",
        "NumPy: 331 of 331 steps",
        8,
    )
    assert last[-1] == "  [331/331] Compiling x331.c"


def make_wheel(folder, text):
    """A wheel with a configuration as NumPy's, and one more file."""
    wheel = folder / "numpy-9-cp311-cp311-linux_x86_64.whl"
    contents = {"numpy/__config__.py": text, "numpy/version.py": "9"}
    record = "".join(f"{name},{entry(text)}\n" for name, text in contents.items())
    with ZipFile(wheel, "w") as file:
        for name, content in {**contents, "numpy-9.dist-info/RECORD": record}.items():
            file.writestr(name, content)
    return wheel


def entry(text):
    digest = urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(text)}"


def test_a_wheel_names_no_path_of_the_machine_that_made_it_and_its_record_is_right(tmp_path):
    made = make_wheel(tmp_path, f'"path": r"{numpy_small.sys.executable}"')
    with ZipFile(numpy_small._without_paths(made)) as wheel:
        text = wheel.read("numpy/__config__.py").decode()
        record = wheel.read("numpy-9.dist-info/RECORD").decode().splitlines()
    assert text == '"path": r"python"'
    assert record == [f"numpy/__config__.py,{entry(text)}", f"numpy/version.py,{entry('9')}"]


@pytest.mark.skipif(not KEPT, reason="NumPy was not compiled here: make images")
def test_the_wheel_that_was_made_links_no_library_but_the_system_s_own():
    with ZipFile(KEPT[0]) as wheel:
        libraries = [name for name in wheel.namelist() if ".so" in Path(name).name]
        needed = {
            found
            for name in libraries
            for found in re.findall(rb"\0(lib[\w+.-]+\.so\.\d+)(?=\0)", wheel.read(name))
        }
        config = wheel.read("numpy/__config__.py").decode()
    assert needed <= {b"libm.so.6", b"libc.so.6", b"libpthread.so.0", b"libdl.so.2"}
    assert not any("numpy.libs" in name for name in libraries)
    assert str(Path(numpy_small.sys.executable).parent) not in config
