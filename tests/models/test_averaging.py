import pytest
import torch
from torch import nn

from slimline.models.averaging import Average
from slimline.models.settings import FitSettings


def network(value):
    module = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(module[0].weight, value)
    return module


def test_the_mean_of_the_last_quarter_of_the_epochs_is_kept():
    average = Average(FitSettings(epochs=8, averaging="swa"), {})
    for epoch in range(1, 9):
        average.epoch(network(float(epoch)), epoch)
    assert average.kept()["0.weight"].unique().tolist() == [7.5]


def test_the_moving_average_follows_quickly_first_and_slowly_then():
    settings = FitSettings(averaging="ema", averaging_decay=0.9)
    average = Average(settings, {})
    average.step(network(0.0))
    average.step(network(1.0))
    early = average.kept()["0.weight"].flatten()[0].item()
    assert early == pytest.approx(1 - 2 / 11)
    for _ in range(200):
        average.step(network(0.0))
    late = average.kept()["0.weight"].flatten()[0].item()
    average.step(network(1.0))
    assert average.kept()["0.weight"].flatten()[0].item() == pytest.approx(0.9 * late + 0.1)


def test_a_kept_average_goes_on_where_it_was():
    settings = FitSettings(averaging="ema")
    whole, first = Average(settings, {}), Average(settings, {})
    for value in (1.0, 2.0):
        whole.step(network(value))
        first.step(network(value))
    again = Average(settings, first.kept())
    whole.step(network(5.0))
    again.step(network(5.0))
    assert again.count == whole.count == 3
    assert torch.equal(again.state["0.weight"], whole.state["0.weight"])


def test_inside_the_block_the_network_has_the_average_and_its_batch_norm_is_measured():
    average = Average(FitSettings(epochs=1, averaging="swa"), {})
    average.epoch(network(2.0), 1)
    module, x = network(9.0), torch.ones(16, 2) + torch.arange(16.0)[:, None]
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with average.shown(module, [x[:8], x[8:]]):
        assert module[0].weight.unique().tolist() == [2.0]
        assert module[1].running_mean.item() == pytest.approx(
            float((x @ torch.full((2,), 2.0)).mean())
        )
        assert not module[1].training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_without_averaging_nothing_is_kept():
    average = Average(FitSettings(), {})
    average.step(network(1.0))
    average.epoch(network(1.0), 1)
    assert average.kept() == {}
