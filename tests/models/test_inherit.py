import torch

from slimline.models.inherit import inherit
from slimline.models.zoo import cifar_resnet


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_row_of_blocks_takes_the_first_the_last_and_those_between():
    teacher = cifar_resnet(56, widths=(4, 8, 16))
    student = cifar_resnet(widths=(4, 8, 16), blocks=(2, 3, 1))
    inherit(student, teacher)
    pairs = {"layer1": {0: 0, 1: 8}, "layer2": {0: 0, 1: 4, 2: 8}, "layer3": {0: 0}}
    for stage, blocks in pairs.items():
        for mine, theirs in blocks.items():
            there = teacher.get_submodule(f"{stage}.{theirs}")
            assert same(student.get_submodule(f"{stage}.{mine}"), there)
    assert same(student.conv1, teacher.conv1)
    assert same(student.linear, teacher.linear)


def test_what_has_another_shape_stays_fresh():
    teacher, student = cifar_resnet(20, widths=(4, 8, 16)), cifar_resnet(8, widths=(4, 8, 12))
    before = student.layer3[0].conv1.weight.clone()
    inherit(student, teacher)
    assert same(student.layer2[0], teacher.layer2[0])
    assert torch.equal(student.layer3[0].conv1.weight, before)
