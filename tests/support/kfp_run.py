"""Run by the Python of kfp's own environment: load, compile, or run Kubeflow YAML.

python kfp_run.py compile FILE...            loads and compiles each; prints what was found
python kfp_run.py run FILE ROOT ARGS  runs a pipeline in Docker; ARGS is JSON
"""

import json
import sys
import tempfile
from pathlib import Path

import yaml
from kfp import compiler, components, local
from kfp.local import executor_output_utils

_OUTPUTS = executor_output_utils.get_outputs_from_executor_output


def compile_all(files: list[str]) -> None:
    """Each file as kfp understands it, and what kfp makes of it again."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            loaded = components.load_component_from_file(file)
            again = Path(folder, "again.yaml")
            compiler.Compiler().compile(loaded, str(again))
            pipeline, platforms = yaml.safe_load_all(again.read_text())
            told[Path(file).stem] = {
                "inputs": sorted(loaded.component_spec.inputs or {}),
                "tasks": sorted(pipeline["root"]["dag"]["tasks"]),
                "platform": sorted(
                    platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
                ),
            }
    sys.stdout.write(json.dumps(told))


def run(file: str, root: str, arguments: str) -> None:
    """Run a pipeline; its containers have no network, and write to volumes alone."""
    from docker.models.images import ImageCollection  # noqa: PLC0415 - for this alone

    # kfp pulls what it finds under no tag; the lock names images by id, and they are here.
    ImageCollection.pull = ImageCollection.get
    executor_output_utils.get_outputs_from_executor_output = _outputs_as_on_a_server
    runner = local.DockerRunner(
        entrypoint="env",  # the images' own is `slimline`, which the command names already
        tmpfs={"/tmp": "size=1g"},  # noqa: S108 - in the container
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
    )
    local.init(runner=runner, pipeline_root=root, workspace_root=f"{root}/workspace")
    components.load_component_from_text(_all_given(file))(**json.loads(arguments))


def _outputs_as_on_a_server(
    executor_output: object, executor_input: object, component_spec: object
) -> dict[str, object]:
    """Take the artifacts where they were to be written, as Kubeflow's launcher does.

    The local runner knows those alone that kfp's own Python executor lists in a file.
    """
    for name, artifacts in executor_input.outputs.artifacts.items():
        executor_output.artifacts[name].CopyFrom(artifacts)
    return _OUTPUTS(executor_output, executor_input, component_spec)


def _all_given(file: str) -> str:
    """The pipeline without inputs that have no value: Kubeflow's servers know what to do."""
    pipeline, platforms = yaml.safe_load_all(Path(file).read_text())
    root = pipeline["root"]
    inputs = root["inputDefinitions"]["parameters"]
    absent = {n for n, i in inputs.items() if i.get("isOptional") and "defaultValue" not in i}
    for name, task in root["dag"]["tasks"].items():
        known = pipeline["components"][f"comp-{name}"]["inputDefinitions"]["parameters"]
        given = task["inputs"]["parameters"]
        for parameter in [
            n for n, i in given.items() if i.get("componentInputParameter") in absent
        ]:
            del given[parameter], known[parameter]
    for name in absent:
        del inputs[name]
    return yaml.safe_dump_all([pipeline, platforms])


if __name__ == "__main__":
    {"compile": lambda *files: compile_all(list(files)), "run": run}[sys.argv[1]](*sys.argv[2:])
