"""Rendered pods as golden files, and what the cluster's own template may and may not change.

GOLDEN=write .venv/bin/pytest tests/runners/test_pod_spec.py    writes them anew
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient
from support.kubernetes import violations

from slimline.adapters.images import Image
from slimline.adapters.runners import Launch
from slimline.adapters.runners.environment import job_environment
from slimline.adapters.runners.pod.settings import PodSettings, pod_environment
from slimline.adapters.runners.pod.spec import build_pod
from slimline.contract import BadParameters, Resources, load_component

GOLDEN = Path(__file__).parents[1] / "golden" / "pods"
IMAGE = "registry.example/slimline-{}@sha256:" + "d" * 64
WORKER = {
    "PATH": "/usr/bin",
    "HOME": "/home/worker",
    "PYTHONPATH": "/home/worker/code",
    "AWS_ENDPOINT_URL_S3": "https://s3.example",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "worker-key",
    "AWS_SECRET_ACCESS_KEY": "value-of-the-store",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
    "MLFLOW_TRACKING_URI": "https://mlflow.example",
    "MLFLOW_TRACKING_PASSWORD": "value-of-mlflow",
    "SLIMLINE_STORE": "s3://bucket/results",
    "SLIMLINE_RELEASES": "s3://bucket/releases",
    "SLIMLINE_WORK": "/home/worker/work",
    "SLIMLINE_TRUSTED_KEYS": "/home/worker/keys",
    "SLIMLINE_POD_TEMPLATE": "/home/worker/template.yaml",
    "SLIMLINE_PYTHON_TORCH": "/home/worker/torch/bin/python",
    "SLIMLINE_SECRET_SIGNING": "value-of-the-key",
    "SLIMLINE_SECRET_SIGNING_FILE": "/home/worker/key.pem",
}
TEMPLATE = """
apiVersion: v1
kind: Pod
metadata: {name: template, annotations: {team: vision}}
spec:
  serviceAccountName: slimline-jobs
  nodeSelector: {pool: batch}
  tolerations: [{key: batch, operator: Exists, effect: NoSchedule}]
  imagePullSecrets: [{name: registry}]
  priorityClassName: low
  containers:
    - name: base
      image: another
      args: [another]
      env: [{name: HTTPS_PROXY, value: "http://proxy.example:3128"}]
      securityContext: {privileged: true, readOnlyRootFilesystem: false}
      volumeMounts: [{name: ca, mountPath: /etc/ssl/own, readOnly: true}]
  volumes: [{name: ca, configMap: {name: own-ca}}]
"""


def launch(name: str, *arguments: str, **changes: object) -> Launch:
    component = load_component(name)
    needs = replace(component.needs, **changes)
    return Launch(
        identity="0123456789abcdef" * 4,
        component=name,
        image=component.image,
        arguments=(name, *arguments, "--store", "s3://bucket/results", "--work-dir", "/work/job"),
        environment=job_environment(component, {}, needs, base=WORKER),
        needs=needs,
        store="s3://bucket/results",
        claim=f"compress_digits/manual__2026-11-22T19:10:16.123456+00:00/{name}",
    )


def image(name: str) -> Image:
    digest = "sha256:" + "d" * 64
    reference = IMAGE.format(name)
    return Image(reference=reference, digest=digest, environment="e" * 64, size=1, sbom="sbom")


def render(job: Launch, **settings: object) -> dict:
    pod = build_pod(job, image(job.image), PodSettings(namespace="models", **settings))
    return ApiClient().sanitize_for_serialization(pod)


CASES = {
    "quantize": (launch("quantize", "--scheme", "int8-static"), {}),
    "train-on-gpu": (launch("train", "--epochs", "3", cpu=8, memory="32Gi", gpu=2), {}),
    "gate": (launch("gate"), {"trusted_keys": "slimline-trusted-keys"}),
    "register": (launch("register"), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rendered_pod(name):
    job, settings = CASES[name]
    pod = render(job, **settings)
    pod["metadata"]["labels"].pop("airflow_version")
    text = yaml.safe_dump(pod, width=100)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{name} changed: GOLDEN=write pytest {__file__}"


@pytest.mark.parametrize("name", CASES)
def test_a_pod_is_restricted_and_holds_no_value_of_a_secret_and_no_path_of_the_worker(name):
    job, settings = CASES[name]
    pod = render(job, **settings)
    assert violations(pod["spec"]) == []
    text = yaml.safe_dump(pod)
    assert "value-of-" not in text
    assert "worker" not in text
    assert pod["spec"]["terminationGracePeriodSeconds"] < 10


def test_what_the_cluster_decides_comes_from_the_template_and_the_job_wins(tmp_path):
    file = tmp_path / "template.yaml"
    file.write_text(TEMPLATE)
    spec = render(launch("train", gpu=1), template=str(file))["spec"]
    container = spec["containers"][0]
    assert spec["serviceAccountName"] == "slimline-jobs"
    assert spec["nodeSelector"] == {"pool": "batch"}
    assert [t["key"] for t in spec["tolerations"]] == ["batch", "nvidia.com/gpu"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"} in container["env"]
    mounts = {m["name"].removeprefix("slimline-") for m in container["volumeMounts"]}
    assert mounts == {"ca", "work", "tmp", "dev-shm"}
    assert container["image"] == IMAGE.format("torch")
    assert container["args"][:2] == ["run", "train"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert violations(spec) == []
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_last_word_is_the_deployments_own_hook(monkeypatch):
    def mutate(pod):
        pod.metadata.labels["cost-centre"] = "42"

    monkeypatch.setattr("airflow.providers.cncf.kubernetes.operators.pod.pod_mutation_hook", mutate)
    assert render(launch("quantize"))["metadata"]["labels"]["cost-centre"] == "42"


def test_a_template_that_is_no_pod_is_told(tmp_path):
    file = tmp_path / "template.yaml"
    file.write_text("spec: {containers: 3}")
    with pytest.raises(BadParameters, match=r"SLIMLINE_POD_TEMPLATE .* is no pod"):
        render(launch("quantize"), template=str(file))


def test_an_address_with_a_password_in_it_is_refused():
    given = {"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example"}
    with pytest.raises(BadParameters, match="MLFLOW_TRACKING_URI holds a password") as caught:
        pod_environment(given, Resources())
    assert "me:secret" not in str(caught.value)


def test_threads_are_counted_from_the_pods_own_cores_not_from_the_workers():
    assert pod_environment({"OMP_NUM_THREADS": "1"}, Resources(cpu=16))["OMP_NUM_THREADS"] == "16"
