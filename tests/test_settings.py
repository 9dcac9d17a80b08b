"""Tests of every "auto" setting and every error."""

import math

import numpy as np
import pytest
import torch

from vmonf import NSF, FlowMixture, PosteriorMLP, Training
from vmonf.parameters import ParameterError
from vmonf.settings import check_parameters, resolve
from vmonf.start import STARTS
from vmonf.training import Consistency, bound_objective


def settings_of(n_components=3, n_rows=1000, n_features=2, **parameters):
    mixture = FlowMixture(n_components).set_params(**parameters)
    check_parameters(mixture.get_params(deep=False))
    return resolve(mixture.get_params(deep=False), n_rows, n_features, n_components)


def test_the_defaults_leave_nothing_to_decide():
    settings = settings_of()
    assert settings.flow == FlowMixture().set_params(flow__n_layers=4).flow
    assert settings.weights is None
    assert settings.n_held_out == 100
    assert settings.trains
    assert settings.training.pretrain_epochs == 20
    assert settings.objective == bound_objective("elbo")  # no further term
    assert not settings.needs_spacing
    assert settings.temperature(0) == 1.0
    assert settings.start is STARTS["auto"]
    assert isinstance(settings.device, torch.device)


@pytest.mark.parametrize(
    ("parameters", "n_components", "expected"),
    [
        ({}, 16, None),
        ({}, 17, 4),
        ({"objective": "marginal"}, 17, None),
        ({"training__components_per_row": 2}, 5, 2),
        ({"training__components_per_row": None}, 40, None),
    ],
)
def test_components_per_row(parameters, n_components, expected):
    assert settings_of(n_components, **parameters).objective.components_per_row == expected


def a_function(x, generator):
    return x


@pytest.mark.parametrize(
    ("consistency", "size", "expected", "needs_spacing"),
    [
        ("noise", "auto", 1.0, True),
        ("noise", 2.5, 2.5, True),
        ("features", "auto", 0.2, False),
        (a_function, "auto", 0.0, False),
    ],
)
def test_consistency(consistency, size, expected, needs_spacing):
    settings = settings_of(
        training__consistency=consistency,
        training__consistency_size=size,
        training__consistency_weight=3.0,
    )
    term = Consistency(consistency, expected, 3.0)
    assert settings.objective == bound_objective("elbo", None, (term,))
    assert settings.needs_spacing == needs_spacing
    assert settings.of_training() != settings_of().of_training()
    assert "0x" not in str(settings.of_training())  # the same in every process


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"init": "graph"}, 20),
        ({"init": "graph", "training__pretrain_epochs": 3}, 3),
        ({"init": np.eye(3, 2)}, 0),
    ],
)
def test_pretrain_epochs(parameters, expected):
    assert settings_of(**parameters).training.pretrain_epochs == expected


@pytest.mark.parametrize(
    ("parameters", "n_rows", "n_held_out", "trains"),
    [
        ({}, 12, 0, False),
        ({}, 88, 0, False),
        ({}, 89, 9, True),
        ({"max_epochs": 0}, 1000, 0, False),
        ({"validation_fraction": 0}, 12, 0, True),
        ({"validation_fraction": 0.25}, 1001, math.ceil(0.25 * 1001), True),
    ],
)
def test_held_out_rows(parameters, n_rows, n_held_out, trains):
    settings = settings_of(n_rows=n_rows, **parameters)
    assert (settings.n_held_out, settings.trains) == (n_held_out, trains)


def test_the_decay_of_the_temperature_takes_half_of_the_epochs():
    settings = settings_of(temperature=(4.0, 1.0), max_epochs=10)
    assert [settings.temperature(epoch) for epoch in (0, 5, 9)] == [4.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"n_components": True}, "n_components"),
        ({"n_components": 2.0}, "n_components"),
        ({"n_components": "two"}, "n_components"),
        ({"n_components": "auto", "weights": (0.5, 0.5)}, "weights"),
        ({"n_components": "auto", "init": [[0.0, 0.0]]}, "init"),
        ({"max_components": 0}, "max_components"),
        ({"weights": "equal"}, "weights"),
        ({"weights": "abc"}, "weights"),
        ({"weights": {"a": 1}}, "weights"),
        ({"objective": "map"}, "objective"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": (1.0, math.inf)}, "temperature"),
        ({"temperature_epochs": -1}, "temperature_epochs"),
        ({"init": "best"}, "init"),
        ({"init": 3.0}, "init"),
        ({"init": np.full((3, 2), np.nan)}, "init"),
        ({"n_init": 0}, "n_init"),
        ({"max_epochs": 1.5}, "max_epochs"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"checkpoint": 3}, "checkpoint"),
        ({"device": None}, "device"),
        ({"posterior": "cnn"}, "posterior"),
        ({"posterior": PosteriorMLP}, "posterior"),
        ({"flow": NSF}, "flow"),
        ({"training": Training}, "training"),
        ({"flow__mixing": "turn"}, "flow__mixing"),
        ({"flow": NSF(n_bins=1)}, "flow__n_bins"),
        ({"flow": NSF(bound=0.0)}, "flow__bound"),
        ({"training__averaging": 1.0}, "training__averaging"),
        ({"training__patience": 0}, "training__patience"),
        ({"training__batch_size": 0}, "training__batch_size"),
        ({"training__refine_posterior": "yes"}, "training__refine_posterior"),
        ({"training__pretrain_epochs": "few"}, "training__pretrain_epochs"),
        (
            {"objective": "marginal", "training__components_per_row": 2},
            "training__components_per_row",
        ),
    ],
)
def test_refusals_name_the_parameter(parameters, name):
    with pytest.raises(ParameterError) as caught:
        settings_of(**parameters)
    assert caught.value.name == name
    assert str(caught.value).startswith(name)
    assert str(caught.value).endswith(".")


def test_what_a_training_depends_on_leaves_out_device_and_number_of_epochs():
    one = settings_of().of_training()
    assert settings_of(max_epochs=7, device="cpu").of_training() == one
    cosine = {"training__learning_rate_schedule": "cosine"}
    assert settings_of(max_epochs=7, **cosine).of_training() != settings_of(**cosine).of_training()
    for change in ({"flow": "nsf"}, {"weights": "uniform"}, {"temperature": 2.0}, {"init": "none"}):
        assert settings_of(**change).of_training() != one
    resolved = Training(
        batch_size=256,
        epoch_rows=None,
        pretrain_epochs=20,
        components_per_row=None,
        consistency_size=0.0,
    )
    assert settings_of().training == resolved


@pytest.mark.parametrize(
    ("n_rows", "given", "expected"),
    [
        (50_000, {}, (256, None, 3e-3)),
        (50_001, {}, (1024, 20_000, 6e-3)),
        (50_001, {"batch_size": 100}, (100, 20_000, 3e-3)),
        (50_001, {"epoch_rows": None, "learning_rate": 1e-3}, (1024, None, 2e-3)),
    ],
)
def test_batches_and_epochs_of_many_rows(n_rows, given, expected):
    parameters = FlowMixture(training=Training(**given)).get_params(deep=False)
    training = resolve(parameters, n_rows, 2, 2).training
    found = (training.batch_size, training.epoch_rows, training.learning_rate)
    assert found == pytest.approx(expected)


def test_few_of_many_rows_are_held_out():
    parameters = FlowMixture().get_params(deep=False)
    assert resolve(parameters, 50_000, 2, 2).n_held_out == 5_000
    assert resolve(parameters, 1_000_000, 2, 2).n_held_out == 10_000
