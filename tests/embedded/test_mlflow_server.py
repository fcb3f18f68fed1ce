"""A real MLflow server on loopback."""

from __future__ import annotations

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from slimline.embedded.process import tail


@pytest.fixture
def client(mlflow_server):
    return MlflowClient(mlflow_server.url)


@pytest.fixture
def inbox():
    """An HTTP server that keeps what is posted to it: (queue, url)."""
    posted = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield posted, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_promotion_calls_a_webhook_on_loopback(client, inbox):
    posted, url = inbox
    time.sleep(1.1)  # the server asks its database for hooks once a second
    hook = client.create_webhook("promotions", url, ["model_version_alias.created"], secret="x" * 9)
    client.create_registered_model("hooked")
    version = client.create_model_version("hooked", source="s3://bucket/x").version
    client.set_registered_model_alias("hooked", "champion", version)
    body = json.loads(posted.get(timeout=60))
    assert body["data"]["alias"] == "champion"
    client.delete_webhook(hook.webhook_id)


def test_artifacts_of_a_run_are_kept_by_the_server(client, mlflow_server, tmp_path):
    experiment = client.create_experiment("with-artifacts")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "hello", "note.txt")
    assert (mlflow_server.log.parent / "mlflow" / "artifacts").is_dir()
    back = client.download_artifacts(run, "note.txt", str(tmp_path))
    assert Path(back).read_text() == "hello"


def test_it_listens_on_loopback_alone(mlflow_server):
    tree = [psutil.Process(mlflow_server.pid)]
    tree += tree[0].children(recursive=True)
    listening = {c.laddr.ip for p in tree for c in p.net_connections("tcp") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}, tail(mlflow_server.log)
