from __future__ import annotations

import os
import tarfile

import pytest

from slimline.contract import Refused, sha256_file
from slimline.trust.archive import pack, unpack
from slimline.trust.package import verify_package


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tgz", "model.tar"])
def test_a_package_comes_out_as_it_went_in(package, trusted, tmp_path, name):
    before = verify_package(package, trusted)
    out = unpack(pack(package, tmp_path / name), tmp_path / "out")
    assert verify_package(out, trusted) == before
    assert tarfile.is_tarfile(tmp_path / name)


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tar"])
def test_equal_trees_give_equal_archives_whatever_their_times(package, tmp_path, name):
    first = sha256_file(pack(package, tmp_path / name))
    os.utime(package / "card.md", (1, 1))
    (package / "card.md").chmod(0o600)
    assert sha256_file(pack(package, tmp_path / f"again-{name}")) == first


def test_sagemaker_finds_the_files_at_the_root_of_the_archive(package, tmp_path):
    with tarfile.open(pack(package, tmp_path / "model.tar.gz")) as tar:
        assert "manifest.json" in tar.getnames()
        assert "model/model.onnx" in tar.getnames()


def test_a_tree_that_is_no_package_is_not_packed(package, tmp_path):
    (package / "model.pkl").write_bytes(b"x")
    with pytest.raises(Refused, match="may not be in a package"):
        pack(package, tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()


def test_unpacking_over_something_is_refused(package, tmp_path):
    archive = pack(package, tmp_path / "model.tar")
    with pytest.raises(Refused, match="unpack into a new directory"):
        unpack(archive, package)
