from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.packages import tiny_package

from slimline.contract import Package
from slimline.trust.keys import generate_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def private_pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    private, public = generate_key()
    keys = tmp_path_factory.mktemp("keys")
    (keys / "pipeline.pem").write_text(public)
    patch = pytest.MonkeyPatch()
    patch.setenv("SLIMLINE_TRUSTED_KEYS", str(keys))
    patch.setenv("SLIMLINE_SERVING_LINGER", "0.3")
    return private


@pytest.fixture(scope="session")
def make(private_pem: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Package]:
    """Build a package; `Package.at` hashes it."""

    def build(**options: Any) -> Package:
        root = tmp_path_factory.mktemp("package")
        return Package.at(tiny_package(root, private_pem=private_pem, **options))

    return build


@pytest.fixture(scope="session")
def first(make: Callable[..., Package]) -> Package:
    return make(seed=1)


@pytest.fixture(scope="session")
def second(make: Callable[..., Package]) -> Package:
    return make(seed=2)


@pytest.fixture(scope="session")
def wrong(make: Callable[..., Package]) -> Package:
    """Verifies, and gives other logits than its golden examples expect."""
    return make(seed=3, broken_golden=True)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "endpoints"
