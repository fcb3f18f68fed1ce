import pytest
import torch

from slimline.models.losses import (
    attention_loss,
    decoupled_loss,
    distillation_loss,
    hint_loss,
    learning_rate_factor,
)
from slimline.models.threads import cpu_quota

STUDENT = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
TEACHER = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
LABELS = torch.tensor([0, 2])


def test_the_soft_part_is_the_divergence_of_hinton_times_the_squared_temperature():
    soft = distillation_loss(STUDENT, TEACHER, LABELS, temperature=4.0, alpha=1.0)
    p, q = (TEACHER / 4).softmax(1), (STUDENT / 4).softmax(1)
    expected = 16 * (p * (p / q).log()).sum(1).mean()
    assert soft.item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_the_teacher_it_is_cross_entropy():
    hard = distillation_loss(STUDENT, TEACHER, LABELS, temperature=4.0, alpha=0.0)
    assert hard.item() == pytest.approx(
        torch.nn.functional.cross_entropy(STUDENT, LABELS).item(), rel=1e-6
    )


def test_a_student_that_answers_as_its_teacher_has_no_soft_loss():
    same = distillation_loss(TEACHER, TEACHER, LABELS, temperature=2.0, alpha=1.0)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_the_two_divergences_of_decoupled_distillation_make_up_the_whole_one():
    """Zhao et al. 2022, equation 7: KD = TCKD + (1 - teacher's share of the target) NCKD."""
    whole, target, parts = 0.0, 0.0, 0.0
    for row in range(2):
        one = slice(row, row + 1)
        values = {"temperature": 2.0, "alpha": 1.0}
        arguments = STUDENT[one], TEACHER[one], LABELS[one]
        whole += distillation_loss(*arguments, **values).item()
        target = decoupled_loss(*arguments, **values, beta=0.0).item()
        others = decoupled_loss(*arguments, **values, beta=1.0).item() - target
        sure = (TEACHER[one] / 2).softmax(1)[0, LABELS[row]].item()
        parts += target + (1 - sure) * others
    assert whole == pytest.approx(parts, rel=1e-5)


def test_decoupled_distillation_of_two_classes_has_no_other_classes():
    pair = STUDENT[:, :2], TEACHER[:, :2], torch.tensor([0, 1])
    small, large = (
        decoupled_loss(*pair, temperature=1.0, alpha=1.0, beta=beta) for beta in (0.0, 9.0)
    )
    assert small.item() == pytest.approx(large.item())


def test_attention_maps_are_the_same_whatever_the_scale_and_the_number_of_channels():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 4, 4)
    same = attention_loss([x.expand(3, 5, 4, 4)], [7 * x.expand(3, 2, 4, 4)])
    assert same.item() == pytest.approx(0, abs=1e-6)
    one, other = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    one[0, 0, 0, 0], other[0, 0, 1, 1] = 3, 5
    assert attention_loss([one], [other]).item() == pytest.approx(2)


def test_hints_of_another_size_are_compared_at_the_smaller_one():
    large, small = torch.ones(1, 2, 4, 4), torch.full((1, 2, 2, 2), 3.0)
    assert hint_loss([large], [small]).item() == pytest.approx(4)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_learning_rate_rises_to_its_highest_and_falls_to_nothing(schedule):
    rates = [learning_rate_factor(schedule, s, 200) for s in range(200)]
    top = rates.index(max(rates))
    assert max(rates) == 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-3


def test_a_constant_learning_rate_stays():
    assert {learning_rate_factor("constant", s, 10) for s in range(10)} == {1.0}


def test_a_container_quota_limits_the_threads(tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert cpu_quota(tmp_path) == 1
    quota.write_text("max 100000\n")
    assert cpu_quota(tmp_path) == cpu_quota(tmp_path / "missing") >= 1


def test_a_quota_of_the_older_control_groups_limits_them_too(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    quota = tmp_path / "cpu" / "cpu.cfs_quota_us"
    quota.write_text("50000\n")
    assert cpu_quota(tmp_path) == 1
    quota.write_text("-1\n")
    assert cpu_quota(tmp_path) == cpu_quota(tmp_path / "missing")
