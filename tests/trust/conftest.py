from __future__ import annotations

import shutil

import pytest
from support.packages import tiny_package

from slimline.trust.keys import TrustedKeys, generate_key


@pytest.fixture(scope="session")
def keys() -> tuple[str, str]:
    return generate_key()


@pytest.fixture(scope="session")
def foreign() -> tuple[str, str]:
    return generate_key()


@pytest.fixture(scope="session")
def trusted(keys) -> TrustedKeys:
    return TrustedKeys.of(keys[1])


@pytest.fixture(scope="session")
def built(keys, tmp_path_factory):
    return tiny_package(tmp_path_factory.mktemp("built") / "package", private_pem=keys[0])


@pytest.fixture
def package(built, tmp_path):
    return shutil.copytree(built, tmp_path / "package")
