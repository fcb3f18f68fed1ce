"""Waves, requirements and descriptors mean what they say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from support.fleet import make_fleet

from slimline.fleet.documents import Campaign, Descriptor, Wave, bucket
from slimline.fleet.fit import Inventory, misfit, satisfies

HAS = Inventory(onnxruntime="1.31.1", opset=21, arch="aarch64", memory_mb=500)
FITS = {
    "onnxruntime": ">=1.20,<2",
    "opset": 17,
    "arch": ["x86_64", "aarch64"],
    "memory_mb": 12.5,
    "preprocessing": 1,
}


def _campaign(**changes):
    return Campaign(
        **{
            "id": "c1",
            "group": "gate",
            "kind": "update",
            "release": "releases/digits/1.json",
            "package_digest": "0" * 64,
            "salt": "s",
            "waves": (Wave(devices=("d0",)), Wave(threshold=3000), Wave(threshold=10_000)),
            "open_waves": 1,
            "failure_threshold": 0.0,
            **changes,
        }
    )


def test_a_device_s_place_is_the_one_the_formula_gives():
    # printf 'salt|device-1' | sha256sum | cut -c1-16 gives 0a5488ad5b2a96a5
    assert bucket("salt", "device-1") == 0x0A5488AD5B2A96A5 % 10_000 == 1941


def test_a_wave_takes_about_the_share_that_it_names():
    names = [f"d{n}" for n in range(1, 4001)]
    campaign = _campaign()
    share = sum(campaign.wave_of(name) == 1 for name in names) / len(names)
    assert share == pytest.approx(0.30, abs=0.03)
    assert all(campaign.wave_of(name) in (1, 2) for name in names)


def test_another_salt_makes_another_order():
    names = [f"d{n}" for n in range(100)]
    first, second = ([bucket(salt, n) for n in names] for salt in ("a", "b"))
    assert first != second


def test_named_devices_go_first_and_a_device_s_turn_comes_with_its_wave():
    campaign = _campaign()
    assert campaign.wave_of("d0") == 0
    assert campaign.is_open_for("d0")
    late = next(f"x{n}" for n in range(100) if campaign.wave_of(f"x{n}") == 2)
    assert not campaign.is_open_for(late)
    assert campaign.model_copy(update={"open_waves": 3}).is_open_for(late)


def test_a_device_beyond_all_waves_is_in_none():
    assert _campaign(waves=(Wave(threshold=0),)).wave_of("d1") is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"onnxruntime": ">=1.40"}, "onnxruntime >=1.40, the device has 1.31.1"),
        ({"onnxruntime": "nonsense"}, "onnxruntime"),
        ({"opset": 25}, "opset 25, the device has 21"),
        ({"arch": ["x86_64"]}, "arch x86_64, the device has aarch64"),
        ({"memory_mb": 900}, "memory_mb 900, the device has 500"),
        ({"preprocessing": 2}, "preprocessing 2, the device has 1"),
        ({"gpu": True}, "gpu, which this agent does not know"),
    ],
)
def test_each_requirement_that_is_not_met_is_told(change, word):
    assert misfit(FITS, HAS) == ""
    assert word in misfit({**FITS, **change}, HAS)


@pytest.mark.parametrize(
    ("version", "clauses", "met"),
    [
        ("1.20", ">=1.20,<2", True),
        ("1.20.0", "==1.20", True),
        ("1.9", ">=1.20", False),
        ("2.0", ">=1.20,<2", False),
        ("1.31.1rc1", ">1.31", True),
        ("1.5", "!=1.5", False),
        ("1.5", "<=1.5", True),
        ("1.5", "~=1.5", False),
    ],
)
def test_version_ranges_are_read_by_number(version, clauses, met):
    assert satisfies(version, clauses) is met


def test_a_descriptor_whose_files_are_not_its_digest_s_is_no_descriptor(tmp_path):
    fleet = make_fleet(tmp_path)
    descriptor = fleet.release(fleet.package(1))
    text = descriptor.model_dump_json()
    assert Descriptor.model_validate_json(text) == descriptor
    for wrong in (
        text.replace(descriptor.package_digest, "0" * 64),
        text.replace("model/model.onnx", "model/other.onnx"),
        text.replace(descriptor.files[0].chunks[0], '","', 1),
    ):
        with pytest.raises(ValidationError):
            Descriptor.model_validate_json(wrong)
