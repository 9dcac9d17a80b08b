"""Tests of the mapping from labels to components."""

import numpy as np
import pytest

from vmonf.labels import encode_labels


@pytest.mark.parametrize(
    ("y", "n_components", "classes", "component"),
    [
        ([3, 1, -1, 3], 2, [1, 3], [1, 0, -1, 1]),
        ([3, 1, -1, 3], 4, [1, 3, 4, 5], [1, 0, -1, 1]),
        ([-1, -1], 2, [0, 1], [-1, -1]),
        ([2.0, np.nan, -1.0], 1, [2], [0, -1, -1]),
        (["b", "a", "", "-1"], 2, ["a", "b"], [1, 0, -1, -1]),
        (np.array(["b", None, "a", -1, np.nan], dtype=object), 2, ["a", "b"], [1, -1, 0, -1, -1]),
        (["new_0", "x"], 3, ["new_0", "x", "new_1"], [0, 1]),
        ([True, False], 2, [0, 1], [1, 0]),
    ],
)
def test_labels_become_components(y, n_components, classes, component):
    found, codes = encode_labels(np.asarray(y), n_components)
    assert found.tolist() == classes
    assert codes.tolist() == component


@pytest.mark.parametrize("y", [[0.5, 1.0], np.array([1, "a"], dtype=object)])
def test_what_is_no_label_is_refused(y):
    with pytest.raises(ValueError, match="Unknown label type"):
        encode_labels(np.asarray(y), 3)
