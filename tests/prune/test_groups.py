"""Removing a channel does what silencing it does: both networks answer the same."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from slimline.models import zoo
from slimline.models.edit import apply_edits
from slimline.prune.cut import cut_channels
from slimline.prune.graph import find_groups


def job(**changes):
    return SimpleNamespace(
        **({"ratio": 0.5, "importance": "l2", "scope": "local", "round_to": 2} | changes)
    )


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(a, 8, 3, padding=1) for a in (3, 8, 8))
        self.bn, self.head = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 1)
        self.linear = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.bn(torch.cat([self.left(x), self.right(x)], dim=1)).relu()
        x = nn.functional.max_pool2d(self.head(x), 2)
        return self.linear(x.flatten(1))


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        x = self.bn(self.conv(x)).relu()
        scale = self.excite(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1)).relu())
        pooled = (x * scale).mean([2, 3]) if x.shape == scale.shape else x.mean([2, 3])
        return self.linear(pooled)


class Shuffled(nn.Module):
    """Its second layer's channels are summed up in their order, its third one's are not."""

    def __init__(self):
        super().__init__()
        self.free, self.tied = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.last, self.linear = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.tied(self.free(x).relu()).cumsum(dim=1)
        return self.linear(self.last(x).relu().mean([2, 3]))


class Constant(nn.Module):
    """A size that stands in the code."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.linear = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x):
        return self.linear(self.two(self.one(x).relu()).relu().view(-1, 128))


NETWORKS = {
    "plain": lambda: zoo.small_cnn((8, 8, 16), classes=5, channels=3),
    "option A": lambda: zoo.cifar_resnet(14, "A", (4, 8, 16), classes=5),
    "option B": lambda: zoo.cifar_resnet(8, "B", (4, 8, 16), classes=5),
    "depthwise": lambda: zoo.mobilenet_v2(0.25, classes=5),
    "resnet-18": lambda: zoo.resnet18(4, classes=5),
    "concatenation and flatten": Concat,
    "squeeze and excite": Gate,
}


def ready(what):
    """The network with batch norm statistics that are not the fresh ones."""
    torch.manual_seed(0)
    module = what()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
    return module.eval()


def size(module):
    return sum(p.numel() for p in module.parameters())


def silenced(module, edits):
    """The uncut network with the channels of the edits at zero where they are made."""
    quiet = copy.deepcopy(module)
    for edit in edits:
        owner, _, attribute = edit.parameter.rpartition(".")
        if edit.axis != 0 or attribute not in ("weight", "bias"):
            continue
        gone = sorted(
            set(range(len(getattr(quiet.get_submodule(owner), attribute)))) - set(edit.keep)
        )
        with torch.no_grad():
            getattr(quiet.get_submodule(owner), attribute)[gone] = 0
    return quiet


@pytest.mark.parametrize("what", NETWORKS)
def test_a_cut_network_answers_as_the_one_whose_channels_are_silenced(what):
    module = ready(NETWORKS[what])
    x = torch.randn(2, 3, 8 if what != "resnet-18" else 32, 8 if what != "resnet-18" else 32)
    cut = cut_channels(module, x, job())
    with torch.no_grad():
        torch.testing.assert_close(
            cut.module(x), silenced(module, cut.edits)(x), rtol=1e-4, atol=1e-5
        )
    assert size(cut.module) < 0.6 * size(module)
    replayed = apply_edits(copy.deepcopy(module), cut.edits)
    with torch.no_grad():
        assert torch.equal(replayed(x), cut.module(x))


def test_a_cut_network_can_be_cut_again():
    module = ready(NETWORKS["option A"])
    x = torch.randn(2, 3, 16, 16)
    once = cut_channels(module, x, job(round_to=1, ratio=0.25))
    twice = cut_channels(once.module, x, job(round_to=1, ratio=0.5))
    replayed = apply_edits(copy.deepcopy(module), (*once.edits, *twice.edits))
    with torch.no_grad():
        assert torch.equal(replayed(x), twice.module(x))
    assert size(twice.module) < size(once.module)


def test_what_is_not_understood_is_left_alone_with_the_reason_and_the_rest_is_cut():
    module = ready(Shuffled)
    cut = cut_channels(module, torch.randn(2, 3, 8, 8), job())
    assert cut.module.free.out_channels == 4
    assert cut.module.tied.out_channels == 8
    assert cut.module.last.out_channels == 4
    assert "cumsum" in cut.left_alone["tied"]
    assert "answer" in cut.left_alone["linear"]


def test_a_size_that_stands_in_the_code_is_left_alone_and_the_rest_is_cut():
    cut = cut_channels(ready(Constant), torch.randn(2, 3, 8, 8), job())
    assert cut.module.one.out_channels == 4
    assert cut.module.two.out_channels == 8
    assert "view" in cut.left_alone["two"]


def test_the_answer_and_the_input_keep_their_channels():
    module = ready(NETWORKS["plain"])
    groups, left_alone = find_groups(module, torch.randn(2, 3, 8, 8))
    cuttable = {tensor for group in groups for tensor in group.tensors}
    assert ("conv1.weight", 1) not in cuttable
    assert ("linear.weight", 0) not in cuttable
    assert list(left_alone) == ["linear"]


@pytest.mark.parametrize(
    ("round_to", "expected"), [(1, [11, 17, 22]), (4, [12, 16, 24]), (8, [16, 16, 24])]
)
def test_widths_snap_to_multiples(round_to, expected):
    module = ready(lambda: zoo.small_cnn((16, 24, 32), channels=3))
    cut = cut_channels(module, torch.randn(2, 3, 8, 8), job(ratio=0.3, round_to=round_to))
    widths = [cut.module.get_submodule(f"conv{i}").out_channels for i in (1, 2, 3)]
    assert widths == expected


@pytest.mark.parametrize("importance", ["l1", "l2"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_channels_with_the_smallest_weights_go(importance, scope):
    module = ready(lambda: zoo.small_cnn((8, 8), channels=3))
    small = {1, 4, 5, 6}
    with torch.no_grad():
        for layer, axis in ((module.conv1, 0), (module.bn1, 0), (module.conv2, 1)):
            for i in small:
                layer.weight.select(axis, i).mul_(0.01)
    cut = cut_channels(
        module, torch.randn(2, 3, 8, 8), job(importance=importance, scope=scope, round_to=1)
    )
    kept = next(e.keep for e in cut.edits if (e.parameter, e.axis) == ("conv1.weight", 0))
    assert not small & set(kept)
