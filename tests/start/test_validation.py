"""Tests of the cross-validation that gives up early."""

import numpy as np

from vmonf.start.validation import validated


def folds(log_prob, asked):
    for fold, part in enumerate(np.array_split(log_prob, 4)):
        asked.append(fold)
        yield part, np.ones(len(part))


def test_what_is_clearly_worse_is_given_up_after_the_first_fold():
    best = np.random.default_rng(0).normal(size=200)
    asked = []
    assert validated(folds(best - 0.5 + 0.1 * np.sin(np.arange(200)), asked), best) is None
    assert asked == [0]


def test_what_may_be_better_is_validated_in_all_folds():
    random = np.random.default_rng(0)
    best = random.normal(size=200)
    for other in (best + 0.5, best + random.normal(size=200), best):
        asked = []
        np.testing.assert_array_equal(validated(folds(other, asked), best), other)
        assert asked == [0, 1, 2, 3]
    np.testing.assert_array_equal(validated(folds(best, []), None), best)


def test_outliers_alone_are_no_reason_to_give_up():
    best = np.zeros(200)
    other = np.full(200, 0.1)
    other[3] = -50.0
    assert validated(folds(other, []), best) is not None


def test_a_fold_of_one_row_is_not_enough_to_give_up():
    best = np.zeros(3)
    folds = [(np.array([-0.001]), np.ones(1)), (np.array([5.0, 5.0]), np.ones(2))]
    np.testing.assert_array_equal(validated(iter(folds), best), [-0.001, 5, 5])
