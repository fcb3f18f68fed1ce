"""A runner of pods, a simulated cluster and a store that its pods mount."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from slimline.adapters.argv import to_argv
from slimline.adapters.runners import Launch
from slimline.adapters.runners.environment import job_environment
from slimline.adapters.runners.pod.spec import pod_name
from slimline.contract import LocalStore, load_component
from slimline.contract.job import identify
from support import probe
from support.kubernetes import NAMESPACE, Cluster

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from slimline.adapters.runners.pod import PodHandle, PodRunner

ENVIRONMENT = "e" * 64
REGISTRY = "registry.example"


def write_lock(file: Path, *, pushed: bool = True) -> None:
    """A lock of images that were pushed, or that only this machine has."""
    digest = "sha256:" + "d" * 64
    told = {
        name: {
            "reference": f"{REGISTRY}/slimline-{name}@{digest}" if pushed else digest,
            "digest": digest,
            "environment": ENVIRONMENT,
            "size": 1,
            "sbom": f"sbom/{name}.cdx.json",
        }
        for name in ("base", "data", "torch", "onnx", "ship")
    }
    file.write_text(json.dumps({"images": told}))


def mounted(path: Path) -> dict[str, Any]:
    """A template whose pods mount a shared directory."""
    volume = {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}
    mount = {"name": "shared", "mountPath": str(path)}
    container = {"name": "base", "image": "any", "volumeMounts": [mount]}
    spec = {"containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "template"}, "spec": spec}


def connect(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    """Let Airflow's connections hold the cluster and nothing else."""
    extra = json.dumps({"kube_config_path": str(cluster.kubeconfig)})
    known = Connection(conn_id="kubernetes_default", conn_type="kubernetes", extra=extra)

    def get(name: str) -> Connection:
        if name == known.conn_id:
            return known
        raise AirflowNotFoundException(name)

    monkeypatch.setattr(Connection, "get", get)


def settle(monkeypatch: pytest.MonkeyPatch, root: Path, cluster: Cluster) -> None:
    """Set the environment of a worker that runs pods."""
    probe.install(monkeypatch)
    connect(monkeypatch, cluster)
    write_lock(root / "lock.json")
    (root / "template.yaml").write_text(yaml.safe_dump(mounted(root)))
    monkeypatch.setenv("SLIMLINE_IMAGES", str(root / "lock.json"))
    monkeypatch.setenv("SLIMLINE_POD_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("SLIMLINE_POD_TEMPLATE", str(root / "template.yaml"))
    monkeypatch.setenv("SLIMLINE_STORE", str(root / "store"))
    cluster.secrets["slimline-planted"] = {"SLIMLINE_SECRET_PLANTED": "value-in-the-cluster"}


@dataclass
class Bench:
    """A runner and a short way to launch the talking room."""

    runner: PodRunner
    store: LocalStore
    cluster: Cluster
    lines: list[str] = field(default_factory=list)

    def launch(self, claim: str = "dag/run/talk", **values: Any) -> Launch:
        kind = load_component("talk")
        job = kind.parse(values)
        image = self.runner.image_digest(kind.image)
        identity = identify(job, image).digest
        options = ["--work-dir", self.runner.work_path(identity), "--image-digest", image]
        return Launch(
            identity=identity,
            component="talk",
            image=kind.image,
            arguments=(*to_argv(job), "--store", self.store.uri, *options),
            environment=job_environment(kind, {"SLIMLINE_SECRET_PLANTED": "value-of-the-worker"}),
            needs=kind.needs,
            store=self.store.uri,
            claim=claim,
        )

    def start(self, **values: Any) -> PodHandle:
        return self.runner.start(self.launch(**values))

    def run(self, **values: Any) -> int:
        return self.start(**values).wait(self.lines.append)

    def name(self, **values: Any) -> str:
        return pod_name(self.launch(**values).identity)
