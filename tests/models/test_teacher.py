import numpy as np
import pytest
import torch

from slimline.models.answers import Answers
from slimline.models.teacher import averaged

SURE, UNSURE = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])


def test_an_ensemble_of_probabilities_says_their_mean():
    answer = averaged([SURE, UNSURE], (1.0, 1.0), "probability")
    expected = (SURE.softmax(1) + UNSURE.softmax(1)) / 2
    assert torch.allclose(answer.softmax(1), expected, atol=1e-5)


def test_an_ensemble_of_logits_says_their_weighted_mean():
    answer = averaged([SURE, UNSURE], (3.0, 1.0), "logit")
    assert torch.allclose(answer, 0.75 * SURE + 0.25 * UNSURE)


def test_a_question_is_asked_once_and_the_answer_outlives_the_process(tmp_path):
    asked = []

    def ask(at):
        asked.append(len(at))
        return torch.full((len(at), 4), 0.5) + at[:, None]

    rows, views = torch.tensor([5, 2]), torch.tensor([0, 1])
    first = Answers(tmp_path, 2, 9, 4).of(rows, views, ask)
    again = Answers(tmp_path, 2, 9, 4)
    assert torch.equal(again.of(rows, views, ask), first)
    assert asked == [2]
    assert again.asked == 0
    other = again.of(torch.tensor([5, 5]), torch.tensor([0, 1]), ask)
    assert asked == [2, 1], "the same image in another view is another question"
    assert torch.equal(other[0], first[0])


def test_answers_of_another_shape_are_not_taken(tmp_path):
    Answers(tmp_path, 1, 3, 2).of(
        torch.tensor([0]), torch.tensor([0]), lambda at: at.new_ones(1, 2)
    )
    assert np.isnan(Answers(tmp_path, 2, 3, 2).kept).all()


@pytest.mark.parametrize("size", [(3, 50, 10)])
def test_answers_take_two_bytes_a_logit(tmp_path, size):
    Answers(tmp_path, *size)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 2 * 3 * 50 * 10
