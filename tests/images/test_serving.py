"""The server's image with a real package in it."""

import time

import pytest
from support.engine import engine, images
from support.packages import tiny_package

from slimline.trust.keys import generate_key

from .conftest import HARDENED

pytestmark = pytest.mark.docker

SECONDS = 60


@pytest.fixture
def place(tmp_path):
    """A directory with a signed package and the key that is trusted, readable for all."""
    private, public = generate_key()
    tiny_package(tmp_path / "package", private_pem=private)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signer.pem").write_text(public)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path


def started(place, **environment):
    return engine().containers.run(
        images().image("serving").reference,
        detach=True,
        init=True,
        volumes={
            str(place / "package"): {"bind": "/opt/ml/model", "mode": "ro"},
            str(place / "keys"): {"bind": "/keys", "mode": "ro"},
        },
        environment={"SLIMLINE_TRUSTED_KEYS": "/keys", **environment},
        healthcheck={"interval": 500_000_000},  # ns; the image's own is ten seconds
        **HARDENED,
    )


def health(container):
    """What the engine says once it has asked; it asks by the image's HEALTHCHECK."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        container.reload()
        told = container.attrs["State"].get("Health", {}).get("Status")
        if told in ("healthy", "unhealthy") or container.status == "exited":
            return told
        time.sleep(0.2)
    return "no answer"


def test_the_server_becomes_healthy_with_a_package_without_network_and_read_only(place):
    container = started(place)
    try:
        assert health(container) == "healthy", container.logs().decode()
    finally:
        container.remove(force=True)


def test_the_health_check_asks_the_port_that_a_cloud_names(place):
    container = started(place, AIP_HTTP_PORT="9191")
    try:
        assert health(container) == "healthy", container.logs().decode()
    finally:
        container.remove(force=True)


def test_a_server_that_refuses_its_package_ends_with_the_code_for_bad_data(place):
    (place / "package" / "card.md").write_text("changed after it was signed")
    container = started(place)
    try:
        assert container.wait(timeout=SECONDS)["StatusCode"] == 65
    finally:
        container.remove(force=True)
