"""Tests of the removal of components that hold few rows."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from vmonf import FlowMixture, PosteriorMLP, RealNVP
from vmonf.parameters import ParameterError
from vmonf.plots import plot

CENTRES = np.array([[-5.0, 0.0], [5.0, 0.0], [0.0, 6.0], [40.0, 40.0]])
QUICK = {
    "max_epochs": 3,
    "flow": RealNVP(n_layers=2, hidden=(16,)),
    "posterior": PosteriorMLP(hidden=(16,)),
}


@pytest.fixture(scope="module")
def blobs():
    """Three hundred rows near three centres, and a single one near the fourth."""
    X, which = make_blobs([100, 100, 100], centers=CENTRES[:3], random_state=0)
    return np.vstack([X, CENTRES[3:]]), np.append(which, 3)


@pytest.fixture(scope="module")
def fitted(blobs):
    return FlowMixture(4, init=CENTRES, weights="uniform", random_state=0, **QUICK).fit(blobs[0])


def renormalised(mixture, X, kept):
    """Log density of the mixture of the kept components: (n,)."""
    weights = mixture.weights_[kept] / mixture.weights_[kept].sum()
    return np.log(np.exp(mixture.component_log_prob(X)[:, kept]) @ weights)


def test_the_density_is_that_of_the_kept_components(blobs, fitted):
    X, _ = blobs
    before = fitted.score_samples(X)
    use = fitted.predict_proba(X).mean(axis=0)
    assert (use < 0.01).tolist() == [False, False, False, True]
    reduced = fitted.without_unused(X)
    assert reduced.n_components == reduced.n_components_ == 3
    assert reduced.classes_.tolist() == [0, 1, 2]
    expected = renormalised(fitted, X[:300], [0, 1, 2])
    np.testing.assert_allclose(reduced.score_samples(X[:300]), expected, rtol=1e-5)
    np.testing.assert_allclose(reduced.weights_, 1 / 3, rtol=1e-6)
    q = fitted.predict_proba(X)[:, :3]
    expected = q / q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reduced.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
    # An unused component had a quarter of the uniform weights.
    assert reduced.score(X[:300]) == pytest.approx(fitted.score(X[:300]) + np.log(4 / 3), abs=1e-3)
    np.testing.assert_array_equal(fitted.score_samples(X), before)
    assert fitted.n_components == 4


def test_it_is_saved_loaded_drawn_from_and_drawn(blobs, fitted, tmp_path):
    X, _ = blobs
    reduced = fitted.without_unused(X)
    reduced.save(tmp_path / "m.vmonf")
    loaded = FlowMixture.load(tmp_path / "m.vmonf")
    np.testing.assert_array_equal(loaded.score_samples(X), reduced.score_samples(X))
    np.testing.assert_array_equal(loaded.predict(X), reduced.predict(X))
    assert set(loaded.sample(200, random_state=0)[1]) == {0, 1, 2}
    plot(loaded, kind="training")
    np.testing.assert_array_equal(loaded.init, CENTRES[:3])
    again = loaded.fit(X[:300])
    assert again.n_components_ == 3


def test_given_weights_are_cut(blobs):
    X, _ = blobs
    weights = [0.4, 0.2, 0.2, 0.2]
    mixture = FlowMixture(4, weights=weights, init=CENTRES, random_state=0, **QUICK).fit(X)
    reduced = mixture.without_unused(X)
    np.testing.assert_allclose(reduced.weights, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(reduced.weights_, [0.5, 0.25, 0.25], rtol=1e-6)
    reduced.fit(X)


def test_classes_with_labels_stay(blobs):
    X, which = blobs
    labels = np.full(len(X), "", dtype=object)
    labels[-1], labels[:5] = "rare", [f"blob {c}" for c in which[:5]]
    mixture = FlowMixture(6, random_state=0, **QUICK).fit(X, labels)
    known = set(labels) - {""}
    assert set(mixture.labelled_classes_) == known
    reduced = mixture.without_unused(X, 0.9)
    assert known <= set(reduced.classes_)
    assert reduced.classes_.tolist() == [name for name in mixture.classes_ if name in known] or (
        len(reduced.classes_) == len(known) + 1
    )


def test_labelled_classes_are_kept_in_the_file(blobs, tmp_path):
    X, _ = blobs
    labels = np.where(np.arange(len(X)) == len(X) - 1, 7, -1)
    mixture = FlowMixture(4, random_state=0, **QUICK).fit(X, labels)
    mixture.save(tmp_path / "m.vmonf")
    loaded = FlowMixture.load(tmp_path / "m.vmonf")
    assert loaded.labelled_classes_.tolist() == [7]
    assert 7 in loaded.without_unused(X, 0.5).classes_


def test_weights_of_rows_decide_too(blobs, fitted):
    X, which = blobs
    weight = np.where(which == 3, 300.0, 1.0)
    assert fitted.without_unused(X, sample_weight=weight).n_components_ == 4
    assert fitted.without_unused(X, sample_weight=which == 1).classes_.tolist() == [1]


def test_one_component_is_always_kept(blobs, fitted):
    assert fitted.without_unused(blobs[0], 0.99).n_components_ == 1
    assert fitted.without_unused(blobs[0], 0.0).n_components_ == 4


@pytest.mark.parametrize("least", [-0.1, 1, "few"])
def test_the_share_is_checked(blobs, fitted, least):
    with pytest.raises(ParameterError, match="least="):
        fitted.without_unused(blobs[0], least)
