"""Metrics as somebody else would write them."""

import numpy as np


def half_error(answers, targets):
    return np.abs(answers[:, 0] - targets) / 2


half_error.lower_is_better = True


def precision_of_one(answers, targets):
    said = answers.argmax(1) == 1
    return np.stack([said & (targets == 1), said], axis=1)


precision_of_one.combine = lambda means: means[:, 0] / np.maximum(means[:, 1], 1e-9)


def a_number(answers, targets):
    return np.float64(len(answers) + len(targets))
