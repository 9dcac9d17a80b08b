"""Conversion of a fitted estimator to a JSON document and tensors, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vmonf.flows import FAMILIES
from vmonf.judge import Verdict
from vmonf.model import POSTERIORS, MixtureModel, build_model
from vmonf.plain import plain
from vmonf.settings import device_of, specifications
from vmonf.start import Agreement, Number
from vmonf.storage import ModelFileError
from vmonf.training import Training


def to_document(
    parameters: Mapping[str, Any], attributes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A fitted estimator as values that JSON can hold, and tensors.

    Parameters
    ----------
    parameters : mapping
        Parameters of the estimator, as they were when it was fitted.
    attributes : mapping
        Its fitted attributes.

    Raises
    ------
    ModelFileError
        If the class of a specification is not one that `from_document` finds by its name.
    """
    # The progress bar and the path of the checkpoint are not properties of the model. The state of
    # a random generator is not saved.
    parameters = {**parameters, "verbose": 0, "checkpoint": None}
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    for name, value in parameters.items():
        if hasattr(value, "get_params") and type(value).__name__ not in _classes():
            raise ModelFileError(
                f"{name}={value!r} cannot be saved, since its class could not be found on load: "
                f"add {type(value).__name__}() to vmonf.flows.FAMILIES under a name first."
            )
    model: MixtureModel = attributes["model_"]
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
    return plain(document), model.state_dict()


def from_document(
    path: str | os.PathLike[str],
    document: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert a document and tensors back to an estimator: the inverse of `to_document`.

    Parameters
    ----------
    path : path
        The path that messages name.
    document, tensors : mapping
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
    """
    try:
        parameters = {name: _parameter(value) for name, value in document["parameters"].items()}
        if isinstance(parameters["init"], tuple):
            parameters["init"] = np.array(parameters["init"])
        if device is not None:
            parameters["device"] = device
        classes, n_features = np.array(document["classes"]), document["n_features"]
        specified = specifications(parameters)
        model = build_model(
            specified["flow"],
            specified["posterior"],
            len(classes),
            n_features,
            n_atoms=_n_atoms(tensors),
            broad_weight=float(document.get("broad_weight", 0.0)),
            learn_weights=parameters["weights"] == "learned",
            generator=torch.Generator(),
        )
        model = model.to(getattr(torch, document["dtype"]))
        model.load_state_dict(dict(tensors))
        attributes = {
            "n_features_in_": n_features,
            "classes_": classes,
            # Files that were written before these were kept have none.
            "labelled_classes_": np.array(document.get("labelled_classes", []), classes.dtype),
            "history_": document["history"],
            "converged_": document["converged"],
            "verdict_": Verdict(**document["verdict"]),
            "shrinkage_": document["shrinkage"],
            "start_": _start(document),
            "number_": _number(document),
        }
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelFileError(
            f"{path} holds weights that do not match its settings, or settings that this version "
            f"of vmonf does not know ({str(error).splitlines()[0]}): the file is damaged, or was "
            "written by another version."
        ) from error
    if document["feature_names"] is not None:
        attributes["feature_names_in_"] = np.array(document["feature_names"], dtype=object)
    attributes["model_"] = model.to(device_of(parameters["device"]))
    return parameters, attributes


def _n_atoms(tensors: Mapping[str, Tensor]) -> int:
    """The number of atoms that the base distributions have room for."""
    logits = tensors.get("flows.base.logits")
    return 1 if logits is None else logits.shape[1]


def _start(document: Mapping[str, Any]) -> Agreement:
    """The start of the fit. Files that were written before it was kept have only the name."""
    if "start" in document:
        return Agreement(**{name: _tuples(value) for name, value in document["start"].items()})
    init = document["parameters"]["init"]
    return Agreement(init if isinstance(init, str) else "centres")


def _number(document: Mapping[str, Any]) -> Number:
    """The number of components. Files that were written before it was kept have only K."""
    if "number" in document:
        return Number(**{name: _tuples(value) for name, value in document["number"].items()})
    return Number(len(document["classes"]))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _classes() -> dict[str, type]:
    """The classes of the specifications that a file may hold, by name."""
    known = (*FAMILIES.values(), *POSTERIORS.values(), Training())
    return {type(specification).__name__: type(specification) for specification in known}


def _parameter(value: Any) -> Any:
    """A parameter from its JSON value: lists become tuples, dictionaries specifications."""
    if isinstance(value, list):
        return tuple(_parameter(entry) for entry in value)
    if isinstance(value, dict):
        values = {name: _parameter(entry) for name, entry in value.items()}
        name = values.pop("type")
        if name not in _classes():
            raise ValueError(f"it needs {name}, which is not in vmonf.flows.FAMILIES")
        return _classes()[name](**values)
    return value
