"""Several processes in the image, as the Docker runner starts it for a job without network."""

import json
import secrets

import pytest
from support.curves import TOLERANCE, two_cores
from support.engine import engine, images
from support.splits import small_factory, write_digits

from slimline.train.spec import Train

pytestmark = [pytest.mark.docker, two_cores]


def test_two_processes_find_each_other_in_a_container_without_network(tmp_path):
    few = write_digits(tmp_path / "digits", most=400)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    settings = {"epochs": 3, "batch_size": 25, "factory": small_factory(8, 16)}
    expected = Train.parse({**few.inputs(), **settings}).run().manifest.numbers
    container = engine().containers.create(
        images().image("torch").reference,
        [
            *("run", "train", "--train", "/data/train", "--selection", "/data/selection"),
            *("--devices", "2", "--epochs", "3", "--batch-size", "25"),
            *("--factory", json.dumps(settings["factory"]), "--store", "/tmp/store"),  # noqa: S108
        ],
        name=f"slimline-test-ddp-{secrets.token_hex(6)}",
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": ""},  # noqa: S108
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        init=True,
        nano_cpus=2 * 10**9,
        mem_limit="2g",
        volumes={str(tmp_path / "digits"): {"bind": "/data", "mode": "ro"}},
    )
    try:
        container.start()
        status = container.wait(timeout=300)["StatusCode"]
        log = container.logs(stdout=False, stderr=True).decode()
        assert status == 0, log
        numbers = json.loads(container.logs(stdout=True, stderr=False))["numbers"]
    finally:
        container.remove(force=True, v=True)
    assert "train: 2 processes" in log
    assert numbers["accuracy"] == expected["accuracy"]
    assert numbers["best_epoch"] == expected["best_epoch"]
    assert numbers["selection_loss"] == pytest.approx(expected["selection_loss"], rel=TOLERANCE)
