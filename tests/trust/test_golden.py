from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from support.packages import seal_again, tiny_package

from slimline.contract import Refused
from slimline.models.info import load_model_info
from slimline.trust.golden import check_golden, load_golden
from slimline.trust.package import load_manifest, verify_package


def test_golden_inputs_of_a_right_package_give_their_logits(package):
    assert check_golden(package, load_manifest(package)) < 1e-4


def test_a_package_that_verifies_but_infers_otherwise_is_refused(tmp_path, keys, trusted):
    root = tiny_package(tmp_path / "p", private_pem=keys[0], broken_golden=True)
    manifest = verify_package(root, trusted)
    with pytest.raises(Refused, match="golden inputs gave other logits here: they differ by 1"):
        check_golden(root, manifest)


def test_the_tolerance_decides(tmp_path, keys):
    root = tiny_package(tmp_path / "p", private_pem=keys[0], broken_golden=True, tolerance=1.01)
    assert check_golden(root, load_manifest(root)) == pytest.approx(1, abs=1e-3)


def test_a_model_that_cannot_be_loaded_is_refused(package, keys):
    (package / "model" / "model.onnx").write_bytes(b"not a model")
    seal_again(package, keys[0])
    with pytest.raises(Refused, match="golden inputs cannot be run"):
        check_golden(package, load_manifest(package))


def test_an_array_whose_header_promises_more_than_is_there_is_refused(package, keys):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 50,)}
    )
    with zipfile.ZipFile(package / "golden.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("logits.npy", header.getvalue())
    seal_again(package, keys[0])
    with pytest.raises(Refused, match="not as many numbers as its header says"):
        load_golden(package, load_manifest(package), load_model_info(package / "model"))


def test_an_npz_that_unpacks_to_too_much_is_refused(package, keys):
    with zipfile.ZipFile(package / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as member:
            for _ in range(257):
                member.write(bytes(2**20))
        archive.writestr("logits.npy", b"")
    seal_again(package, keys[0])
    with pytest.raises(Refused, match="more than"):
        load_golden(package, load_manifest(package), load_model_info(package / "model"))


@pytest.mark.parametrize("name", ["model/model.onnx", "model/model.json", "golden.npz"])
def test_a_file_that_changes_between_verification_and_use_is_not_used(package, trusted, name):
    manifest = verify_package(package, trusted)
    (package / name).write_bytes((package / name).read_bytes() + b" ")

    with pytest.raises(Refused, match=rf"^{name} was changed after it was verified"):
        check_golden(package, manifest)


@pytest.mark.parametrize("header", [b"{'descr': (", b"  {'a':1}\n {'b'", b"-" * 9000 + b"1"])
def test_a_header_that_makes_numpys_parser_fail_is_refused(package, keys, trusted, header):
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(package / "golden.npz", "w") as archive:
        archive.writestr("x.npy", start)
        archive.writestr("logits.npy", start)
    seal_again(package, keys[0])

    with pytest.raises(Refused, match=r"^golden.npz is malformed"):
        verify_package(package, trusted)
