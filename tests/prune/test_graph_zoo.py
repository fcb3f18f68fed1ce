"""Every structure of the zoo loses half of what can go, comes back from disk, and exports."""

import copy
import random
from functools import cache

import onnxruntime
import pytest
import torch
from support.structures import CLASSES, STRUCTURES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from slimline.data.preprocess import Preprocessing
from slimline.models.build import MODULES_VARIABLE, load_torch_model, save_torch_model
from slimline.models.edit import apply_edits
from slimline.models.info import Cut, Factory, ModelInfo
from slimline.models.to_onnx import to_onnx
from slimline.prune.edits import edits_for
from slimline.prune.graph import find_groups

OPSET = 20
TOGETHER = 8


@cache
def found(name):
    """The uncut network and its groups."""
    module = STRUCTURES[name].network()
    return module, find_groups(module, STRUCTURES[name].example())[0]


def halved(name, *, exact=False):
    """The uncut network, the edits that take half of each group, and the cut network."""
    module, groups = found(name)
    groups = [group for group in groups if group.exact or not exact]
    keep = [range(len(group.units) // 2, len(group.units)) for group in groups]
    edits = edits_for(module, groups, keep)
    return module, edits, apply_edits(copy.deepcopy(module), edits).eval()


def silenced(module, edits):
    """The uncut network with all weights of what the edits take at zero."""
    quiet = copy.deepcopy(module)
    state = quiet.state_dict()
    for edit in edits:
        if isinstance(edit, Cut) and not edit.parameter.endswith(("padding", "_mean", "_var")):
            lost = set(range(state[edit.parameter].shape[edit.axis])) - set(edit.keep)
            state[edit.parameter].index_fill_(edit.axis, torch.tensor(sorted(lost)), 0)
    return quiet


def size(module):
    return sum(p.numel() for p in module.parameters())


def macs(module, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() // 2


def info(name, edits):
    return ModelInfo(
        name="zoo",
        stage="pruned",
        format="torch",
        labels=tuple("abcde"[:CLASSES]),
        preprocessing=Preprocessing(shape=STRUCTURES[name].shape, dtype="float32"),
        factory=Factory(call=f"support.structures:{STRUCTURES[name].factory.__name__}"),
        edits=edits,
    )


@pytest.mark.parametrize("name", STRUCTURES)
def test_it_gets_smaller_and_comes_back_from_disk(name, tmp_path, monkeypatch):
    monkeypatch.setenv(MODULES_VARIABLE, "support")
    module, edits, cut = halved(name)
    x = STRUCTURES[name].example()
    assert size(cut) < 0.9 * size(module)
    assert macs(cut, x) < 0.95 * macs(module, x)
    save_torch_model(cut, info(name, edits), tmp_path)
    loaded, _ = load_torch_model(tmp_path)
    with torch.no_grad():
        assert cut(x).shape == module(x).shape
        assert torch.equal(loaded(x), cut(x))


@pytest.mark.parametrize("name", STRUCTURES)
def test_it_answers_as_if_what_is_gone_had_no_weight(name):
    module, edits, cut = halved(name, exact=True)
    x = STRUCTURES[name].example(batch=3, seed=2)
    assert edits
    with torch.no_grad():
        torch.testing.assert_close(cut(x), silenced(module, edits)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STRUCTURES)
def test_any_number_of_units_can_go(name):
    module, groups = found(name)
    draw = random.Random(name)  # noqa: S311 - the same in every run
    counts = [draw.randint(1, len(group.units)) for group in groups]
    keep = [
        sorted(draw.sample(range(len(group.units)), count))
        for group, count in zip(groups, counts, strict=True)
    ]
    x = STRUCTURES[name].example(batch=3)
    cut = apply_edits(copy.deepcopy(module), edits_for(module, groups, keep)).eval()
    with torch.no_grad():
        assert cut(x).shape == module(x).shape


@pytest.mark.parametrize(
    "name",
    [
        "residual option A (F.pad, attribute)",
        "channel shuffle (ShuffleNetV1)",
        "split by attributes",
        "vision transformer",
        "LSTM",
    ],
)
def test_what_was_cut_can_be_cut_again_and_both_cuts_replay_as_one(name):
    _, edits, once = halved(name)
    x = STRUCTURES[name].example()
    groups, _ = find_groups(once, x)
    more = edits_for(once, groups, [range(1, len(group.units)) for group in groups])
    twice = apply_edits(copy.deepcopy(once), more).eval()
    replayed = apply_edits(STRUCTURES[name].network(), (*edits, *more)).eval()
    assert size(twice) < size(once)
    with torch.no_grad():
        assert torch.equal(replayed(x), twice(x))


class Several(nn.Module):
    """Networks of one input, their answers side by side: one export takes half of the time."""

    def __init__(self, networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x):
        return torch.cat([network(x).flatten(1) for network in self.networks], 1)


@cache
def exported(names):
    cut = Several([halved(name)[2] for name in names]).eval()
    file = to_onnx(cut, STRUCTURES[names[0]].example().numpy(), OPSET)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def companions(name):
    """Structures that are exported with this one, in order."""
    alike = [n for n, s in STRUCTURES.items() if s[1:] == STRUCTURES[name][1:]]
    first = alike.index(name) // TOGETHER * TOGETHER
    return tuple(alike[first : first + TOGETHER])


@pytest.mark.parametrize("name", STRUCTURES)
def test_it_exports_with_a_dynamic_batch_and_answers_alike(name):
    names = companions(name)
    x = STRUCTURES[name].example(batch=5, seed=1)
    with torch.no_grad():
        wanted = halved(name)[2](x).flatten(1)
        before = sum(halved(n)[2](x[:1]).numel() for n in names[: names.index(name)])
    for batch in (1, 5):
        (answer,) = exported(names).run(None, {"input": x[:batch].numpy()})
        own = torch.from_numpy(answer)[:, before : before + wanted.shape[1]]
        torch.testing.assert_close(own, wanted[:batch], rtol=1e-4, atol=1e-4)
