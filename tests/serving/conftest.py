from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import httpx
import numpy as np
import pytest
from support.packages import tiny_package
from support.serving import Server, serving

from slimline.measure import runtime
from slimline.models.info import load_model_info
from slimline.trust.keys import generate_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Trusted(NamedTuple):
    private_pem: str
    keys: Path


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Trusted:
    private, public = generate_key()
    keys = tmp_path_factory.mktemp("keys")
    (keys / "pipeline.pem").write_text(public)
    return Trusted(private, keys)


@pytest.fixture(scope="session")
def package(trusted: Trusted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_package(tmp_path_factory.mktemp("package"), private_pem=trusted.private_pem)


@pytest.fixture(scope="session")
def server(
    package: Path, trusted: Trusted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    with serving(package, trusted.keys, directory, max_body=200_000, max_batch=64) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as made:
        yield made


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 17, (5, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="session")
def expected(package: Path, images: np.ndarray) -> np.ndarray:
    """The logits that ONNX Runtime gives in this process."""
    session = runtime.session(package / "model" / "model.onnx")
    preprocessing = load_model_info(package / "model").preprocessing
    return runtime.logits(session, preprocessing.apply(images))
