"""Every structure of the zoo loses half of what can go, comes back from disk, and exports."""

import copy
from functools import cache

import onnxruntime
import pytest
import torch
from support.structures import CLASSES, STRUCTURES
from torch.utils.flop_counter import FlopCounterMode

from slimline.data.preprocess import Preprocessing
from slimline.models.build import MODULES_VARIABLE, load_torch_model, save_torch_model
from slimline.models.edit import apply_edits
from slimline.models.info import Cut, Factory, ModelInfo
from slimline.models.to_onnx import to_onnx
from slimline.prune.edits import edits_for
from slimline.prune.graph import find_groups

OPSET = 20


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
def test_it_exports_with_a_dynamic_batch_and_answers_alike(name):
    cut, x = halved(name)[2], STRUCTURES[name].example(batch=5, seed=1)
    exported = to_onnx(cut, x[:2].numpy(), OPSET)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        (answer,) = session.run(None, {"input": x[:batch].numpy()})
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(answer), cut(x[:batch]), rtol=1e-4, atol=1e-4
            )
