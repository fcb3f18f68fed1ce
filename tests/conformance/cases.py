"""One small job of each component: what it is given, and which of its outputs are always the same.

`same` names the outputs whose bytes do not depend on who runs the job or when; `why` tells what the
others hold that does.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from support.digits import _digits
from support.fleet import GROUP, Fleet, make_fleet
from support.packages import tiny_evaluation, tiny_model, tiny_package, tiny_verdict
from support.sagemaker import running
from support.splits import small_factory, write_digits

from slimline.adapters.runners.docker.files import IMAGE_USER
from slimline.contract import Evaluation, Model, Package, Receipt, Report, Verdict
from slimline.contract.artifact import Artifact
from slimline.trust.keys import generate_key
from slimline.trust.package import load_manifest
from slimline.trust.verdict import sign_verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES: dict[str, type[Case]] = {}
FIT = {"epochs": 1, "batch_size": 32}


@dataclass
class World:
    """What all cases share: small inputs, keys, and a directory that both runners see."""

    root: Path
    mlflow: str
    s3: Any
    private: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.private, public = generate_key()
        (self.root / "keys").mkdir()
        (self.root / "keys" / "team.pem").write_text(public)
        self.environment = {
            "SLIMLINE_TRUSTED_KEYS": str(self.root / "keys"),
            "SLIMLINE_SECRET_SIGNING": self.private,
        }

    @cached_property
    def splits(self) -> Any:
        return write_digits(self.root / "digits", most=400)

    @cached_property
    def package(self) -> Package:
        return Package.at(tiny_package(self.root / "package", private_pem=self.private))

    def split(self, name: str) -> Artifact:
        return Artifact.at(getattr(self.splits, name))

    def written(self, kind: type[Artifact], name: str, file: str, content: str | bytes) -> Any:
        """An artifact of one file."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / file).write_bytes(data)
        return kind.at(folder)


@dataclass
class Case:
    """A job of one component; a class below for each."""

    world: World
    same: ClassVar[tuple[str, ...]] = ()
    why: ClassVar[str] = ""
    network: ClassVar[str] = "bridge"
    alone: ClassVar[bool] = False
    """It changes something outside, so one runner waits for the other."""
    refused: ClassVar[int] = 65
    """The exit code for an input that is none."""

    def __init_subclass__(cls) -> None:
        CASES[cls.__name__] = cls

    @property
    def component(self) -> str:
        return type(self).__name__

    @property
    def environment(self) -> dict[str, str]:
        return self.world.environment

    def store(self, runner: str) -> str:
        """An empty store of its own for each runner, or nothing would run twice."""
        return str(self.world.root / "stores" / f"{self.component}-{runner}")

    def values(self) -> dict[str, Any]:
        """Inputs (with their paths) and parameters."""
        raise NotImplementedError

    @contextmanager
    def around(self) -> Iterator[None]:
        """The world as it was before the first run; what must go on meanwhile."""
        yield


class check_data(Case):  # noqa: N801 - named as the component
    same = ("train", "selection", "test", "report")

    def values(self):
        return {"source": {"kind": "sklearn"}, "limit": 60}


class adopt(Case):  # noqa: N801
    same = ("model",)

    def values(self):
        model = _digits().float_onnx.path / "model.onnx"
        target = self.world.root / "own.onnx"
        target.write_bytes(model.read_bytes())
        return {"path": str(target), "train": _digits().train, "preprocessing": _steps()}


class train(Case):  # noqa: N801
    same = ("model",)
    why = "the report tells how long it took"

    def values(self):
        inputs = {name: self.world.split(name) for name in ("train", "selection")}
        return {**inputs, **FIT, "factory": small_factory(4, 8)}


class distill(Case):  # noqa: N801
    same = ("student",)
    why = "the report tells how long it took"

    def values(self):
        inputs = {name: self.world.split(name) for name in ("train", "selection")}
        return {**inputs, **FIT, "teacher": _digits().torch, "factory": small_factory(4, 8)}


class prune(Case):  # noqa: N801
    same = ("pruned",)
    why = "the report tells how long it took"

    def values(self):
        inputs = {name: self.world.split(name) for name in ("train", "selection")}
        return {**inputs, **FIT, "model": _digits().torch}


class reshape(Case):  # noqa: N801
    same = ("reshaped",)
    why = "the report tells how long it took"

    def values(self):
        inputs = {name: self.world.split(name) for name in ("train", "selection")}
        return {**inputs, "model": _digits().torch, "latency_rounds": 0}


class qat(Case):  # noqa: N801
    same = ("trained",)
    why = "the report tells how long it took"

    def values(self):
        inputs = {name: self.world.split(name) for name in ("train", "selection")}
        return {**inputs, **FIT, "model": _digits().torch}


class search(Case):  # noqa: N801
    why = "the front holds measured times, and they choose"

    def values(self):
        inputs = {name: self.world.split(name) for name in ("train", "selection")}
        space = {"factory": [small_factory(4)], "distill": {"learning_rate": [0.01]}}
        limits = {"epochs": [1], "trials": 1, "population": 2, "rounds": 11, "max_drop": 0.5}
        return {**inputs, "teacher": _digits().torch, "space": space, **limits}


class export(Case):  # noqa: N801
    same = ("exported",)

    def values(self):
        return {"model": _digits().torch}


class quantize(Case):  # noqa: N801
    same = ("quantized",)
    why = "the report holds measured times"

    def values(self):
        samples = {"calibration": _digits().train, "calibration_samples": 32}
        return {"model": _digits().float_onnx, **samples}


class validate(Case):  # noqa: N801
    why = "evaluation and report hold measured times"

    def values(self):
        models = {"baseline": _digits().float_onnx, "candidate": _digits().int8}
        return {**models, "test": _digits().test, "latency_rounds": 20, "margin": 0.5}


class gate(Case):  # noqa: N801
    why = "an ECDSA signature holds a random number"
    refused = 0  # its verdict says no

    def values(self):
        tiny_model(self.world.root / "candidate")
        candidate = Model.at(self.world.root / "candidate")
        record = tiny_evaluation(candidate.digest).model_dump_json()
        evaluation = self.world.written(Evaluation, "evaluation", "evaluation.json", record)
        return {"candidate": candidate, "evaluation": evaluation, "margin": 0.02}


class package(Case):  # noqa: N801
    why = "signature, time of building"

    def values(self):
        world, test = self.world, _digits().test
        record = tiny_evaluation(_digits().int8.digest, dataset_digest=test.digest)
        signed = sign_verdict(tiny_verdict(record), _digits().int8.digest, world.private)
        evaluation = record.model_dump_json()
        return {
            "model": _digits().int8,
            "verdict": world.written(Verdict, "verdict", "verdict.dsse.json", signed),
            "evaluation": world.written(Evaluation, "of-int8", "evaluation.json", evaluation),
            "report": world.written(Report, "report", "index.html", "<!doctype html>"),
            "test": test,
            "golden_count": 4,
        }


class verify(Case):  # noqa: N801
    same = ("receipt",)

    def values(self):
        return {"package": self.world.package}


class push(Case):  # noqa: N801
    alone = True
    same = ("receipt",)

    def values(self):
        return {"package": self.world.package, "destination": str(self._place)}

    @property
    def _place(self) -> Path:
        return self.world.root / "releases"

    @contextmanager
    def around(self):
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        yield


class register(Case):  # noqa: N801
    alone = True
    same = ("registration",)
    network = "host"

    @property
    def environment(self):
        return {**super().environment, "MLFLOW_TRACKING_URI": self.world.mlflow}

    def values(self):
        made = self.world.package
        uri = f"s3://bucket/releases/artifacts/{made.digest}"
        receipt = json.dumps({"uri": uri, "digest": made.digest, "bytes": 1, "files": 1})
        record = tiny_evaluation(load_manifest(made.path).model_digest).model_dump_json()
        return {
            "package": made,
            "receipt": self.world.written(Receipt, "receipt", "receipt.json", receipt),
            "evaluation": self.world.written(Evaluation, "judged", "evaluation.json", record),
            "name": "conformance",
        }


class _WithFleet(Case):
    alone = True

    @property
    def fleet(self) -> Fleet:
        if self.component not in self.world.fleets:
            made = make_fleet(self.world.root / f"fleet-{self.component}")
            made.package(1)
            self.world.fleets[self.component] = made
        return self.world.fleets[self.component]

    @property
    def environment(self):
        online = {k: v for k, v in self.fleet.keys.items() if k not in ("root", "targets")}
        secrets = {"SLIMLINE_SECRET_TUF": json.dumps(online)}
        return {**secrets, "SLIMLINE_TRUSTED_KEYS": str(self.fleet.trusted)}

    @property
    def package(self) -> Package:
        return Package.at(self.fleet.home / "packages" / "1")

    @contextmanager
    def around(self):
        """The fleet as it was before the first run."""
        before = self.fleet.home.with_name(f"{self.fleet.home.name}-before")
        if not before.exists():
            shutil.copytree(self.fleet.home, before)
        shutil.rmtree(self.fleet.home)
        shutil.copytree(before, self.fleet.home)
        yield


del CASES["_WithFleet"]


class ota(_WithFleet):  # noqa: N801
    why = "the receipt holds what devices measured"

    def values(self):
        waves = {"canaries": 1, "waves": (100,), "poll_seconds": 0.05}
        target = {"repository": self.fleet.uri, "group": GROUP}
        return {"package": self.package, **target, **waves, "wave_timeout_seconds": 60}

    @contextmanager
    def around(self):
        with super().around():
            agents, ended = [self.fleet.agent(name) for name in ("d1", "d2")], threading.Event()

            def poll() -> None:
                while not ended.wait(0.05):
                    for agent in agents:
                        agent.poll()
                    give_to_containers(self.fleet.home)

            thread = threading.Thread(target=poll)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()


class renew(_WithFleet):  # noqa: N801
    why = "the receipt tells until when the new signatures count"

    def values(self):
        return {"repository": self.fleet.uri}


class watch(_WithFleet):  # noqa: N801
    why = "the receipt tells when each look was taken"

    def values(self):
        looks = {"seconds": 0.2, "poll_seconds": 0.1, "group": GROUP}
        return {"package": self.package, "repository": self.fleet.uri, **looks}

    @contextmanager
    def around(self):
        with super().around():
            self.fleet.tell(self.package.path)
            self.fleet.agent("d1").poll()
            yield


class deploy(Case):  # noqa: N801
    alone = True
    why = "names of models and times are the cloud's"
    network = "host"

    def store(self, runner: str) -> str:
        return f"s3://{self.world.s3.bucket}/conformance-{runner}"

    def values(self):
        role = "arn:aws:iam::123456789012:role/slimline-endpoint"
        image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/serving@sha256:" + "a" * 64
        settings = {"role_arn": role, "image_uri": image, "poll_seconds": 0.05}
        keys = {"SLIMLINE_TRUSTED_KEYS": str(self.world.root / "keys")}
        return {
            "package": self.world.package,
            "target": "sagemaker",
            "sagemaker": {**settings, "environment": keys, "region": "eu-central-1"},
        }

    @property
    def environment(self):
        return {**super().environment, **self.world.s3.environment, "AWS_ENDPOINT_URL": self._url}

    @contextmanager
    def around(self):
        made = self.world.package
        places = {
            f"{self.store(runner)}/artifacts/{made.digest}/": made.path
            for runner in ("process", "docker")
        }
        place = Path(tempfile.mkdtemp(dir=self.world.root))
        with running(place, places) as (_, self._url):
            yield


def give_to_containers(root: Path) -> None:
    """Where tests run as root, containers are another user, who must own what they share."""
    if os.getuid() == 0:
        for path in (root, *root.rglob("*")):
            with suppress(FileNotFoundError):  # a device replaced it meanwhile
                os.chown(path, IMAGE_USER.uid, IMAGE_USER.gid)


def _steps() -> list[dict[str, Any]]:
    steps = json.loads((_digits().float_onnx.path / "model.json").read_text())["preprocessing"]
    found: list[dict[str, Any]] = steps["steps"]
    return found
