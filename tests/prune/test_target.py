"""Each target is met, and the network one step wider would not meet it."""

from types import SimpleNamespace

import pytest
import torch
from support.model_info import DIGITS
from support.structures import STRUCTURES

from slimline.contract import BadParameters
from slimline.measure.evaluation import Interval
from slimline.models import zoo
from slimline.models.network import mac_count, parameter_count
from slimline.prune import target as target_module
from slimline.prune.cut import rank_channels, snap, width_of_unit
from slimline.prune.target import Target, narrow_to

WIDTHS = (16, 24, 32)


def job(**changes):
    settings = {"ratio": 0.5, "target": "ratio", "speedup": 0, "max_latency_ms": 0}
    settings |= {"importance": "l2", "scope": "local", "round_to": 4, "seed": 0}
    return SimpleNamespace(**(settings | changes))


def network():
    torch.manual_seed(0)
    return zoo.small_cnn(WIDTHS).eval()


def met(share=1.0, **changes):
    """Uncut network, its channels, what was kept, and the target."""
    module = network()
    settings = job(**changes)
    channels = rank_channels(module, torch.zeros(2, 1, 8, 8), settings)
    target = Target(settings, module, DIGITS, share)
    return module, channels, narrow_to(channels, target), target


def removed(count, module, made):
    return 1 - count(made) / count(module)


COUNTS = {"macs": lambda module: mac_count(module, DIGITS), "parameters": parameter_count}


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("what", COUNTS)
@pytest.mark.parametrize("scope", ["local", "global"])
def test_a_share_of_macs_or_parameters_is_removed_and_little_more(what, ratio, scope):
    module, channels, keep, target = met(target=what, ratio=ratio, scope=scope)
    reached = removed(COUNTS[what], module, channels.made(keep))
    assert reached >= ratio
    assert reached <= ratio + 0.25
    assert target.probes[-1][f"{what}_removed"] <= max(p[f"{what}_removed"] for p in target.probes)
    missed = [p[f"{what}_removed"] for p in target.probes if not p["met"]]
    assert all(share < ratio for share in missed)


def test_without_the_last_group_that_was_narrowed_the_target_would_be_missed():
    module, channels, keep, _ = met(target="macs", ratio=0.5, round_to=8)
    reached = []
    for i, group in enumerate(channels.groups):
        whole = tuple(range(len(group.units)))
        wider = tuple(whole if j == i else kept for j, kept in enumerate(keep))
        reached.append(removed(COUNTS["macs"], module, channels.made(wider)))
    assert min(reached) < 0.5


def test_half_of_the_way_is_half_of_the_share():
    module, channels, keep, _ = met(target="macs", ratio=0.8, share=0.5, round_to=1)
    reached = removed(COUNTS["macs"], module, channels.made(keep))
    assert reached == pytest.approx(0.4, abs=0.05)


def timed(monkeypatch):
    """A clock by which a network takes a nanosecond for each byte of its ONNX file."""

    def measure(sessions, _, **__):
        base, own = (len(session) / 1e6 for session in sessions)
        whole = [Interval(value=ms, low=ms, high=ms) for ms in (base, own)]
        ratios = [Interval(value=r, low=r, high=r) for r in (1.0, base / own)]
        pairs = zip(whole, ratios, strict=True)
        return [SimpleNamespace(median_ms=ms, speedup=ratio) for ms, ratio in pairs]

    monkeypatch.setattr(target_module, "session", lambda data: data)
    monkeypatch.setattr(target_module, "measure", measure)
    monkeypatch.setattr(target_module, "to_onnx", lambda m, *_: bytes(parameter_count(m)))


def test_a_speedup_is_met_by_what_was_timed(monkeypatch):
    timed(monkeypatch)
    module, channels, keep, target = met(target="latency", speedup=2.0)
    times = parameter_count(module) / parameter_count(channels.made(keep))
    assert 2.0 <= times < 2.6
    assert all(p["met"] == (p["speedup"] >= 2.0) for p in target.probes)
    assert any(p["speedup"] == pytest.approx(times) for p in target.probes)


def test_milliseconds_are_met_by_what_was_timed(monkeypatch):
    timed(monkeypatch)
    limit = parameter_count(network()) / 3e6
    _, channels, keep, _ = met(target="latency", max_latency_ms=limit)
    assert 0.7 * limit < parameter_count(channels.made(keep)) / 1e6 <= limit


def test_a_candidate_is_really_exported_and_timed_beside_the_uncut_network(monkeypatch):
    monkeypatch.setattr(target_module, "_ROUNDS", 11)
    module = network()
    target = Target(job(target="latency", speedup=1.0001), module, DIGITS)
    narrow = zoo.small_cnn((4, 4, 4)).eval()
    target.is_met(narrow)
    (probe,) = target.probes
    assert probe["parameters"] == parameter_count(narrow)
    assert probe["latency_ms"] > 0
    assert probe["speedup"] > 1
    assert probe["met"] == 1


def test_a_target_that_the_narrowest_network_misses_is_refused_with_what_it_reaches():
    with pytest.raises(BadParameters, match=r"target macs cannot be met.*macs_removed 0\.\d+"):
        met(target="macs", ratio=0.99, round_to=8)


def test_heads_of_attention_go_whole_and_widths_stay_multiples_of_channels():
    structure = STRUCTURES["fused QKV attention"]
    for round_to, heads in ((4, 2), (8, 2), (16, 4)):
        module = structure.network()
        channels = rank_channels(module, structure.example(), job(round_to=round_to))
        keep = dict(zip(channels.groups, channels.keep(0.5), strict=True))
        ((group, kept),) = [(g, k) for g, k in keep.items() if width_of_unit(g) == 4]
        assert (len(group.units), len(kept)) == (4, heads)


@pytest.mark.parametrize(
    ("full", "ratio", "step", "width"),
    [
        (16, 0.3, 8, 16),  # half of it would go where a third was asked for
        (16, 0.5, 8, 8),
        (24, 0.3, 8, 16),
        (32, 0.3, 8, 24),
        (64, 0.3, 16, 48),
        (64, 0.45, 16, 32),
        (48, 0.4, 16, 32),
        (16, 0.5, 16, 16),
        (10, 0.25, 1, 8),
        (16, 1.0, 4, 4),
    ],
)
def test_widths_snap_to_the_nearest_multiple_but_narrow_layers_lose_no_more_than_asked(
    full, ratio, step, width
):
    assert snap(full, full * (1 - ratio), step) == width
