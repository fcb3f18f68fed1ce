"""When a server becomes ready, when it refuses to, and how it leaves."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from support import web
from support.packages import tiny_package
from support.serving import launch, serving, wait_for_port, wait_until

from slimline.contract import BadParameters
from slimline.serving.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from serving.conftest import Trusted


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _exit(package: Path, keys: Path, directory: Path) -> tuple[int, str]:
    process = launch(package, keys, directory)
    return process.wait(60), (directory / "log").read_text()


@pytest.mark.parametrize("name", ["card.md", "golden.npz", "manifest.json"])
def test_one_flipped_byte_keeps_the_server_from_getting_ready(
    package: Path, trusted: Trusted, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(package, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    code, log = _exit(copy, trusted.keys, tmp_path / "server")
    assert code == 65
    assert f"{name} was changed" in log
    assert "ready:" not in log


def test_golden_outputs_that_the_model_does_not_give_are_refused(
    trusted: Trusted, tmp_path: Path
) -> None:
    copy = tiny_package(tmp_path / "g", private_pem=trusted.private_pem, broken_golden=True)
    code, log = _exit(copy, trusted.keys, tmp_path / "server")
    assert code == 65
    assert "golden inputs" in log


def test_without_trusted_keys_the_exit_code_says_bad_parameters(
    package: Path, tmp_path: Path
) -> None:
    code, log = _exit(package, tmp_path / "nowhere", tmp_path / "server")
    assert code == 64
    assert "trusted keys" in log


def test_until_it_is_loaded_the_server_is_alive_and_not_ready(
    trusted: Trusted, tmp_path: Path
) -> None:
    """The package is large, so that its hashes take a while, and is verified meanwhile."""
    large = tiny_package(
        tmp_path / "large", private_pem=trusted.private_pem, payload_bytes=64 * 2**20
    )
    process = launch(large, trusted.keys, tmp_path / "server")
    try:
        url = f"http://127.0.0.1:{wait_for_port(process, tmp_path / 'server')}"
        wait_until(lambda: web.get(f"{url}/livez").status_code == 200, process)
        answer = web.get(f"{url}/ping")
        assert answer.status_code == 503
        assert "being verified" in answer.json()["error"]
        assert web.post(f"{url}/invocations", json=[]).headers["retry-after"] == "1"
        wait_until(lambda: web.get(f"{url}/ping").status_code == 200, process)
    finally:
        process.terminate()
        process.wait(60)


def test_sigterm_under_load_loses_no_request(
    package: Path, trusted: Trusted, tmp_path: Path, images: np.ndarray
) -> None:
    """Clients go on until told that the connection closes; each request they sent is answered."""
    with serving(package, trusted.keys, tmp_path, linger=1, idle_grace=10) as server:
        answered, lost = [], []
        started = threading.Barrier(9)

        def ask() -> None:
            headers = {"content-type": "application/x-npy"}
            with httpx.Client(base_url=server.url, timeout=30) as client:
                started.wait()
                while True:
                    try:
                        answer = client.post("/invocations", content=_npy(images), headers=headers)
                    except httpx.HTTPError as error:
                        lost.append(error)
                        return
                    answered.append(answer.status_code)
                    if answer.headers.get("connection") == "close":
                        return

        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        started.wait()
        wait_until(lambda: len(answered) > 100)
        server.process.terminate()
        wait_until(lambda: "draining" in server.text())
        assert web.get(f"{server.url}/readyz").status_code == 503
        for client in clients:
            client.join()
        assert server.process.wait(30) == 0
    assert not lost
    assert set(answered) == {200}


def test_more_requests_than_the_queue_holds_are_told_to_come_again(
    package: Path, trusted: Trusted, tmp_path: Path, images: np.ndarray
) -> None:
    with serving(package, trusted.keys, tmp_path, queue=1, timeout=20) as server:
        release = threading.Event()

        def slowly() -> object:
            yield _npy(images)[:10]
            release.wait(20)
            yield _npy(images)[10:]

        answers: list[httpx.Response] = []
        headers = {"content-type": "application/x-npy"}
        url = f"{server.url}/invocations"
        first = threading.Thread(
            target=lambda: answers.append(web.post(url, content=slowly(), headers=headers))
        )
        first.start()
        wait_until(lambda: "slimline_in_flight 2" in web.get(f"{server.url}/metrics").text)
        second = web.post(url, content=_npy(images), headers=headers)
        release.set()
        first.join()
        assert second.status_code == 429
        assert second.headers["retry-after"] == "1"
        assert answers[0].status_code == 200
        assert web.post(url, content=_npy(images), headers=headers).status_code == 200


def test_a_body_that_never_arrives_is_given_up(
    package: Path, trusted: Trusted, tmp_path: Path
) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n["
    with serving(package, trusted.keys, tmp_path, timeout=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert web.get(f"{server.url}/readyz").status_code == 200


def test_no_training_world_is_imported() -> None:
    code = (
        "import sys, slimline.serving.main as m, slimline.serving.model\n"
        "from slimline.measure.runtime import import_onnxruntime\n"
        "from slimline.serving.server import make_server\n"
        "from slimline.serving.app import App\n"
        "from slimline.serving.state import State\n"
        "from slimline.serving.settings import Settings\n"
        "from pathlib import Path\n"
        "make_server(App(Settings(Path(), 0), State())); import_onnxruntime()\n"
        "heavy = {'torch', 'boto3', 'botocore', 'airflow', 'mlflow', 'onnx', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 8080),
        ({"PORT": "81"}, 81),
        ({"PORT": "81", "AIP_HTTP_PORT": "82"}, 82),
        ({"AIP_HTTP_PORT": "82", "SAGEMAKER_BIND_TO_PORT": "83"}, 83),
        ({"SAGEMAKER_BIND_TO_PORT": "83", "SLIMLINE_SERVING_PORT": "84"}, 84),
    ],
)
def test_the_port_is_the_one_that_the_cloud_sets(
    environ: dict[str, str], port: int, tmp_path: Path
) -> None:
    assert read_settings(["serve"], {**environ, "MODEL_DIR": str(tmp_path)}).port == port


@pytest.mark.parametrize(
    ("argv", "environ", "named"),
    [
        ([], {}, "--model-dir"),
        (["--model-dir", "/nowhere"], {}, "/nowhere"),
        (["--model-dir", "/", "--port", "http"], {}, "--port"),
        (["--model-dir", "/", "--queue", "0"], {}, "queue"),
        (["--model-dir", "/", "--timeout", "nan"], {}, "timeout"),
        (["--model-dir", "/"], {"PORT": "http"}, "PORT"),
        (["--model-dir", "/"], {"PORT": "70000"}, "port"),
        (["--model-dir", "/", "--colour=red"], {}, "--colour"),
    ],
)
def test_wrong_settings_are_named(argv: list[str], environ: dict[str, str], named: str) -> None:
    with pytest.raises(BadParameters, match=named):
        read_settings(argv, environ)
