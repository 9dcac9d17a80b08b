"""A fitted estimator as a JSON document of a declared form and tensors, and back.

The format is described in docs/model-file.md.
"""

from __future__ import annotations

import copy
import itertools
import math
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from vmonf.bounds import MOST_PERIODIC
from vmonf.flows import FAMILIES
from vmonf.judge import Verdict
from vmonf.model import (
    POSTERIORS,
    Conditionals,
    Domain,
    MixtureModel,
    Standardizer,
    build_model,
)
from vmonf.model.build import FULL_COVARIANCE_LIMIT
from vmonf.plain import NonFinite, finite, numbers, plain
from vmonf.settings import PRECISIONS, check_parameters, device_of, specifications
from vmonf.start import Agreement, Number
from vmonf.storage import ModelFileError, bad_document
from vmonf.training import BOUNDS, PERTURBATIONS, Training

_Number = float | NonFinite
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """An object with exactly these keys."""


class _Bounds(_Strict):
    """Bounds of a column, which is given by its name or number."""

    column: str | _Count
    low: float | None
    high: float | None


class _Period(_Strict):
    """The period of a column."""

    column: str | _Count
    period: float


class _Parameters(_Strict):
    """The parameters of `FlowMixture`. A dictionary is a specification, with its class."""

    n_components: _Positive | Literal["auto"]
    max_components: _Positive
    flow: str | dict[str, Any]
    base: _Positive | Literal["auto"]
    posterior: str | dict[str, Any]
    weights: Literal["learned", "uniform"] | list[float]
    objective: str
    temperature: float | list[float]
    temperature_epochs: _Count | None
    init: str | list[list[float]]
    n_init: _Positive
    warm_start: bool
    max_epochs: _Count
    max_seconds: float | None
    validation_fraction: float
    training: dict[str, Any] | None
    checkpoint: None
    bounds: list[_Bounds] | None
    periodic: list[_Period] | None
    missing: str
    device: str
    precision: str
    random_state: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None
    verbose: Literal[0]


class _History(_Strict):
    """One entry for each epoch."""

    epoch: list[_Count]
    elbo: list[_Number]
    log_likelihood: list[_Number]
    gap: list[_Number]
    training_objective: list[_Number]
    temperature: list[float]
    learning_rate: list[float]
    seconds: list[float]
    component_use: list[list[_Number]]
    start_agreement: list[float | None]


class _Verdict(_Strict):
    """The fields of `vmonf.judge.Verdict`."""

    kept: Literal["flows", "gaussian mixture"]
    reason: Literal["gain", "no gain", "not trained", "not judged", "continued"]
    gain: _Number
    gain_error: _Number
    log_likelihood: _Number
    epoch: _Count
    n_epochs: _Count


class _Shrinkage(_Strict):
    """The fields of `vmonf.start.Shrinkage`."""

    strength: _Number
    diagonal_share: float
    spherical_share: float
    own_diagonal: bool


class _Start(_Strict):
    """The fields of `vmonf.start.Agreement`."""

    chosen: str
    names: list[str]
    table: list[list[_Number]]
    metric: Literal["columns", "within clusters"]


class _FoundNumber(_Strict):
    """The fields of `vmonf.start.Number`."""

    chosen: _Positive
    reason: Literal["agreement", "one cluster", "few rows", "classes", "clusters", "given"]
    candidates: list[_Positive]
    agreement: list[_Number]
    information: list[_Number]
    separation: list[_Number]
    valley: _Number
    valley_error: _Number
    metric: Literal["columns", "within clusters"]


class Document(_Strict):
    """The document of a model file.

    Attributes
    ----------
    parameters : object
        The parameters of the estimator, as they were when it was fitted.
    dtype : "float32" or "float64"
        The type of the tensors of weights. It is float32 if these are exact in it.
    broad_weight : float
        Weight of the broad part of each component, in [0, 1).
    n_features : int
        D.
    feature_names : list of D str, or None
    classes : list of K int or of K str
    labelled_classes : list
        Those of the classes that had labels.
    history, converged, verdict, shrinkage, start, number
        The fitted attributes of these names.
    """

    parameters: _Parameters
    dtype: Literal["float32", "float64"]
    broad_weight: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    n_features: _Positive
    feature_names: list[str] | None
    classes: list[_Whole | str]
    labelled_classes: list[_Whole | str]
    history: _History
    converged: bool
    verdict: _Verdict
    shrinkage: _Shrinkage
    start: _Start
    number: _FoundNumber


def to_document(
    parameters: Mapping[str, Any], attributes: Mapping[str, Any]
) -> tuple[Document, dict[str, Tensor]]:
    """A fitted estimator as a document that JSON can hold, and tensors.

    Parameters
    ----------
    parameters : mapping
        Parameters of the estimator, as they were when it was fitted.
    attributes : mapping
        Its fitted attributes.

    Raises
    ------
    ModelFileError
        If the class of a specification is not one that `from_document` finds by its name, or the
        model has weights or settings that a file cannot hold, such as a weight that is NaN.
    """
    # The progress bar and the path of the checkpoint are not properties of the model. The state of
    # a random generator is not saved.
    parameters = {**parameters, "verbose": 0, "checkpoint": None}
    parameters["device"] = str(parameters["device"])
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    for name, value in parameters.items():
        if hasattr(value, "get_params") and type(value).__name__ not in _classes():
            raise ModelFileError(
                f"{name}={value!r} cannot be saved, since its class could not be found on load: "
                f"add {type(value).__name__}() to vmonf.flows.FAMILIES under a name first."
            )
    parameters["bounds"] = _listed(parameters["bounds"], lambda pair: _or_none(*pair))
    parameters["periodic"] = _listed(parameters["periodic"], lambda length: {"period": length})
    model: MixtureModel = _in_least_precision(attributes["model_"])
    document = {
        "parameters": parameters,
        "dtype": str(model.flows.whitening.mean.dtype).removeprefix("torch."),
        "broad_weight": model.flows.base.broad_weight,
        "n_features": attributes["n_features_in_"],
        "feature_names": attributes.get("feature_names_in_"),
        "classes": attributes["classes_"],
        "labelled_classes": attributes["labelled_classes_"],
        "history": attributes["history_"],
        "converged": attributes["converged_"],
        "verdict": vars(attributes["verdict_"]),
        "shrinkage": attributes["shrinkage_"],
        "start": vars(attributes["start_"]),
        "number": vars(attributes["number_"]),
    }
    tensors = model.state_dict()
    try:
        _check_values(tensors)
        return msgspec.convert(finite(plain(document)), Document), tensors
    except (msgspec.ValidationError, ValueError) as error:
        raise ModelFileError(f"The model cannot be saved: {str(error).rstrip('.')}.") from error


def from_document(
    path: str | os.PathLike[str],
    document: Document,
    tensors: Mapping[str, Tensor],
    device: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert a document and tensors back to an estimator: the inverse of `to_document`.

    Parameters
    ----------
    path : path
        The path that messages name.
    document, tensors
        The results of `to_document`.
    device : str, optional
        The torch device of the model. None uses the `device` in the document.

    Returns
    -------
    parameters : dict
        Parameters of the estimator.
    attributes : dict
        Fitted attributes of the estimator.

    Raises
    ------
    ModelFileError
        If the document and the tensors do not match, or the document holds unknown settings.
    vmonf.parameters.ParameterError
        If `device` is given, and this machine has no such device.
    """
    place = None if device is None else device_of(device)
    # The document has the right form, but its values come from outside: whatever a check or a
    # specification raises for them, the file is at fault.
    try:
        parameters = _parameters(document.parameters)
        _check_document(document, parameters, tensors)
        _check_sizes(document, parameters, tensors)
        specified = specifications(parameters)
        model = build_model(
            specified["flow"],
            specified["posterior"],
            len(document.classes),
            document.n_features,
            n_atoms=_n_atoms(tensors),
            broad_weight=document.broad_weight,
            standardizer=_empty_standardizer(document.n_features, tensors),
            learn_weights=parameters["weights"] == "learned",
            conditionals=_empty_conditionals(document.n_features, tensors),
            generator=torch.Generator(),
        )
        model = model.to(getattr(torch, document.dtype))
        _check_names(model.state_dict(), tensors)
        _check_values(tensors)
        model.load_state_dict(dict(tensors))
        model = model.to(PRECISIONS[parameters["precision"]])
        classes = np.array(document.classes)
        attributes = {
            "n_features_in_": document.n_features,
            "classes_": classes,
            "labelled_classes_": np.array(document.labelled_classes, classes.dtype),
            "history_": _fields(document.history),
            "converged_": document.converged,
            "verdict_": Verdict(**_fields(document.verdict)),
            "shrinkage_": _fields(document.shrinkage),
            "start_": Agreement(**_tuples(_fields(document.start))),
            "number_": Number(**_tuples(_fields(document.number))),
        }
        if document.feature_names is not None:
            attributes["feature_names_in_"] = np.array(document.feature_names, dtype=object)
        if place is None:
            place = device_of(parameters["device"])
    except Exception as error:
        raise bad_document(path, error) from error
    parameters["device"] = parameters["device"] if device is None else device
    attributes["model_"] = model.to(place)
    return parameters, attributes


def _parameters(saved: _Parameters) -> dict[str, Any]:
    """The parameters of the estimator, checked.

    Raises
    ------
    ValueError
        If a parameter is not valid, or its specification has unknown or missing settings.
    """
    values = msgspec.structs.asdict(saved)
    parameters = {name: _parameter(value) for name, value in values.items()}
    if isinstance(parameters["init"], tuple):
        parameters["init"] = np.array(parameters["init"])
    if saved.bounds is not None:
        parameters["bounds"] = {each.column: (each.low, each.high) for each in saved.bounds}
    if saved.periodic is not None:
        parameters["periodic"] = {each.column: each.period for each in saved.periodic}
    checked = dict(parameters)
    training = parameters["training"]
    is_named = isinstance(training, Training) and isinstance(training.consistency, str)
    if is_named and training.consistency not in PERTURBATIONS:
        # A function of the user, of which only the name is saved.
        checked["training"] = None
    check_parameters(checked)
    return parameters


def _parameter(value: Any) -> Any:
    """A parameter from its JSON value: lists become tuples, dictionaries specifications."""
    if isinstance(value, list):
        return tuple(_parameter(entry) for entry in value)
    if isinstance(value, dict):
        values = {name: _parameter(entry) for name, entry in numbers(value).items()}
        name = values.pop("type", None)
        if name not in _classes():
            raise ValueError(f"it needs {name}, which is not in vmonf.flows.FAMILIES")
        specification = _classes()[name]()
        if set(values) != set(specification.get_params(deep=False)):
            raise ValueError(f"{name} has other settings than {', '.join(values)}")
        return type(specification)(**values)
    return value


def _check_document(
    document: Document, parameters: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Check that the parts of the document agree with one another and with the tensors.

    Raises
    ------
    ValueError
        If they do not.
    """
    classes, n_features = document.classes, document.n_features
    n_components = len(classes)
    _need(n_components > 0, "there are no classes")
    _need(len({type(name) for name in classes}) == 1, "classes are whole numbers or text, not both")
    _need(len(set(classes)) == n_components, "a class occurs twice")
    _need(
        set(document.labelled_classes) <= set(classes)
        and len(set(document.labelled_classes)) == len(document.labelled_classes),
        "labelled classes are not among the classes",
    )
    _need(
        _shape(tensors, "log_weight_logits") == (n_components,),
        f"there are {n_components} classes, and the weights have another number of components",
    )
    _need(
        _shape(tensors, "standardizer.shift") == (n_features,),
        f"there are {n_features} features, and the weights have another number",
    )
    names = document.feature_names
    _need(names is None or len(names) == n_features, "the features have too many or too few names")
    weights, init = parameters["weights"], parameters["init"]
    _need(
        isinstance(weights, str) or (len(weights) == n_components and min(weights) > 0),
        "the given weights are not positive, or not as many as there are classes",
    )
    _need(
        isinstance(init, str) or init.shape == (n_components, n_features),
        "the centres of the start have another shape",
    )
    _need(parameters["objective"] in BOUNDS, "the objective is not known")
    history = document.history
    lengths = {len(entries) for entries in _fields(history).values()}
    _need(len(lengths) == 1, "the columns of the history differ in length")
    _need(
        all(len(use) == n_components for use in history.component_use),
        "the history has another number of components",
    )
    start, number = document.start, document.number
    _need(
        (not start.names or start.chosen in start.names)
        and [len(row) for row in start.table] == [len(start.names)] * len(start.names),
        "the table of the starts does not have their names",
    )
    searched = (number.agreement, number.information)
    _need(
        all(len(values) == len(number.candidates) for values in searched),
        "the numbers of components that were tried differ in length from what was found",
    )
    is_found = number.reason == "agreement"
    _need(
        not is_found or number.chosen in number.candidates,
        "the number of components that was found is not among those that were tried",
    )


def _check_sizes(
    document: Document, parameters: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Check that the tensors have as many values as the settings ask for, at the least.

    A model of these settings can then be built in about the memory of the tensors. Layers of
    families that are not ours are not counted.

    Raises
    ------
    ValueError
        If the tensors have fewer values.
    """
    n_components, n_features = len(document.classes), document.n_features
    available = sum(value.numel() for value in tensors.values())
    specified = specifications(parameters)
    flow, posterior = specified["flow"], specified["posterior"]
    n_layers = getattr(flow, "n_layers", 0)
    hidden = tuple(getattr(flow, "hidden", ()))
    of_posterior = (n_features, *getattr(posterior, "hidden", ()), n_components)
    n_lists = max(n_layers, len(hidden), len(of_posterior) - 2)
    _need(n_lists <= len(tensors), "the settings ask for more layers than there are tensors")
    in_layer = _n_weights(hidden) + sum(hidden)
    if hidden:
        in_layer += hidden[-1] * getattr(flow, "n_bins", 0)
    squares = n_features**2 if n_features <= FULL_COVARIANCE_LIMIT else n_features
    asked = (
        n_components * squares * _n_atoms(tensors),
        n_components * n_layers * in_layer,
        _n_weights(of_posterior),
    )
    _need(max(asked) <= available, "the settings ask for more weights than there are")


def _n_weights(widths: tuple[int, ...]) -> int:
    """Number of weights of a perceptron with layers of these widths, without its biases."""
    return sum(before * after for before, after in itertools.pairwise(widths))


def _check_names(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Check that the tensors have the names, shapes and types of the model's own.

    Raises
    ------
    ValueError
        If they have not.
    """
    different = sorted(set(own) ^ set(tensors))
    _need(not different, f"the model has other tensors than {', '.join(different[:3])}")
    for name, value in tensors.items():
        _need(
            value.shape == own[name].shape and value.dtype == own[name].dtype,
            f"{name} has the shape {tuple(value.shape)} and the type {value.dtype}, and not "
            f"{tuple(own[name].shape)} and {own[name].dtype}",
        )


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    """Check the values of the tensors: finite, positive, or an order.

    Raises
    ------
    ValueError
        If a value is not what it must be.
    """
    for name, value in tensors.items():
        if name in ("standardizer.domain.low", "standardizer.domain.high", "conditionals.degrees"):
            _need(not bool(value.isnan().any()), f"{name} holds NaN")
        elif value.is_floating_point():
            _need(bool(torch.isfinite(value).all()), f"{name} holds NaN or infinite values")
        elif name.endswith(".order"):
            in_order = torch.arange(len(value), device=value.device)
            _need(torch.equal(value.sort().values, in_order), f"{name} is not a permutation")
    for name in ("temperature", "standardizer.scale"):
        _need(bool((tensors[name] > 0).all()), f"{name} is not positive")
    if "standardizer.domain.low" in tensors:
        domain = {
            name: tensors[f"standardizer.domain.{name}"]
            for name in ("low", "high", "margin", "period")
        }
        is_order = bool((domain["low"] < domain["high"]).all())
        _need(is_order, "a lower bound is not below the upper bound")
        _need(bool((domain["margin"] > 0).all()), "a margin of the bounds is not positive")
        _need(bool((domain["period"] >= 0).all()), "a period is negative")
        _need(int((domain["period"] > 0).sum()) <= MOST_PERIODIC, "too many features have a period")
    for name in ("conditionals.weights", "conditionals.degrees"):
        _need(name not in tensors or bool((tensors[name] > 0).all()), f"{name} is not positive")
    covariances = tensors.get("conditionals.covariances")
    if covariances is not None:
        is_definite = not bool(torch.linalg.cholesky_ex(covariances).info.any())
        _need(is_definite, "the covariances of the missing values are not positive definite")
    factor = tensors.get("flows.base.factor")
    if factor is not None:
        positive = bool((factor.diagonal(dim1=-2, dim2=-1) > 0).all())
        _need(positive, "the scales of the atoms are not positive")


def _listed(given: Mapping[Any, Any] | None, fields: Callable[[Any], dict[str, Any]]) -> Any:
    """A dictionary by column as a list, since the keys of JSON are texts and columns may not be."""
    if given is None:
        return None
    return [{"column": column, **fields(value)} for column, value in given.items()]


def _or_none(low: float | None, high: float | None) -> dict[str, Any]:
    """Bounds, of which None is written for one that is infinite."""
    bounds = {"low": low, "high": high}
    return {
        name: None if bound is None or math.isinf(bound) else bound
        for name, bound in bounds.items()
    }


def _in_least_precision(model: MixtureModel) -> MixtureModel:
    """A model in float64 in float32, if its weights are exact in it, as they are after a fit."""
    parameters = list(model.parameters())
    is_double = all(p.dtype == torch.float64 for p in parameters)
    if is_double and all(torch.equal(p, p.float().double()) for p in parameters):
        return copy.deepcopy(model).float()
    return model


def _empty_standardizer(n_features: int, tensors: Mapping[str, Tensor]) -> Standardizer:
    """A standardiser with a domain if the tensors have one."""
    zero, one = torch.zeros(n_features), torch.ones(n_features)
    if "standardizer.domain.period" not in tensors:
        return Standardizer(zero, one)
    # The posterior network has a further input for each feature with a period.
    period = tensors["standardizer.domain.period"]
    _need(period.shape == (n_features,), "the periods are not one for each feature")
    return Standardizer(zero, one, Domain(-one, one, one, period, zero, zero))


def _empty_conditionals(n_features: int, tensors: Mapping[str, Tensor]) -> Conditionals | None:
    """The distribution of missing values, with as many atoms as the tensors have, if they do."""
    shape = _shape(tensors, "conditionals.weights")
    if shape is None:
        return None
    _need(len(shape) == 1 and shape[0] > 0, "the distribution of missing values has no atoms")
    squares = shape[0] * n_features**2
    available = sum(value.numel() for value in tensors.values())
    _need(squares <= available, "the distribution of missing values asks for more weights")
    ones = torch.ones(shape[0])
    means = torch.zeros(shape[0], n_features)
    return Conditionals(ones, means, torch.zeros(*means.shape, n_features), ones)


def _need(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise ValueError(otherwise)


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _n_atoms(tensors: Mapping[str, Tensor]) -> int:
    """The number of atoms that the base distributions have room for."""
    shape = _shape(tensors, "flows.base.logits")
    return 1 if shape is None or len(shape) != 2 else shape[1]


def _fields(saved: msgspec.Struct) -> dict[str, Any]:
    """The fields of a part of the document, with numbers that are not finite."""
    fields: dict[str, Any] = numbers(msgspec.structs.asdict(saved))
    return fields


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(entry) for name, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _classes() -> dict[str, Any]:
    """A specification of each class that a file may hold, by the name of the class."""
    known = (*FAMILIES.values(), *POSTERIORS.values(), Training())
    return {type(specification).__name__: type(specification) for specification in known}
