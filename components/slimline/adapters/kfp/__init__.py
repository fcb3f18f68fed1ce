"""Components and recipes as Kubeflow Pipelines v2 YAML.

kfp itself is not needed, and Airflow leaves no room for it. The format is the pipeline IR that
`kfp.components.load_component_from_text` reads (schema 2.1.0,
https://github.com/kubeflow/pipelines/tree/master/api), with a second document for Kubernetes.

    component.py   one container component: its interface, its command, its limits
    platform.py    what Kubernetes adds: Secrets and ConfigMaps by name, user, GPU tolerations
    pipeline.py    a recipe's steps as a pipeline, with the verdict as a task that fails
    document.py    the YAML

Under Kubeflow, artifacts come as local directories and outputs are directories to fill. A job's
own store is the pipeline's input `store`: a directory of its container by default, so that Kubeflow
alone keeps what was made; with `s3://...` equal jobs are reused, also those that Airflow ran.
Kubeflow does not read exit codes: a step that fails is tried twice more, whatever the reason.
"""

from slimline.adapters.kfp.component import component_yaml
from slimline.adapters.kfp.pipeline import pipeline_yaml

__all__ = ["component_yaml", "pipeline_yaml"]
