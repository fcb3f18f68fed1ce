"""Make the network that a chain stands for, by running its components as jobs inside this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters, Model, load_component, run_inside
from slimline.models.build import build, completed, save_torch_model
from slimline.models.info import Factory, ModelInfo, load_model_info
from slimline.models.network import check_classes
from slimline.models.onnx_file import example_inputs
from slimline.search.space import ChainStep, is_trained, may_train, works_untrained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from slimline.contract import Artifact, Component
    from slimline.contract.job import Outcome
    from slimline.search.trial.spec import Trial

_GIVEN = frozenset({"train", "selection", "examples", "calibration", "initial"})
"""Optional inputs that a component is given, as a DAG gives them; others stay empty."""


@dataclass(frozen=True)
class Assembled:
    """What a chain made so far: where it is, and what can be said of it."""

    torch: Model
    onnx: Model | None = None
    trained: bool = True
    """False when a network in it has fresh weights."""
    exact: bool = True
    """False when the shape of the untrained network may differ from that of the trained one."""
    training_seconds: float = 0.0


def assemble(job: Trial, scratch: Path) -> Assembled:
    """Run the chain; where the job names no epochs, what would be trained keeps fresh weights.

    Args:
        job: staged.
        scratch: an empty directory, for a network with fresh weights.

    Raises:
        SlimlineError: what a component of the chain says.
    """
    made = Assembled(job.teacher)
    for step in job.chain:
        if job.epochs or not may_train(step):
            made = _run(job, step, made)
        elif "factory" in load_component(step.component).parameters():
            made = replace(made, torch=_fresh(job, step, scratch), trained=False)
        elif works_untrained(step):
            made = replace(_run(job, step, made, epochs=0), trained=False)
        else:  # it changes weights and no shape
            made = replace(made, trained=False)
    return made


def _run(job: Trial, step: ChainStep, made: Assembled, epochs: int | None = None) -> Assembled:
    """One component; of the rounds of training, only a network that can go on has more than one."""
    rounds = job.epochs if is_trained(step) else ()
    if epochs is not None:
        rounds = (epochs,)
    elif rounds and "initial" not in load_component(step.component).inputs():
        rounds = rounds[-1:]
    before: Model | None = None
    outcome = None
    for count in rounds or (None,):
        given = {} if count is None else {"epochs": count}
        outcome = run_inside(_wired(job, step, made, given, before))
        before = _model(outcome)
    assert outcome is not None  # noqa: S101 - there is at least one round
    assert before is not None  # noqa: S101
    if made.onnx is not None or step.component == "export":
        return replace(made, onnx=before)
    shaped = step.component in {"prune", "reshape"} and not made.trained
    seconds = _fit_seconds(outcome) if rounds and epochs is None else 0.0
    return replace(
        made,
        torch=before,
        exact=made.exact and not shaped,
        training_seconds=made.training_seconds + seconds,
    )


def _fit_seconds(outcome: Outcome) -> float:
    """What its epochs took: teachers are asked once, whatever number of epochs comes next."""
    return float(outcome.manifest.numbers.get("seconds", outcome.manifest.seconds))


def _wired(
    job: Trial, step: ChainStep, made: Assembled, given: Mapping[str, Any], before: Model | None
) -> Component:
    """The component's job, its inputs found by their names.

    Raises:
        BadParameters: when it needs an input that a trial does not have.
    """
    kind = load_component(step.component)
    found: dict[str, Artifact | None] = {
        "model": made.onnx or made.torch,
        "teacher": job.teacher,
        "train": job.train,
        "selection": job.selection,
        "examples": job.selection,
        "calibration": job.train,
        "initial": before,
    }
    inputs: dict[str, Any] = {}
    for name, port in kind.inputs().items():
        artifact = found.get(name)
        if artifact is None and port.required:
            msg = f"{step.component} needs the input {name}, which a trial does not have"
            raise BadParameters(msg)
        if artifact is not None and (port.required or name in _GIVEN):
            inputs[name] = (artifact,) if port.many else artifact
    return kind.parse({**step.parameters, **given, **inputs})


def _model(outcome: Outcome) -> Model:
    return next(a for a in outcome.outputs.values() if isinstance(a, Model))


def _fresh(job: Trial, step: ChainStep, scratch: Path) -> Model:
    """The network that a step would train, with fresh weights, as a model artifact."""
    import torch

    teacher = load_model_info(job.teacher.path)
    named = Factory.model_validate(step.parameters["factory"])
    channels = teacher.preprocessing.shape[-1]
    info = ModelInfo(
        name=teacher.name,
        stage="untrained",
        format="torch",
        labels=teacher.labels,
        preprocessing=teacher.preprocessing,
        factory=completed(named, classes=len(teacher.labels), channels=channels),
    )
    assert info.factory is not None  # noqa: S101 - made above
    torch.manual_seed(0)
    module = build(info.factory)
    check_classes(module, info)
    with torch.no_grad():  # as if trained: batch norms that differ, so that none is folded away
        module.train()(torch.from_numpy(example_inputs(teacher.preprocessing)))
    target = scratch / "untrained"
    target.mkdir()
    save_torch_model(module, info, target)
    return Model.at(target)
