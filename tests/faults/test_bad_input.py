"""Whatever is wrong with what it is given, the command line says what, where and the cure.

Each case is one command. It ends with the exit code that a runner reads (64 bad parameters, 65 bad
data, 75 try later) and without a traceback; no secret is shown, and there is no manifest, no
artifact, no copied output and no half-written file. Most start the real program; where a fault has
many faces, the others call its `main` in this process.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.commands import PLANTED, PUBLIC, SIGNING, Command, Place
from support.onnx_files import graph_model, linear_model, outside_model
from support.packages import tiny_evaluation, tiny_model, tiny_package
from support.sources import encoded, idx_bytes, pictures, write_blobs, write_parquet
from support.splits import write_split

from slimline.contract import Package
from slimline.embedded.ports import free_port
from slimline.trust.package import load_manifest

USAGE, DATA, LATER = 64, 65, 75
DIGITS = '{"kind": "sklearn"}'
CASES = {}


def case(build):
    """A function that builds a command in a fresh place; its name says what is wrong."""
    CASES[build.__name__.replace("_", " ")] = build
    return build


@pytest.fixture
def place(tmp_path, request):
    return Place(tmp_path, request)


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_is_wrong_and_leaves_nothing(name, place):
    command = CASES[name](place)
    code, said = place.run(command)
    assert code == command.code, said
    assert re.search(command.words, said, re.DOTALL), said
    assert "Traceback" not in said
    assert not [word for word in place.secrets() if word in said]
    assert place.left(command) == []


# What is asked for.


@case
def a_bad_recipe(place):
    recipe = place.root / "bad.yaml"
    recipe.write_text(
        "name: tiny\nowner: me\ndata:\n  source: {kind: sklearn}\n"
        'model:\n  factory: {call: "slimline.models.zoo:small_cnn"}\n'
        "train:\n  epochs: many\n"
    )
    words = r"bad\.yaml:8: train\.epochs: .*valid integer.*\(given: 'many'\)"
    return Command(("recipe", "check", recipe), USAGE, words)


@case
def an_unknown_component(_):
    return Command(("run", "nonsense"), USAGE, "component 'nonsense' .*there are: .*quantize")


@case
def an_unknown_parameter(_):
    argv = ("run", "check_data", "--source", DIGITS, "--salz", "1")
    return Command(argv, USAGE, r"No such option '--salz'\. .*--salt")


@case
def a_parameter_out_of_bounds(_):
    argv = ("run", "check_data", "--source", DIGITS, "--test-fraction", "1.5")
    return Command(argv, USAGE, r"check_data: test_fraction: .*less than 1 \(given: '1\.5'\)")


@case
def devices_that_are_no_number(place):
    argv = ("run", "train", "--train", split(place, "train"), "--devices", "two")
    words = r"train: devices: .*pattern.*\(given: 'two'\)"
    return Command((*argv, "--selection", split(place, "selection")), USAGE, words, inside=True)


@case
def more_processes_than_this_machine_has_cores(place):
    argv = ("run", "train", "--train", split(place, "train"), "--devices", 99)
    words = r"devices is 99, here are \d+ (CPU cores|GPUs): give at most that, or auto"
    return Command((*argv, "--selection", split(place, "selection")), USAGE, words, inside=True)


@case
def an_output_directory_that_is_in_use(place):
    (place.root / "mine").mkdir()
    (place.root / "mine" / "letter.txt").write_text("dear")
    argv = ("run", "check_data", "--source", DIGITS, "--test", place.root / "mine")
    return Command(argv, USAGE, r"--test: .*mine is not empty; give a new directory")


# Data.


def check(source, *more, code=DATA, words, **changes):
    return Command(
        ("run", "check_data", "--source", json.dumps(source), *more), code, words, **changes
    )


@case
def a_missing_data_path(_):
    words = r"source\.path: '/nowhere/d\.csv': no file there; give an existing absolute path"
    return check({"kind": "csv", "path": "/nowhere/d.csv"}, words=words)


@case
def nan_in_a_csv(place):
    file = place.root / "d.csv"
    lines = write_blobs(file)
    lines[7] = "nan,0.1,0.2,a"
    file.write_text("\n".join(lines) + "\n")
    words = r"missing: expected .*observed 1 of 400.*fill in or remove those rows"
    return check({"kind": "csv", "path": str(file)}, words=words)


@case
def nan_in_an_npz(place):
    x = np.random.default_rng(0).random((120, 3), np.float32)
    x[5, 1] = np.nan
    np.savez(place.root / "d.npz", x=x, y=np.arange(120) % 2)
    words = r"missing: expected .*observed 1 of 120.*fill in or remove those rows"
    return check({"kind": "npz", "path": str(place.root / "d.npz")}, words=words, inside=True)


@case
def labels_outside_the_set(_):
    expected = json.dumps({"labels": list("012345678")})
    words = r"label_set: .*observed 180 of 1797 otherwise: 9.*expectations\.labels"
    return check({"kind": "sklearn"}, "--expectations", expected, words=words, inside=True)


@case
def an_empty_test_split(place):
    for part, count in (("train", 80), ("t10k", 0)):
        x, y = pictures(80, channels=1)[:count, ..., 0], np.arange(count, dtype=np.uint8) % 2
        (place.root / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (place.root / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(y))
    words = r"test_examples: expected at least 10.*the test split is empty; give more data"
    return check({"kind": "idx", "path": str(place.root)}, words=words, inside=True)


@case
def a_corrupt_image(place):
    images = [encoded(p) for p in pictures(6)]
    images[4] = images[4][:60]
    write_parquet(place.root / "p", images, [0, 1] * 3)
    source = {"kind": "parquet", "path": str(place.root), "train": ["p"]}
    return check(source, words=r"train row 4 is no sound image")


def split(place, name, count=40, **changes):
    """A split of 8 x 8 images as an artifact."""
    x = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)
    y = changes.pop("y", np.arange(count) % 10)
    write_split(place.root / name, name, x, np.asarray(y, np.int64), **changes)
    return place.root / name


@case
def the_test_split_given_to_train(place):
    argv = ("run", "train", "--train", split(place, "test"))
    words = r"dataset digits: this is its test split, train is needed here"
    return Command((*argv, "--selection", split(place, "selection")), DATA, words)


@case
def an_artifact_of_a_class_without_a_label(place):
    data = split(place, "train", y=np.arange(40) % 11)
    argv = ("run", "quantize", "--model", model(place), "--calibration", data)
    words = r"classes 0 to 10 are in its train split, but it names 10 labels: check the data"
    return Command(argv, DATA, words, inside=True)


@case
def an_artifact_that_is_no_dataset(place):
    argv = ("run", "quantize", "--model", model(place), "--calibration", model(place, "other"))
    return Command(argv, DATA, r"give an artifact that check_data wrote", inside=True)


# ONNX files that are damaged, made for something else, or hostile.


def model(place, name="model", data=None):
    """A model artifact; `data` replaces its network."""
    tiny_model(place.root / name)
    if data is not None:
        (place.root / name / "model.onnx").write_bytes(data)
    return place.root / name


def _bomb():
    """Asks for four terabytes when it runs."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["one"], keepdims=0),
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Add", ["product", "one"], ["logits"]),
    ]
    constants = {"size": np.array([2**20, 2**20]), "w": np.zeros((64, 10), np.float32)}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    shapes = {"input_shape": ("batch", 1, 8, 8), "output_shape": ("batch", 10)}
    return graph_model(nodes, tensors, **shapes).SerializeToString()


def _nan(place):
    network = onnx.load(model(place, "whole") / "model.onnx")
    tensor = network.graph.initializer[0]
    poisoned = np.full(tensor.dims, np.nan, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(poisoned, tensor.name))
    return network.SerializeToString()


WRONG_ONNX = {
    "noise": (lambda _: b"\x08" * 1000, "no (valid )?ONNX (file|model)"),
    "nothing": (lambda _: b"", "no (valid )?ONNX (file|model)"),
    "cut off": (
        lambda place: (model(place, "whole") / "model.onnx").read_bytes()[:-500],
        "no (valid )?ONNX (file|model)",
    ),
    "weights in /etc/passwd": (
        lambda _: outside_model("../../../../etc/passwd").SerializeToString(),
        "etc/passwd",
    ),
    "four terabytes": (lambda _: _bomb(), "does not take .*or export it again"),
    "another input": (
        lambda _: linear_model().SerializeToString(),
        "does not take .*give a model and data that belong together",
    ),
    "nan in its weights": (_nan, "hold NaN or infinity: .*train or export it again"),
}
READERS = {
    "adopt": lambda p, bad: ("--path", bad / "model.onnx", "--train", split(p, "train")),
    "quantize": lambda p, bad: ("--model", bad, "--calibration", split(p, "train")),
    "validate": lambda p, bad: (
        *("--candidate", bad, "--baseline", model(p, "good")),
        *("--test", split(p, "test")),
    ),
}


def _wrong_onnx(reader, fault):
    data, words = WRONG_ONNX[fault]

    def build(place):
        arguments = READERS[reader](place, model(place, "bad", data(place)))
        inside = fault != "weights in /etc/passwd"
        return Command(("run", reader, *arguments), DATA, words, inside=inside)

    return build


CASES |= {f"{r} is given {f}": _wrong_onnx(r, f) for r in READERS for f in WRONG_ONNX}


# No room on the disk.


@pytest.fixture
def small_disk(tmp_path):
    """A directory with room for 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount") or "mount"
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k", "none", str(disk)],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    # Lazily: a process that is just ending may still hold it.
    subprocess.run([shutil.which("umount") or "umount", "--lazy", str(disk)], check=True)


@case
def no_room_for_the_work(place):
    disk = place.request.getfixturevalue("small_disk")
    data = split(place, "train", 2000)
    argv = ("run", "quantize", "--model", model(place), "--calibration", data)
    words = r"the disk is full .*free some space, or give another --work-dir or TMPDIR"
    return Command(argv, LATER, words, {"TMPDIR": str(disk)})


@case
def no_room_for_weights(place):
    """safetensors raises no OSError."""
    disk = place.request.getfixturevalue("small_disk")
    factory = {"call": "slimline.models.zoo:small_cnn", "arguments": {"widths": [64, 64]}}
    argv = (
        *("run", "train", "--epochs", 1, "--devices", 1, "--factory", json.dumps(factory)),
        *("--train", split(place, "train", 10), "--selection", split(place, "selection", 10)),
    )
    words = r"the disk is full .*No space left.*free some space"
    return Command(argv, LATER, words, {"TMPDIR": str(disk)}, inside=True)


@case
def no_room_in_the_store(place):
    disk = place.request.getfixturevalue("small_disk")
    tiny_model(place.root / "large", payload=(100_000, 256))
    file = place.root / "large" / "model.onnx"
    argv = ("run", "adopt", "--path", file, "--train", split(place, "train"))
    words = r"cannot write .*No space left on device; free some space"
    return Command(argv, LATER, words, store=str(disk / "store"))


# Services and secrets.


def nobody():
    """The address of a server that is down."""
    return f"http://127.0.0.1:{free_port()}"


def _s3_down(**changes):
    environ = {"AWS_ENDPOINT_URL_S3": nobody()}
    return {"code": LATER, "environ": environ, **changes}


@case
def s3_is_down_where_results_go(_):
    words = r"s3://bucket/x/.* S3 does not answer .*try later, or set AWS_ENDPOINT_URL_S3"
    down = _s3_down(words=words, store="s3://bucket/x", empty=False)
    return check({"kind": "sklearn"}, **down)


@case
def s3_is_down_where_data_is(_):
    words = r"source\.path: s3://bucket/d\.csv: S3 does not answer .*AWS_ENDPOINT_URL_S3"
    return check({"kind": "csv", "path": "s3://bucket/d.csv"}, **_s3_down(words=words))


@case
def wrong_s3_credentials_where_results_go(place):
    store = place.request.getfixturevalue("s3").new_prefix()
    words = "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID"
    wrong = {"AWS_SECRET_ACCESS_KEY": PLANTED}
    return check({"kind": "sklearn"}, code=USAGE, words=words, environ=wrong, store=store)


@case
def wrong_s3_credentials_where_data_is(place):
    uri = f"{place.request.getfixturevalue('s3').new_prefix()}/d.csv"
    words = rf"source\.path: {uri}: .*check the credentials"
    wrong = {"AWS_SECRET_ACCESS_KEY": PLANTED}
    source = {"kind": "csv", "path": uri}
    return check(source, code=USAGE, words=words, environ=wrong, inside=True)


@case
def a_bucket_that_is_not_there(place):
    place.request.getfixturevalue("s3")
    words = r"s3://no-such-bucket/x/.*there is no such bucket: create it or correct the URI"
    store = "s3://no-such-bucket/x"
    return check({"kind": "sklearn"}, code=USAGE, words=words, store=store, empty=False)


@case
def mlflow_is_down(place):
    argv, environ = _registration(place)
    words = r"MLflow at http://127\.0\.0\.1:\d+ does not answer: .*try later, or set MLFLOW_TR"
    return Command(argv, LATER, words, environ)


def _registration(place):
    root = tiny_package(place.root / "package", private_pem=SIGNING)
    package = Package.at(root)
    receipt = {"uri": f"s3://bucket/artifacts/{package.digest}", "digest": package.digest}
    record = tiny_evaluation(load_manifest(root).model_digest)
    texts = {"receipt": json.dumps(receipt), "evaluation": record.model_dump_json()}
    argv = ["run", "register", "--package", root]
    for name, text in texts.items():
        (place.root / name).mkdir()
        (place.root / name / f"{name}.json").write_text(text)
        argv += [f"--{name}", place.root / name]
    return tuple(argv), {"MLFLOW_TRACKING_URI": nobody()}


def _judgement(place):
    (place.root / "evaluation").mkdir()
    record = tiny_evaluation("0" * 64)
    (place.root / "evaluation" / "evaluation.json").write_text(record.model_dump_json())
    return ("run", "gate", "--candidate", model(place), "--evaluation", place.root / "evaluation")


@case
def a_missing_secret(place):
    words = r"secret 'signing' is not there: set SLIMLINE_SECRET_SIGNING, or .*_FILE"
    return Command(_judgement(place), USAGE, words, {"SLIMLINE_SECRET_SIGNING": None})


@case
def a_secret_that_is_no_key(place):
    words = r"the signing key is no PEM private EC key"
    environ = {"SLIMLINE_SECRET_SIGNING": PLANTED}
    return Command(_judgement(place), USAGE, words, environ, inside=True)


@case
def missing_trusted_keys(place):
    return _push(place, r"trusted keys: set SLIMLINE_TRUSTED_KEYS to a directory", None)


@case
def a_private_key_among_the_trusted_ones(place):
    keys = place.root / "keys"
    keys.mkdir()
    (keys / "good.pem").write_text(PUBLIC)
    (keys / "mine.pem").write_text(SIGNING)
    return _push(place, r"mine\.pem holds a private key .*remove it", str(keys), inside=True)


def _push(place, words, keys, **changes):
    root = tiny_package(place.root / "package", private_pem=SIGNING)
    # The destination is the store, so that nothing may be in either.
    argv = ("run", "push", "--package", root, "--destination", place.root / "store")
    return Command(argv, USAGE, words, {"SLIMLINE_TRUSTED_KEYS": keys}, **changes)


# How long one waits for a service that is down.


@pytest.mark.parametrize(
    "name", ["s3 is down where results go", "s3 is down where data is", "mlflow is down"]
)
def test_a_service_that_is_down_is_asked_a_few_times_within_half_a_minute(name, place, monkeypatch):
    command = CASES[name](place)
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    code, _ = place.run(Command(**{**vars(command), "inside": True}))
    assert code == LATER
    assert 1 <= len(pauses) <= 8
    assert sum(pauses) <= 30
