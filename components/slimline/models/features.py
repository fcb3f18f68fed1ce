"""What layers of teacher and student see: which belong together, and how they are compared.

A forward hook keeps the output of each chosen layer. For hints a regressor, trained along and not
kept, brings the student's channels to the teacher's number (a 1x1 convolution for images, a linear
layer for rows). In the paper a first stage trains on the hint alone; here hint, teacher's answers
and labels are lowered together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from slimline.models.task import Guide

_IMAGES = 4


def make_follower(student: nn.Module, adapters: Sequence[nn.Module], names: Sequence[str]) -> Any:
    """The student as a module that answers (logits, adapted features): what is trained."""
    from torch import nn

    class Follower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.adapters = student, nn.ModuleList(adapters)
            self.seen = watch(student, names)

        def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            logits = self.student(x)
            seen = [self.seen[name] for name in names]
            return logits, [a(f) for a, f in zip(self.adapters, seen, strict=True)]

    return Follower()


def watch(module: nn.Module, names: Sequence[str]) -> Mapping[str, Tensor]:
    """The outputs of some layers in the latest forward pass, by name."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        return lambda _module, _given, output: seen.__setitem__(name, output)

    for name in names:
        module.get_submodule(name).register_forward_hook(note(name))
    return seen


def make_adapters(
    method: str, pairs: Mapping[str, str], student: nn.Module, teacher: nn.Module, example: Tensor
) -> list[nn.Module]:
    """For each pair, what brings the student's features to the teacher's channels."""
    from torch import nn

    if method == "attention":
        return [nn.Identity() for _ in pairs]
    own, given = outputs(student, example), outputs(teacher, example)
    made: list[nn.Module] = []
    for mine, theirs in pairs.items():
        before, after = own[mine].shape[1], given[theirs].shape[1]
        is_images = own[mine].ndim == _IMAGES
        made.append(nn.Conv2d(before, after, 1) if is_images else nn.Linear(before, after))
    return made


def matched_layers(
    guide: Guide, student: nn.Module, teacher: nn.Module, example: Tensor
) -> dict[str, str]:
    """Pairs of layer names, student to teacher: those given, or the last of each common size.

    Raises:
        BadParameters: when a layer is not there, a pair cannot be compared, or none is found.
    """
    own, given = outputs(student, example), outputs(teacher, example)
    if guide.layers:
        pairs = dict(pair.split("=", 1) for pair in guide.layers)
        for mine, theirs in pairs.items():
            _check_pair(guide.method, mine, theirs, own, given)
        return pairs
    lasts, others = _last_of_each_size(own), _last_of_each_size(given)
    common = [size for size in lasts if size in others]
    images = [size for size in common if len(size) > 0]
    chosen = images or ([] if guide.method == "attention" else common)
    if not chosen:
        msg = (
            f"method {guide.method}: no layer of the student has the image size of a teacher's "
            f"layer (student {sorted(lasts)}, teacher {sorted(others)}): give layers as "
            "student=teacher, or use method logits"
        )
        raise BadParameters(msg)
    return {lasts[size]: others[size] for size in chosen}


def outputs(module: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The outputs of all layers but the network's own, in the order in which they end.

    Images (batch, channels, height, width) and rows (batch, features) alone.
    """
    import torch

    seen: dict[str, Tensor] = {}
    handles = []

    def note(name: str) -> Any:
        def keep(_module: nn.Module, _given: Any, output: Any) -> None:
            seen.pop(name, None)
            if isinstance(output, torch.Tensor) and output.ndim in {2, _IMAGES}:
                seen[name] = output

        return keep

    for name, layer in module.named_modules():
        if name:
            handles.append(layer.register_forward_hook(note(name)))
    was, last = module.training, None
    with torch.no_grad():
        last = module.eval()(example)
    module.train(was)
    for handle in handles:
        handle.remove()
    return {name: value for name, value in seen.items() if value is not last}


def _last_of_each_size(seen: Mapping[str, Tensor]) -> dict[tuple[int, ...], str]:
    """Names by height and width; those of 1 x 1 tell nothing of a place, and are left out."""
    sizes = {name: tuple(value.shape[2:]) for name, value in seen.items()}
    return {size: name for name, size in sizes.items() if size != (1, 1)}


def _check_pair(
    method: str,
    mine: str,
    theirs: str,
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
) -> None:
    for who, name, there in (("student", mine, own), ("teacher", theirs, given)):
        if name not in there:
            msg = (
                f"layers {mine}={theirs}: the {who} has no layer {name}; it has {', '.join(there)}"
            )
            raise BadParameters(msg)
    kinds = own[mine].ndim, given[theirs].ndim
    if kinds[0] != kinds[1] or (method == "attention" and kinds[0] != _IMAGES):
        msg = (
            f"layers {mine}={theirs}: method {method} cannot compare {list(own[mine].shape)} with "
            f"{list(given[theirs].shape)}: name layers that both answer with images"
        )
        raise BadParameters(msg)
