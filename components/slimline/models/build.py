"""Keep and rebuild a torch model without pickle: factory, structural edits, safetensors.

A model's `model.json` names the function that builds the uncut network. Because such a file may
come from outside, only factories of trusted packages are ever imported: `slimline.models.zoo`, and
the packages that the environment variable SLIMLINE_FACTORY_MODULES names, separated by commas. The
same rule holds for a factory in a recipe. A package's name stands for its submodules too.
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters
from slimline.contract.code import source_digest
from slimline.models import zoo
from slimline.models.edit import apply_edits
from slimline.models.info import Edit, Factory, ModelInfo, load_model_info, save_model_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

MODULES_VARIABLE = "SLIMLINE_FACTORY_MODULES"
WEIGHTS_FILE = "model.safetensors"


def build(factory: Factory, edits: Iterable[Edit] = ()) -> nn.Module:
    """Call a factory and cut the network to shape; its weights are fresh ones.

    Raises:
        BadParameters: when the factory is not trusted, not found, cannot be called with its
            arguments or does not return a `torch.nn.Module`.
        BadData: when the edits do not fit the network.
    """
    from torch import nn

    function = find_factory(factory.call)
    try:
        inspect.signature(function).bind(**factory.arguments)
        module = function(**factory.arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"factory {factory.call} cannot be called with {factory.arguments}: {error}"
        raise BadParameters(msg) from error
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        msg = f"factory {factory.call} returned {kind}; it must return a torch.nn.Module"
        raise BadParameters(msg)
    return apply_edits(module, edits)


def find_factory(call: str, what: str = "factory") -> Callable[..., Any]:
    """Import the function that `module:function` names, if its package is trusted.

    Args:
        call: its name.
        what: it is for, in errors: a factory, a metric.

    Raises:
        BadParameters: when it is not trusted or not there.
    """
    module, _, attribute = call.partition(":")
    _check_trusted(call, module, what)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        msg = f"{what} {call} cannot be imported: {error}; give module:function of one that can"
        raise BadParameters(msg) from error
    # A trusted module also holds what it imported from elsewhere: that is not its factory.
    _check_trusted(call, getattr(function, "__module__", None) or "builtins", what)
    if not callable(function):
        gives = "a torch.nn.Module" if what == "factory" else "a number for each example"
        msg = f"{what} {call} is not a function: give one that returns {gives}"
        raise BadParameters(msg)
    found: Callable[..., Any] = function
    return found


def factory_source(factory: Factory) -> dict[str, str]:
    """For `Component.outside`: a digest of the source of a factory that is not our own.

    It covers the factory's package and the other trusted ones, as far as they are imported from
    its module. Nothing of them is run.

    Raises:
        BadParameters: when the factory is not trusted, or its module is not there.
    """
    module = factory.call.partition(":")[0]
    _check_trusted(factory.call, module)
    if module == zoo.__name__:
        return {}  # the component's own code digest covers it
    return {"factory": source_digest(module, (name.split(".", 1)[0] for name in _trusted()))}


def completed(factory: Factory, *, classes: int, channels: int) -> Factory:
    """The factory with `classes` and `channels` filled in where it takes them and has none."""
    takes = inspect.signature(find_factory(factory.call)).parameters
    known = {"classes": classes, "channels": channels}
    filled = {k: v for k, v in known.items() if k in takes}
    return Factory(call=factory.call, arguments={**filled, **factory.arguments})


def load_torch_model(path: Path) -> tuple[nn.Module, ModelInfo]:
    """Rebuild the network of a model artifact, in evaluation mode, with its weights.

    Raises:
        BadData: when the artifact holds no torch model, or weights that are not the network's.
    """
    info = load_model_info(path)
    if info.format != "torch" or info.factory is None:
        msg = f"model {info.name} ({info.stage}) is in {info.format}: a torch model is needed here"
        raise BadData(msg)
    module = build(info.factory, info.edits)
    load_weights(module, read_weights(path), f"model {info.name} ({info.stage})")
    return module.eval(), info


def save_torch_model(module: nn.Module, info: ModelInfo, path: Path) -> None:
    """Write a network's weights and description into the directory of an output artifact."""
    from safetensors.torch import save_file

    weights = module.state_dict()
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in weights.items()},
              path / WEIGHTS_FILE)  # fmt: skip
    save_model_info(info, path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a model artifact; raises BadData on a file that is not safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        msg = f"{path / WEIGHTS_FILE} cannot be read as safetensors: {error}"
        raise BadData(msg) from error
    return weights


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Fill a network; every tensor must be there with its shape.

    Counters of batch norm (`num_batches_tracked`) may be missing, as in many published weights.

    Raises:
        BadData: names the tensors that are missing, too many, or of another shape.
    """
    own = module.state_dict()
    wrong = [
        f"{k} is missing" for k in own if k not in weights and not k.endswith("num_batches_tracked")
    ]
    wrong += [f"{k} is not in the network" for k in weights if k not in own]
    wrong += [
        f"{k} is {list(weights[k].shape)}, the network has {list(v.shape)}"
        for k, v in own.items()
        if k in weights and v.shape != weights[k].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""  # noqa: PLR2004 - enough
        msg = (
            f"{what}: the weights do not fit the network: {'; '.join(wrong[:3])}{more}; "
            "give the weights of this factory with these edits"
        )
        raise BadData(msg)
    module.load_state_dict(dict(weights), strict=False)


def _check_trusted(call: str, module: str, what: str = "factory") -> None:
    trusted = _trusted()
    if not any(module == name or module.startswith(f"{name}.") for name in trusted):
        msg = (
            f"{what} {call} is of {module}, which is not trusted here; trusted are "
            f"{', '.join(trusted)}: name its package in {MODULES_VARIABLE} if you trust its code"
        )
        raise BadParameters(msg)


def _trusted() -> list[str]:
    named = os.environ.get(MODULES_VARIABLE, "").split(",")
    return [zoo.__name__, *(name.strip() for name in named if name.strip())]
