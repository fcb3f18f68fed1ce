"""The Helm values and manifests fit the code: names it reads, images by digest, no secret value."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient
from support.kubernetes import violations

from slimline.adapters.cluster import TRUSTED_KEYS_PATH, secret_references
from slimline.adapters.images import Image
from slimline.adapters.kfp.platform import SETTINGS
from slimline.adapters.runners import Launch
from slimline.adapters.runners.environment import job_environment
from slimline.adapters.runners.pod.settings import PodSettings
from slimline.adapters.runners.pod.spec import build_pod
from slimline.contract import component_names, load_component

ROOT = Path(__file__).parents[2]
HELM = ROOT / "infra" / "helm"
VALUES = yaml.safe_load((HELM / "values.yaml").read_text())
MANIFESTS = list(yaml.safe_load_all((HELM / "jobs.yaml").read_text()))
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Names of the chart, as its schema and documentation give them: Helm ignores others.
TOP_LEVEL = {
    *("executor", "airflowVersion", "useStandardNaming", "revisionHistoryLimit"),
    *("defaultAirflowRepository", "defaultAirflowTag", "defaultAirflowDigest", "images"),
    *("registry", "uid", "gid", "securityContexts", "dags", "extraEnvFrom", "env", "extraEnv"),
    *("volumes", "volumeMounts", "data", "fernetKeySecretName", "apiSecretKeySecretName"),
    *("jwtSecretName", "postgresql", "rbac", "allowPodLaunching", "workers", "scheduler"),
    *("dagProcessor", "triggerer", "apiServer", "createUserJob", "statsd", "redis", "logs"),
    "config",
}
_VALUES_OF_SECRETS = re.compile(
    r"^\s*(pass|password|fernetKey|jwtSecret|apiSecretKey):", re.IGNORECASE | re.MULTILINE
)


def manifest(kind: str, name: str) -> dict:
    (found,) = [m for m in MANIFESTS if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def pod(component: str, tmp_path: Path) -> dict:
    template = tmp_path / "template.yaml"
    template.write_text(manifest("ConfigMap", "slimline-pods")["data"]["template.yaml"])
    kind = load_component(component)
    digest = "sha256:" + "d" * 64
    image = Image(
        reference=f"registry.example.com/slimline-{kind.image}@{digest}",
        digest=digest,
        environment="e" * 64,
        size=1,
        sbom="sbom",
    )
    launch = Launch(
        identity="0" * 64,
        component=component,
        image=kind.image,
        arguments=(component,),
        environment=job_environment(kind, {}, base={}),
        needs=replace(kind.needs, engine=False),
        store="s3://bucket/store",
    )
    settings = PodSettings(namespace="slimline", template=str(template))
    return ApiClient().sanitize_for_serialization(build_pod(launch, image, settings))


def test_every_top_level_value_is_one_of_the_charts():
    assert set(VALUES) <= TOP_LEVEL


def test_every_image_is_pinned_by_a_digest():
    images = VALUES["images"]
    assert DIGEST.fullmatch(VALUES["defaultAirflowDigest"])
    assert DIGEST.fullmatch(images["airflow"]["digest"])
    for name in ("pod_template", "gitSync"):
        assert DIGEST.search(images[name]["tag"])


def test_the_settings_are_variables_that_the_code_reads():
    code = "\n".join(p.read_text() for p in (ROOT / "components").rglob("*.py"))
    given = [e["name"] for e in VALUES["env"]] + list(manifest("ConfigMap", SETTINGS)["data"])
    for name in given:
        pod_setting = name.removeprefix("SLIMLINE_POD_").lower()
        assert f'"{name}"' in code or hasattr(PodSettings, pod_setting), name
    assert {e["name"]: e["value"] for e in VALUES["env"]}["SLIMLINE_RUNNER"] == "pod"


def test_what_is_mounted_is_where_the_settings_point():
    volumes = {v["name"]: v["configMap"]["name"] for v in VALUES["volumes"]}
    mounts = {m["mountPath"]: volumes[m["name"]] for m in VALUES["volumeMounts"]}
    settings = {e["name"]: e["value"] for e in VALUES["env"]}
    assert mounts[str(Path(settings["SLIMLINE_IMAGES"]).parent)] == "slimline-images"
    assert mounts[settings["SLIMLINE_TRUSTED_KEYS"]] == settings["SLIMLINE_POD_TRUSTED_KEYS"]
    template = Path(settings["SLIMLINE_POD_TEMPLATE"])
    assert template.name in manifest("ConfigMap", mounts[str(template.parent)])["data"]
    assert TRUSTED_KEYS_PATH not in mounts  # that is the path within a job's pod


def test_the_readme_makes_every_secret_that_a_component_reads():
    text = (HELM / "README.md").read_text()
    for name in component_names():
        kind = load_component(name)
        for reference in secret_references(kind, kind.needs):
            assert f"create secret generic {reference.secret} " in text
            if not reference.optional:
                assert all(f"--from-file={v}" in text for v in reference.variables)


def test_no_value_of_a_secret_stands_in_the_files():
    for entry in yaml.safe_load(VALUES["extraEnv"]):
        assert "value" not in entry
        assert "secretKeyRef" in entry["valueFrom"]
    plain = (HELM / "values.yaml").read_text() + (HELM / "jobs.yaml").read_text()
    assert not _VALUES_OF_SECRETS.search(plain)
    assert not any(m["kind"] == "Secret" for m in MANIFESTS)
    assert "BEGIN" not in plain


@pytest.mark.parametrize("component", ["train", "register"])
def test_the_pod_template_makes_pods_that_the_namespace_lets_in(component, tmp_path):
    made = pod(component, tmp_path)
    assert violations(made["spec"]) == []
    account = manifest("ServiceAccount", made["spec"]["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert made["spec"]["imagePullSecrets"] == [{"name": VALUES["registry"]["secretName"]}]
    assert made["spec"]["containers"][0]["image"].startswith("registry.example.com/slimline-")


@pytest.mark.parametrize(
    ("component", "policy"),
    [("train", "slimline-jobs-store"), ("register", "slimline-jobs-open")],
)
def test_exactly_one_network_policy_holds_for_a_job(component, policy, tmp_path):
    labels = pod(component, tmp_path)["metadata"]["labels"].items()
    policies = [m for m in MANIFESTS if m["kind"] == "NetworkPolicy"]
    held = [
        p["metadata"]["name"]
        for p in policies
        if p["spec"]["podSelector"]["matchLabels"].items() <= labels
    ]
    assert held == [policy]


def test_a_job_without_network_reaches_names_and_the_store_alone():
    spec = manifest("NetworkPolicy", "slimline-jobs-store")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    names, store = spec["egress"]
    assert {p["port"] for p in names["ports"]} == {53}
    assert [p["port"] for p in store["ports"]] == [443]
    assert store["to"][0]["ipBlock"]["cidr"] != "0.0.0.0/0"


def test_airflows_own_pods_run_as_the_user_of_our_images():
    whole = {"securityContext": VALUES["securityContexts"]["pod"]}
    container = {"name": "base", "securityContext": VALUES["securityContexts"]["container"]}
    assert violations({**whole, "containers": [container]}) == []
    assert VALUES["uid"] == VALUES["securityContexts"]["pod"]["runAsUser"] == 65532
