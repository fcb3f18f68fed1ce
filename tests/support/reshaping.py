"""Reshape a planted network and look at what came of it."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from pydantic import TypeAdapter
from torch import nn

from slimline.models import zoo
from slimline.models.edit import apply_edits
from slimline.models.info import Edit
from slimline.reshape.methods import reshape
from slimline.reshape.spec import Reshape
from support import reshapable

_EDITS: TypeAdapter[tuple[Edit, ...]] = TypeAdapter(tuple[Edit, ...])


def ready(what):
    """A network with batch norm statistics that are not the fresh ones."""
    torch.manual_seed(0)
    module = getattr(reshapable, what)() if isinstance(what, str) else what()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def inputs(count=400, channels=1, size=8):
    draw = torch.Generator().manual_seed(1)
    return 2 * torch.randn(count, channels, size, size, generator=draw)


def reshaped(module, method, x=None, **parameters):
    """What the room makes of a network; its edits, through JSON, make the same one again."""
    job = Reshape.model_construct(method=method, **{"round_to": 1, **parameters})
    x = inputs() if x is None else x
    bench = reshape(module, job, x)
    text = _EDITS.dump_json(tuple(bench.edits))
    again = apply_edits(copy.deepcopy(module), _EDITS.validate_json(text))
    again.load_state_dict(bench.module.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x[:4]), bench.module(x[:4]))
    return bench


def apart(module, bench, x=None):
    """Largest difference of an answer over the largest."""
    x = inputs() if x is None else x
    with torch.no_grad():
        old, new = module(x), bench.module(x)
    return float((old - new).abs().max() / old.abs().max())


def size(module):
    return sum(p.numel() for p in module.parameters())


def depthwise():
    """The first blocks of a MobileNetV2."""
    whole = zoo.mobilenet_v2(0.25)
    parts = {name: whole.get_submodule(name) for name in ("stem", "block1", "block2", "block3")}
    pool = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(8, 10)}
    return nn.Sequential(OrderedDict({**parts, **pool}))
