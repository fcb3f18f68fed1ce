"""A stand-in for the REST API of MLflow's registry, answering as MLflow 3.17 was seen to answer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FakeRegistry:
    """What the server knows; tests change it while it runs."""

    url: str = ""
    models: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    broken: bool = False
    authorization: str = ""
    """The header that a call must have, when one is asked for."""

    def add(self, model: str, version: str, **tags: str) -> None:
        """Register a version; tags are written with `_` for `.`."""
        named = {name.replace("_", "."): value for name, value in tags.items()}
        self.models.setdefault(model, {})[version] = named
        self.aliases.setdefault(model, {})

    def answer(self, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON of a call."""
        if self.broken:
            return 503, {"message": "the database is away"}
        model = query.get("name") or body.get("name") or query.get("filter", "")[6:-1]
        if path.endswith("/model-versions/search"):
            found = self.models.get(model, {})
            return 200, {"model_versions": [_version(model, v, t) for v, t in found.items()]}
        if model not in self.models:
            return 404, _missing(f"Registered Model with name={model} not found")
        if path.endswith("/model-versions/get"):
            return self._one(model, query["version"])
        if path.endswith("/registered-models/alias"):
            self.aliases[model][body["alias"]] = body["version"]
            return 200, {}
        listed = [{"alias": a, "version": v} for a, v in self.aliases[model].items()]
        return 200, {"registered_model": {"name": model, **({"aliases": listed} if listed else {})}}

    def _one(self, model: str, version: str) -> tuple[int, Any]:
        if version not in self.models[model]:
            return 404, _missing(f"Model Version (name={model}, version={version}) not found")
        return 200, {"model_version": _version(model, version, self.models[model][version])}


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """Serve a registry on a free port of loopback."""
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            parts = urlsplit(self.path)
            status, value = 401, {"message": "You are not authenticated."}
            if registry.authorization in ("", self.headers.get("Authorization")):
                status, value = registry.answer(parts.path, dict(parse_qsl(parts.query)), body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def _version(model: str, version: str, tags: dict[str, str]) -> dict[str, Any]:
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    return {"name": model, "version": version, **({"tags": listed} if listed else {})}


def _missing(message: str) -> dict[str, str]:
    return {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": message}
