"""A small Kubernetes API on loopback: the real client talks to it, pods run as child processes.

It refuses what a cluster would: fields that no pod has, label values that are too long, and pods
that do not meet the Pod Security Standard `restricted`. It knows no watch: nothing here needs one.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubernetes.client import ApiClient, V1Pod

from support import kubelet
from support.kubelet import Faults, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMESPACE = "slimline"
_PATH = re.compile(rf"/api/v1/namespaces/{NAMESPACE}/pods(?:/([a-z0-9-]+))?(/log)?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_VOLUMES = {"emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim", "downwardAPI"}


@dataclass
class Cluster:
    """What the cluster holds; tests read and change it."""

    directory: Path
    token: str = "a-token-of-the-cluster"
    pods: dict[str, Pod] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    lock: threading.RLock = field(default_factory=threading.RLock)
    address: str = ""

    @property
    def kubeconfig(self) -> Path:
        """A configuration for clients of this cluster."""
        file = self.directory / "kubeconfig"
        one = {"name": "here", "cluster": {"server": self.address}}
        user = {"name": "me", "user": {"token": self.token}}
        context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
        told = {"clusters": [one], "users": [user], "contexts": [context]}
        head = {"apiVersion": "v1", "kind": "Config", "current-context": "here"}
        file.write_text(yaml.safe_dump({**head, **told}))
        return file

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        _check(body)
        name = body["metadata"]["name"]
        with self.lock:
            if self.faults.refuse:
                raise Problem(*self.faults.refuse)
            if name in self.pods:
                raise Problem(409, "AlreadyExists", f'pods "{name}" already exists')
            uid = secrets.token_hex(16)
            known = {"uid": uid, "namespace": NAMESPACE, "creationTimestamp": kubelet.now()}
            made = {**body, "metadata": {**body["metadata"], **known}}
            pod = Pod(made, self.directory / uid)
            pod.directory.mkdir()
            pod.set("Pending")
            self.pods[name] = pod
            self.created.append(made)
        threading.Thread(
            target=kubelet.run, args=(pod, self.faults, self.secrets), daemon=True
        ).start()
        if self.faults.lose_answer:
            self.faults.lose_answer = False
            raise Problem(500, "InternalError", "etcd is slow")
        return made

    def get(self, name: str) -> Pod:
        with self.lock:
            if name not in self.pods:
                raise Problem(404, "NotFound", f'pods "{name}" not found')
            return self.pods[name]

    def delete(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        pod = self.get(name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != pod.body["metadata"]["uid"]:
            raise Problem(409, "Conflict", "the UID in the precondition is another")
        grace = options.get("gracePeriodSeconds", 30)
        pod.deleted_after = grace
        pod.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if grace and not pod.done:
            threading.Thread(target=self._remove, args=(name, pod, grace), daemon=True).start()
        else:
            self._remove(name, pod, 0)
        return pod.body

    def evict(self, name: str, message: str) -> None:
        """End a pod as a node under pressure does."""
        pod = self.get(name)
        kubelet.stop(pod, 0)
        while not pod.done:
            time.sleep(0.01)
        pod.set("Failed", reason="Evicted", message=message)

    def lose(self, name: str) -> None:
        """Remove a pod as when its node is lost: nobody is told how it ended."""
        self._remove(name, self.get(name), 0)

    def _remove(self, name: str, pod: Pod, grace: float) -> None:
        kubelet.stop(pod, grace)
        with self.lock:
            if self.pods.get(name) is pod:
                del self.pods[name]


class Problem(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        told = {"kind": "Status", "status": "Failure", "reason": reason, "message": message}
        self.status, self.body = status, {**told, "code": status}


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """A cluster that ends with the test, and its pods with it."""
    state = Cluster(directory)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        for name in list(state.pods):
            state.lose(name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Cluster

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        body = self._body()
        self._answer(lambda _name, _query: self.state.create(body))

    def do_DELETE(self) -> None:
        body = self._body()
        self._answer(lambda name, _query: self.state.delete(name, body))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, call: Any) -> None:
        url = urlsplit(self.path)
        found = _PATH.fullmatch(url.path)
        try:
            self._admit(url.path)
            assert found is not None
            told = call(found[1] or "", parse_qs(url.query))
        except Problem as problem:
            self._send(problem.status, problem.body)
            return
        if told is not None:
            self._send(200, told)

    def _admit(self, path: str) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.state.token}":
            raise Problem(401, "Unauthorized", "Unauthorized")
        if self.state.faults.api_errors > 0:
            self.state.faults.api_errors -= 1
            raise Problem(500, "InternalError", "etcdserver: leader changed")
        if _PATH.fullmatch(path) is None:
            raise Problem(403, "Forbidden", f"cannot reach {path}")

    def _get(self, name: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        if not name:
            wanted = dict(p.split("=") for p in query.get("labelSelector", [""])[0].split(",") if p)
            pods = [p.body for p in self.state.pods.values()]
            items = [p for p in pods if wanted.items() <= p["metadata"].get("labels", {}).items()]
            return {"kind": "PodList", "apiVersion": "v1", "items": items}
        pod = self.state.get(name)
        if not urlsplit(self.path).path.endswith("/log"):
            return pod.body
        if not pod.started:
            raise Problem(400, "BadRequest", "container is waiting to start: ContainerCreating")
        self._stream(pod, follow=query.get("follow", ["false"])[0].lower() == "true")
        return None

    def _stream(self, pod: Pod, *, follow: bool) -> None:
        cuts = self.state.faults.cut_logs if follow else []
        left = cuts.pop(0) if cuts else None
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            with pod.changed:
                if len(pod.lines) == sent and follow and not pod.done:
                    pod.changed.wait(1)
                new, done = pod.lines[sent:], pod.done
            data = b"".join(new)
            sent += len(new)
            if left is not None and len(data) >= left:
                self._chunk(data[:left])
                self.close_connection = True  # in the middle of a line, with no last chunk
                return
            left = None if left is None else left - len(data)
            if data:
                self._chunk(data)
            if not new and (done or not follow):
                self._chunk(b"")
                return

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _check(body: dict[str, Any]) -> None:
    for name, value in body["metadata"].get("labels", {}).items():
        if not _LABEL.fullmatch(value):
            raise Problem(422, "Invalid", f"metadata.labels.{name}: {value!r} is no label value")
    client = ApiClient()
    known = client.sanitize_for_serialization(
        client.deserialize(SimpleNamespace(data=json.dumps(body)), V1Pod)
    )
    if known != body:
        raise Problem(400, "BadRequest", f"strict decoding error: {body} has unknown fields")
    broken = violations(body["spec"])
    if broken:
        told = f'violates PodSecurity "restricted:latest": {", ".join(broken)}'
        raise Problem(403, "Forbidden", told)


def violations(spec: dict[str, Any]) -> list[str]:
    """Where a pod does not meet the Pod Security Standard `restricted`."""
    found = [k for k in ("hostNetwork", "hostPID", "hostIPC") if spec.get(k)]
    found += [v["name"] for v in spec.get("volumes", ()) if not _VOLUMES & v.keys()]
    whole = spec.get("securityContext", {})
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        own = {**whole, **container.get("securityContext", {})}
        wanted = {
            "runAsNonRoot": own.get("runAsNonRoot") is True and own.get("runAsUser") != 0,
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities", {}).get("drop") == ["ALL"],
            "seccompProfile": own.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "privileged": not own.get("privileged"),
        }
        found += [name for name, good in wanted.items() if not good]
    return found
