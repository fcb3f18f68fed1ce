"""The pod of a job, built by Airflow's KubernetesPodOperator.

The operator merges the cluster's own template (SLIMLINE_POD_TEMPLATE) with what the job needs, and
lets the deployment's `pod_mutation_hook` have the last word. What the job needs wins over the
template: image, command, limits, security context; tolerations, node selector, service account,
pull secrets, further environment and mounts are the template's.

The pod meets the Pod Security Standard `restricted`. It shares the process namespace, so that the
job is not process 1 and SIGTERM ends it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes.client import models as k8s  # type: ignore[import-untyped]

from slimline.adapters.cluster import (
    GPU,
    TRUSTED_KEYS_PATH,
    TRUSTED_KEYS_VARIABLE,
    USER,
    pullable,
    secret_references,
)
from slimline.adapters.runners.pod.settings import pod_environment
from slimline.contract import BadParameters, load_component
from slimline.contract.artifact import local_path
from slimline.contract.job import IMAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slimline.adapters.images import Image
    from slimline.adapters.runners import Launch
    from slimline.adapters.runners.pod.settings import PodSettings
    from slimline.contract import Resources

CONTAINER = "base"
JOBS = {"app.kubernetes.io/name": "slimline", "app.kubernetes.io/component": "job"}
"""The labels of every job's pod."""
IDENTITY, CLAIM = "dev.slimline.identity", "dev.slimline.claim"
GRACE_SECONDS = 8
"""What a stopped job has to save what it reached; a killed Airflow task has ten."""
WORK, TMP, SHARED_MEMORY = "/work", "/tmp", "/dev/shm"  # noqa: S108 - the pod's own volumes

_NAME_DIGITS = 24
_SPARE_SECONDS = 300
_TMP_SIZE = "2Gi"


def pod_name(identity: str) -> str:
    """The name of a job's pod: there is one at a time, whoever asks for it."""
    return f"slimline-{identity[:_NAME_DIGITS]}"


def build_pod(launch: Launch, image: Image, settings: PodSettings) -> Any:
    """The pod of a job (a V1Pod).

    Args:
        launch: the job.
        image: what the lock says of its image.
        settings: what the deployment says.

    Raises:
        BadParameters: when the job cannot be a pod, or the template cannot be read.
    """
    _check(launch)
    # Airflow takes seconds to import: only where a pod is made.
    from airflow.providers.cncf.kubernetes.operators.pod import (
        KubernetesPodOperator,
    )

    volumes = dict(_volumes(launch.needs, settings))
    operator = KubernetesPodOperator(
        task_id=pod_name(launch.identity),
        name=pod_name(launch.identity),
        random_name_suffix=False,
        namespace=settings.namespace,
        full_pod_spec=_base(launch.needs, settings),
        base_container_name=CONTAINER,
        image=pullable(launch.image, image),
        image_pull_policy="IfNotPresent",
        cmds=["slimline"],
        arguments=["run", *launch.arguments],
        env_vars=list(_environment(launch, image, settings)),
        volumes=list(volumes.values()),
        volume_mounts=[
            k8s.V1VolumeMount(name=v.name, mount_path=path, read_only=v.config_map is not None)
            for path, v in volumes.items()
        ],
        container_resources=_resources(launch.needs),
        security_context=_pod_security(),
        container_security_context=_container_security(),
        automount_service_account_token=False,
        labels=_labels(launch),
        annotations={IDENTITY: launch.identity, CLAIM: launch.claim},
        termination_grace_period=GRACE_SECONDS,
        active_deadline_seconds=launch.needs.timeout_minutes * 60 + _SPARE_SECONDS,
        termination_message_policy="FallbackToLogsOnError",
        do_xcom_push=False,
    )
    pod = operator.build_pod_request_obj(dry_run=True)
    _check_store(launch.store, pod)
    return pod


def _check(launch: Launch) -> None:
    if launch.needs.engine:
        msg = (
            f"{launch.component} starts containers and needs a Docker engine, which a pod has not: "
            "give its task `runner: docker` or `runner: process` in the recipe"
        )
        raise BadParameters(msg)


def _check_store(store: str, pod: Any) -> None:
    if store.startswith("s3://"):
        return
    path = local_path(store)
    mounts = [Path(m.mount_path) for m in pod.spec.containers[0].volume_mounts or ()]
    if not any(path.is_relative_to(m) for m in mounts if str(m) not in (WORK, TMP, SHARED_MEMORY)):
        msg = (
            f"store {store} is a directory, which a pod does not see: set SLIMLINE_STORE to "
            "s3://bucket/prefix, or mount that path in SLIMLINE_POD_TEMPLATE"
        )
        raise BadParameters(msg)


def _base(needs: Resources, settings: PodSettings) -> Any:
    pod = _template(settings.template) if settings.template else k8s.V1Pod(spec=None)
    pod.metadata = pod.metadata or k8s.V1ObjectMeta()
    pod.spec = pod.spec or k8s.V1PodSpec(containers=[])
    pod.spec.share_process_namespace = True
    pod.spec.enable_service_links = False
    if needs.gpu:
        tolerated = k8s.V1Toleration(key=GPU, operator="Exists", effect="NoSchedule")
        pod.spec.tolerations = [*(pod.spec.tolerations or ()), tolerated]
    return pod


def _template(file: str) -> Any:
    from airflow.providers.cncf.kubernetes.pod_generator import (
        PodGenerator,
    )

    if not Path(file).is_file():
        msg = f"SLIMLINE_POD_TEMPLATE is {file!r}: there is no such file"
        raise BadParameters(msg)
    try:
        return PodGenerator.deserialize_model_file(file)
    except Exception as error:
        msg = f"SLIMLINE_POD_TEMPLATE {file} is no pod: {error}"
        raise BadParameters(msg) from error


def _labels(launch: Launch) -> dict[str, str]:
    return {
        **JOBS,
        IDENTITY: launch.identity[:_NAME_DIGITS],  # 63 characters at most; whole as annotation
        "dev.slimline.component": launch.component,
        "dev.slimline.image": launch.image,
        "dev.slimline.network": "open" if launch.needs.network else "store",
    }


def _environment(launch: Launch, image: Image, settings: PodSettings) -> Iterator[Any]:
    values = pod_environment(launch.environment, launch.needs) | {IMAGE_VARIABLE: image.digest}
    if settings.trusted_keys:
        values[TRUSTED_KEYS_VARIABLE] = TRUSTED_KEYS_PATH
    for name, value in sorted(values.items()):
        yield k8s.V1EnvVar(name=name, value=value)
    component = load_component(launch.arguments[0])
    for reference in secret_references(component, launch.needs):
        for variable in reference.variables:
            key = k8s.V1SecretKeySelector(
                name=reference.secret, key=variable, optional=reference.optional
            )
            yield k8s.V1EnvVar(name=variable, value_from=k8s.V1EnvVarSource(secret_key_ref=key))


def _volumes(needs: Resources, settings: PodSettings) -> Iterator[tuple[str, Any]]:
    for path, size, medium in (
        (WORK, settings.work_size, None),
        (TMP, _TMP_SIZE, None),
        (SHARED_MEMORY, needs.memory, "Memory"),  # it counts as the container's own
    ):
        empty = k8s.V1EmptyDirVolumeSource(size_limit=size, medium=medium)
        yield path, k8s.V1Volume(name=f"slimline{path.replace('/', '-')}", empty_dir=empty)
    if settings.trusted_keys:
        keys = k8s.V1ConfigMapVolumeSource(name=settings.trusted_keys)
        yield TRUSTED_KEYS_PATH, k8s.V1Volume(name="slimline-trusted-keys", config_map=keys)


def _resources(needs: Resources) -> Any:
    """Requests equal limits: what a job was promised it has, and no more."""
    amounts = {"cpu": f"{needs.cpu:g}", "memory": needs.memory}
    if needs.gpu:
        amounts[GPU] = str(needs.gpu)
    return k8s.V1ResourceRequirements(requests=amounts, limits=dict(amounts))


def _pod_security() -> Any:
    return k8s.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        run_as_group=USER,
        fs_group=USER,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def _container_security() -> Any:
    return k8s.V1SecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        read_only_root_filesystem=True,
        allow_privilege_escalation=False,
        privileged=False,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )
