"""Every component does the same in a child process and in a container.

One small job of each is run by both with the same image digest: the identity, the exit code and,
where a component always makes the same bytes, the digests of its outputs are equal. So is what it
says of an input that is none. What a pod is given is rendered from the same `Launch` in
`tests/runners/test_pod_spec.py`; a cluster is needed to run it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from conformance.cases import CASES, Case, World, give_to_containers
from support.docker_bench import development_mounts
from support.probe import install

from slimline.adapters.argv import to_argv
from slimline.adapters.runners import Launch
from slimline.adapters.runners.docker import DockerRunner
from slimline.adapters.runners.docker.container import Settings
from slimline.adapters.runners.docker.engine import Engine
from slimline.adapters.runners.environment import job_environment
from slimline.adapters.runners.process import ProcessRunner
from slimline.contract import (
    Component,
    component_names,
    digest_json,
    load_component,
    open_store,
)
from slimline.contract.cache import read_manifest
from slimline.contract.job import identify
from slimline.contract.store import save_artifact

if TYPE_CHECKING:
    from slimline.adapters.runners import Runner
    from slimline.contract.manifest import Manifest

pytestmark = pytest.mark.docker


@dataclass
class Stage:
    """Runs a case's job by one runner."""

    name: str
    runner: Runner
    image: str
    """What stands for the image in identities, of both runners."""
    digest: str = ""
    """Of the image that really runs."""

    def run(self, job: Component, case: Case, store: str) -> tuple[int, list[str], str]:
        kind = type(job)
        identity = identify(job, self.image).digest
        options = ["--store", store, "--work-dir", self.runner.work_path(identity)]
        base = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
        # As many cores as a process sees: how sums are split among threads moves their last bits.
        needs = replace(job.resources(), cpu=len(os.sched_getaffinity(0)), memory="2Gi")
        launch = Launch(
            identity=identity,
            component=kind.component_name(),
            image=kind.image,
            arguments=(*to_argv(job), *options, "--image-digest", self.image),
            environment=job_environment(kind, case.environment, needs, base=base),
            needs=needs,
            store=store,
            claim="conformance",
        )
        lines: list[str] = []
        handle = self.runner.start(launch)
        try:
            return handle.wait(lines.append), lines, identity
        finally:
            handle.discard()


@pytest.fixture(scope="module")
def world(tmp_path_factory, s3, mlflow_server):
    return World(tmp_path_factory.mktemp("world"), mlflow_server.url, s3)


@pytest.fixture
def stages(world, tmp_path, monkeypatch):
    """A case's two ways to run."""
    install(monkeypatch)

    def make(network: str, image: str) -> tuple[Stage, Stage]:
        mounts = development_mounts(f"{world.root}:{world.root}")
        settings = Settings(network=network, store_network=network, mounts=mounts)
        docker = DockerRunner(Engine(), settings)
        locked = docker.lock.image(image)
        process = Stage("process", ProcessRunner(tmp_path / "work"), locked.environment)
        return process, Stage("docker", docker, locked.environment, locked.digest)

    return make


def _stored(values: dict[str, Any], kind: type[Component], store: str) -> Component:
    """The job with its inputs lying in a store."""
    opened, found = open_store(store), dict(values)
    for name in kind.inputs():
        if name in found:
            kept = save_artifact(opened, found[name])
            found[name] = {"uri": kept.uri, "digest": kept.digest}
    return kind.parse(found)


def test_every_component_has_a_case():
    assert set(CASES) == set(component_names())


@pytest.mark.parametrize("name", CASES)
def test_a_job_is_the_same_in_a_process_and_in_a_container(name, world, stages):
    case, kind = CASES[name](world), load_component(name)
    values = case.values()

    def done(stage: Stage) -> Manifest:
        store = case.store(stage.name)
        with case.around():
            job = _stored(values, kind, store)
            give_to_containers(world.root)
            code, lines, identity = stage.run(job, case, store)
        assert code == 0, "\n".join(lines)
        found = read_manifest(open_store(store), identity)
        assert found is not None
        return found

    both = stages(case.network, kind.image)
    with ThreadPoolExecutor(1 if case.alone else 2) as pool:
        process, docker = pool.map(done, both)
    assert docker.identity == process.identity
    assert docker.numbers.keys() == process.numbers.keys()
    assert docker.versions["image"] == both[1].digest
    digests = {
        output: (process.outputs[output].digest, docker.outputs[output].digest)
        for output in kind.outputs()
    }
    equal = {output for output, (one, other) in digests.items() if one == other}
    assert equal >= set(case.same), digests
    assert bool(case.why) == (set(case.same) != set(kind.outputs()))


@pytest.mark.parametrize("name", [n for n in CASES if load_component(n).inputs()])
def test_an_input_that_is_none_is_refused_in_the_same_words(name, world, stages, tmp_path):
    case, kind = CASES[name](world), load_component(name)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "junk.txt").write_text("this is not what was asked for")
    values = case.values()
    first = next(port for port in kind.inputs().values() if port.name in values)
    values[first.name] = first.artifact.at(tmp_path / "junk")

    def refused(stage: Stage) -> tuple[int, str]:
        store = str(world.root / f"bad-{name}-{stage.name}")
        job = _stored(values, kind, store)
        give_to_containers(world.root / f"bad-{name}-{stage.name}")
        code, lines, identity = stage.run(job, case, store)
        said = [line for line in lines if line.startswith("slimline: ")]
        work = stage.runner.work_path(identity)
        return code, "\n".join(said).replace(store, "STORE").replace(work, "WORK")

    with case.around(), ThreadPoolExecutor(2) as pool:
        process, docker = pool.map(refused, stages(case.network, kind.image))
    assert docker == process
    assert process[0] == case.refused
    assert bool(process[1]) == bool(case.refused)


@pytest.mark.parametrize(
    ("ending", "expected"), [("good", 0), ("parameters", 64), ("data", 65), ("later", 75)]
)
def test_exit_codes_are_the_same(ending, expected, world, stages):
    kind = load_component("talk")
    job = kind.parse({"ending": ending, "note": digest_json(str(world.root))})
    case = CASES["check_data"](world)
    give_to_containers(world.root)
    codes = [
        stage.run(job, case, str(world.root / f"talk-{stage.name}"))[0]
        for stage in stages("bridge", "base")
    ]
    assert codes == [expected, expected]
