"""Settings of a fit: checks of the parameters, and values for every "auto"."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from vmonf.bounds import check_domains
from vmonf.flows import Family, family_of
from vmonf.model import PosteriorMLP, posterior_of
from vmonf.model.build import FULL_COVARIANCE_LIMIT
from vmonf.parameters import (
    ParameterError,
    Specification,
    check_choice,
    check_flag,
    check_number,
    check_whole_number,
)
from vmonf.plain import plain
from vmonf.start import STARTS, Start
from vmonf.training import (
    BATCH_SIZE,
    BOUNDS,
    PERTURBATIONS,
    Consistency,
    Objective,
    TemperatureSchedule,
    Term,
    Training,
    bound_objective,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: If `validation_fraction` is above 0, flows are trained only with at least this many distinct
#: training rows, in total and for each component. Fewer than about ten held-out rows cannot tell
#: whether flows are better than a Gaussian mixture.
MIN_ROWS_TO_TRAIN = 80
MIN_ROWS_A_COMPONENT = 4
#: With more rows than this, an epoch is a part of a pass, and batches are larger.
MANY_ROWS = 50_000
#: Default of `epoch_rows` with many rows.
EPOCH_ROWS = 20_000
#: Default of `batch_size` with many rows. The learning rate goes with its square root.
LARGE_BATCH_SIZE = 1024
#: If an epoch may be less than a pass, at most this many rows are held out, since they are scored
#: after each epoch.
MOST_HELD_OUT = 10_000
#: Of the sample of a table that is read in parts, at most this share is held out.
HELD_OUT_SHARE = 0.2
#: Default of `components_per_row`: all components if there are at most `DENSE_COMPONENTS`, and
#: otherwise `LIKELY_COMPONENTS`.
DENSE_COMPONENTS = 16
LIKELY_COMPONENTS = 4
#: Pretraining whose number of epochs is "auto" ends after so many without a gain: it would overfit
#: small tables.
PRETRAIN_PATIENCE = 4

#: Bounds of the weight of the broad part of each component.
LEAST_BROAD_WEIGHT = 0.001
LARGEST_BROAD_WEIGHT = 0.01

#: The type of the weights of a fitted model, by the name of its precision.
PRECISIONS = {"double": torch.float64, "single": torch.float32}

#: What is done with missing values.
MISSING = ("refuse", "marginal")
#: With more features, the distributions of missing values would take too long.
MOST_FEATURES_WITH_GAPS = 64

#: The parameters of `FlowMixture` that hold specifications.
SPECIFICATIONS = ("flow", "posterior", "training")


@dataclass(frozen=True)
class Settings:
    """The settings of a fit, in which only `base` may be "auto".

    Attributes
    ----------
    n_components, n_features : int
    flow : Family
    base : int or "auto"
        The number of atoms of each component; "auto" is resolved by the start, from the rows.
    broad_weight : float
        Weight of the broad part of each component; see `vmonf.flows.base.Base`.
    posterior : PosteriorMLP
    weights : array of shape (K,) or None
        Fixed mixing weights; None if they are learned.
    objective : Objective
    temperature : TemperatureSchedule
    init : str or array of shape (K, D)
        The name of the start, or centres in the user's units.
    n_init : int
    max_epochs : int
    deadline : float or None
        When the fit should end, by `time.monotonic`.
    n_held_out : int
        Number of distinct rows that are held out.
    trains : bool
        Whether flows are trained.
    training : Training
        Without "auto".
    pretrain_patience : int or None
        Pretraining ends after this many epochs without a better held-out log-likelihood.
    checkpoint : Path or None
    device : torch.device
    dtype : torch.dtype
        Of the weights of the fitted model. It is trained in float32.
    """

    n_components: int
    n_features: int
    flow: Family
    base: int | Literal["auto"]
    broad_weight: float
    posterior: PosteriorMLP
    weights: Array | None
    objective: Objective
    temperature: TemperatureSchedule
    init: str | Array
    n_init: int
    max_epochs: int
    deadline: float | None
    n_held_out: int
    trains: bool
    training: Training
    pretrain_patience: int | None
    checkpoint: Path | None
    device: torch.device
    dtype: torch.dtype

    @property
    def start(self) -> Start | None:
        """The start that `init` names, or None if `init` holds centres."""
        return STARTS[self.init] if isinstance(self.init, str) else None

    @property
    def batch_size(self) -> int:
        """Number of rows in a step."""
        assert self.training.batch_size != "auto"
        return self.training.batch_size

    @property
    def needs_spacing(self) -> bool:
        """Whether a term of the objective needs the spacing of the rows."""
        return self.training.consistency in [
            name for name, perturbation in PERTURBATIONS.items() if perturbation.needs_spacing
        ]

    def of_training(self) -> dict[str, Any]:
        """The settings that determine a training, together with its rows and seed, for JSON.

        The device is not included. The number of epochs is included only if a schedule depends on
        it. So a training can continue on another device and for more epochs.
        """
        names = ("n_components", "flow", "base", "posterior", "weights", "init", "training")
        document = {name: plain(getattr(self, name)) for name in names}
        document["pretrain_patience"] = self.pretrain_patience
        document["terms"] = [repr(term) for term in self.objective.terms]
        document["temperature"] = list(dataclasses.astuple(self.temperature))
        if self.training.learning_rate_schedule == "cosine":
            document["max_epochs"] = self.max_epochs
        return document


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check all that can be checked without data.

    Parameters
    ----------
    parameters : mapping
        The parameters of a `FlowMixture`, by name.

    Raises
    ------
    ParameterError
        If a value is not valid. The error names the first such parameter.
    """
    if isinstance(parameters["n_components"], str):
        _check_number_to_find(parameters)
    else:
        check_whole_number("n_components", parameters["n_components"], at_least=1)
    check_whole_number("max_components", parameters["max_components"], at_least=1)
    for name, specification in specifications(parameters).items():
        check = getattr(specification, "check", None)
        if check is not None:
            try:
                check()
            except ParameterError as error:
                raise error.within(name) from None
    if parameters["base"] != "auto":
        check_whole_number("base", parameters["base"], at_least=1)
    if isinstance(parameters["weights"], str):
        check_choice("weights", parameters["weights"], ("uniform", "learned"))
    check_choice("objective", parameters["objective"], BOUNDS)
    _temperatures(parameters["temperature"])
    if parameters["temperature_epochs"] is not None:
        check_whole_number("temperature_epochs", parameters["temperature_epochs"], at_least=0)
    if isinstance(parameters["init"], str):
        check_choice("init", parameters["init"], STARTS)
    check_whole_number("n_init", parameters["n_init"], at_least=1)
    check_whole_number("max_epochs", parameters["max_epochs"], at_least=0)
    if parameters["max_seconds"] is not None:
        check_number("max_seconds", parameters["max_seconds"], above=0)
    check_number("validation_fraction", parameters["validation_fraction"], at_least=0, below=1)
    check_flag("warm_start", parameters["warm_start"])
    check_choice("precision", parameters["precision"], PRECISIONS)
    check_choice("missing", parameters["missing"], MISSING)
    check_domains(parameters)
    if parameters["missing"] == "marginal" and parameters["periodic"]:
        raise ParameterError(
            "missing",
            "='marginal' cannot be combined with periodic: replace such columns by their sine and "
            "cosine.",
        )
    checkpoint = parameters["checkpoint"]
    if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
        raise ParameterError("checkpoint", f"={checkpoint!r} must be the path of a file, or None.")
    if not isinstance(parameters["device"], (str, torch.device)):
        raise ParameterError("device", f"={parameters['device']!r} must be the name of a device.")


def resolve(
    parameters: Mapping[str, Any],
    n_rows: int,
    n_features: int,
    n_components: int,
    n_sampled: int | None = None,
    began: float = 0.0,
) -> Settings:
    """The settings of a fit to a table.

    Parameters
    ----------
    parameters : mapping
        The parameters of a `FlowMixture`, checked by `check_parameters`.
    n_rows : int
        Number of distinct rows of the table.
    n_features : int
        D.
    n_components : int
        K: the parameter `n_components`, the number that was found, or the number of classes in the
        labels if it is larger.
    n_sampled : int, optional
        Number of rows in memory, if the table is read in parts.
    began : float, optional
        When the fit began, by `time.monotonic`. It matters with `max_seconds`.

    Raises
    ------
    ParameterError
        If a value cannot be combined with the table or with another value.
    """
    if n_rows < n_components:
        raise ParameterError(
            "n_components",
            f"={n_components} is more than the {n_rows} distinct rows: choose fewer components.",
        )
    if parameters["missing"] == "marginal" and n_features > MOST_FEATURES_WITH_GAPS:
        raise ParameterError(
            "missing",
            f"='marginal' takes at most {MOST_FEATURES_WITH_GAPS} features, and there are "
            f"{n_features}: leave out columns, or fill their missing values.",
        )
    flow, posterior, training = specifications(parameters).values()
    init = _init(parameters["init"], n_components, n_features)
    max_epochs, max_seconds = int(parameters["max_epochs"]), parameters["max_seconds"]
    validation_fraction = float(parameters["validation_fraction"])
    if n_sampled is not None and training.consistency == "noise":
        raise ParameterError(
            "training__consistency",
            "='noise' needs the near neighbours of every row, and this table is read in parts: "
            "choose 'features' or None, or fit a sample of the rows.",
        )
    training = _for_rows(training, n_rows)
    epoch_rows = training.epoch_rows
    most_held_out = n_rows if epoch_rows is None else MOST_HELD_OUT
    if n_sampled is not None:
        most_held_out = min(most_held_out, int(HELD_OUT_SHARE * n_sampled))
    n_held_out = min(
        most_held_out, _n_held_out(validation_fraction, max_epochs, n_rows, n_components)
    )
    checkpoint = parameters["checkpoint"]
    pretrain_patience = PRETRAIN_PATIENCE if training.pretrain_epochs == "auto" else None
    training = dataclasses.replace(
        training,
        pretrain_epochs=_pretrain_epochs(training, init),
        components_per_row=_components_per_row(training, n_components, parameters["objective"]),
        consistency_size=_consistency_size(training, n_features),
    )
    return Settings(
        n_components=n_components,
        n_features=n_features,
        flow=flow,
        base=_base(parameters["base"], init, n_features),
        broad_weight=0.0 if parameters["base"] == 1 else _broad_weight(n_rows / n_components),
        posterior=posterior,
        weights=_weights(parameters["weights"], n_components),
        objective=_objective(parameters["objective"], training),
        temperature=_temperature(parameters, max_epochs),
        init=init,
        n_init=int(parameters["n_init"]),
        max_epochs=max_epochs,
        deadline=None if max_seconds is None else began + float(max_seconds),
        n_held_out=n_held_out,
        trains=max_epochs > 0 and (n_held_out > 0 or validation_fraction == 0),
        training=training,
        pretrain_patience=pretrain_patience,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device_of(parameters["device"]),
        dtype=PRECISIONS[parameters["precision"]],
    )


def specifications(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The specifications for "flow", "posterior" and "training", whether named or given."""
    training = Training() if parameters["training"] is None else parameters["training"]
    if not isinstance(training, Training):
        raise ParameterError(
            "training", f"={training!r} must be a Training, such as Training(learning_rate=0.001)."
        )
    return {
        "flow": family_of(parameters["flow"]),
        "posterior": posterior_of(parameters["posterior"]),
        "training": training,
    }


def parameters_of_components(parameters: Mapping[str, Any], kept: IntArray) -> dict[str, Any]:
    """The parameters of a fit with some of its components alone.

    Parameters
    ----------
    parameters : mapping
        The parameters of a fitted `FlowMixture`, by name.
    kept : int array of shape (C,)
        The components that are kept. Given weights and centres are cut to them.
    """
    changed = {**parameters, "n_components": len(kept)}
    if not isinstance(parameters["weights"], str):
        weights = np.asarray(parameters["weights"], dtype=np.float64)[kept]
        changed["weights"] = weights / weights.sum()
    if not isinstance(parameters["init"], str):
        changed["init"] = np.asarray(parameters["init"])[kept]
    return changed


def with_nested(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes for `set_params`, with nested parameters replaced by changed specifications.

    ``{"flow__n_layers": 2}`` becomes ``{"flow": RealNVP(n_layers=2)}`` if the parameters have
    ``flow="realnvp"``.

    Raises
    ------
    ParameterError
        If the estimator or the specification has no such parameter.
    """
    plain_changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        owner, separator, inner = name.partition("__")
        if separator and owner in SPECIFICATIONS:
            nested.setdefault(owner, {})[inner] = value
        elif name in parameters:
            plain_changes[name] = value
        else:
            raise ParameterError(
                name, f" is not a parameter of FlowMixture: it has {', '.join(parameters)}."
            )
    both = {**parameters, **plain_changes}
    for owner, values in nested.items():
        specification = specifications(both)[owner]
        known = specification.get_params(deep=False)
        for inner in values:
            if inner not in known:
                raise ParameterError(
                    f"{owner}__{inner}",
                    f" is not a parameter of {type(specification).__name__}: it has "
                    f"{', '.join(sorted(known)) or 'none'}.",
                )
        if isinstance(specification, Specification):
            changed = dataclasses.replace(specification, **values)  # type: ignore[type-var]
        else:
            changed = type(specification)(**{**known, **values})
        plain_changes[owner] = changed
    return plain_changes


def device_of(device: str | torch.device) -> torch.device:
    """The torch device of a name. "auto" is a CUDA GPU if there is one, and otherwise the CPU.

    Raises
    ------
    ParameterError
        If this machine has no such device, or the device does not compute in double precision.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # Densities are in double precision, which some devices do not support.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ParameterError(
            "device",
            f"={device!r} is not available on this machine, or does not compute in double "
            "precision; choose 'auto' or 'cpu'.",
        ) from error


def _check_number_to_find(parameters: Mapping[str, Any]) -> None:
    """Check ``n_components="auto"``, with which no other parameter may say what K is."""
    if parameters["n_components"] != "auto":
        raise ParameterError(
            "n_components", f"={parameters['n_components']!r} must be a whole number, or 'auto'."
        )
    for name in ("weights", "init"):
        if not isinstance(parameters[name], str):
            raise ParameterError(
                name,
                " has an entry for each component, and n_components='auto' is not their number: "
                "give their number as n_components.",
            )


def _n_held_out(validation_fraction: float, max_epochs: int, n_rows: int, n_components: int) -> int:
    """Number of held-out rows: 0 if nothing is trained, or too few rows would be left for it."""
    n_held_out = math.ceil(validation_fraction * n_rows)
    enough = max(MIN_ROWS_TO_TRAIN, MIN_ROWS_A_COMPONENT * n_components)
    return 0 if max_epochs == 0 or n_rows - n_held_out < enough else n_held_out


def _base(base: int | Literal["auto"], init: str | Array, n_features: int) -> int | Literal["auto"]:
    """The number of atoms; one without clusters, or where covariances are diagonal."""
    without_clusters = isinstance(init, str) and not STARTS[init].informed
    if base != "auto" and base > 1 and without_clusters:
        raise ParameterError(
            "base",
            f"={base} cannot be combined with init='none', which starts without clusters: choose "
            "another init, or base=1.",
        )
    diagonal = n_features > FULL_COVARIANCE_LIMIT
    if base != "auto" and base > 1 and diagonal:
        raise ParameterError(
            "base",
            f"={base} cannot be combined with {n_features} features: with more than "
            f"{FULL_COVARIANCE_LIMIT}, choose base=1.",
        )
    return 1 if without_clusters or diagonal else base


def _broad_weight(rows_per_component: float) -> float:
    """About the share of new rows to expect where a component had none."""
    return min(max(1 / rows_per_component, LEAST_BROAD_WEIGHT), LARGEST_BROAD_WEIGHT)


def _for_rows(training: Training, n_rows: int) -> Training:
    """The batches and epochs of a training with this number of rows."""
    is_large = n_rows > MANY_ROWS
    if training.epoch_rows == "auto":
        training = dataclasses.replace(training, epoch_rows=EPOCH_ROWS if is_large else None)
    if training.batch_size != "auto":
        return training
    batch_size = LARGE_BATCH_SIZE if is_large else BATCH_SIZE
    learning_rate = training.learning_rate * math.sqrt(batch_size / BATCH_SIZE)
    return dataclasses.replace(training, batch_size=batch_size, learning_rate=learning_rate)


def _pretrain_epochs(training: Training, init: str | Array) -> int:
    if training.pretrain_epochs != "auto":
        return training.pretrain_epochs
    return STARTS[init].pretrain_epochs if isinstance(init, str) else 0


def _objective(bound: str, training: Training) -> Objective:
    """The sum of terms to maximise. A further term belongs here, with its switch in `Training`."""
    n_likely = training.components_per_row
    size = training.consistency_size
    assert n_likely != "auto"
    assert size != "auto"
    further: tuple[Term, ...] = ()
    if training.consistency is not None:
        further = (Consistency(training.consistency, size, training.consistency_weight),)
    return bound_objective(bound, n_likely, further)


def _consistency_size(training: Training, n_features: int) -> float:
    name, size = training.consistency, training.consistency_size
    perturbation = PERTURBATIONS.get(name) if isinstance(name, str) else None
    if perturbation is not None and n_features < perturbation.least_features:
        raise ParameterError(
            "training__consistency",
            f"={name!r} needs at least {perturbation.least_features} features, and there is "
            f"{n_features}.",
        )
    if size != "auto":
        return size
    return 0.0 if perturbation is None else perturbation.size


def _components_per_row(training: Training, n_components: int, objective: str) -> int | None:
    sparse_is_possible = BOUNDS[objective].takes_sparse_terms
    n_likely = training.components_per_row
    if n_likely == "auto":
        is_expensive = n_components > DENSE_COMPONENTS and sparse_is_possible
        return LIKELY_COMPONENTS if is_expensive else None
    if n_likely is not None and not sparse_is_possible:
        raise ParameterError(
            "training__components_per_row",
            f"={n_likely!r} cannot be combined with objective={objective!r}, which needs every "
            "component of every row: choose objective='elbo' or components_per_row=None.",
        )
    return n_likely


def _weights(weights: object, n_components: int) -> Array | None:
    if isinstance(weights, str):
        return None if weights == "learned" else np.full(n_components, 1 / n_components)
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (n_components,) or not (values > 0).all() or abs(values.sum() - 1) > 1e-6:
        raise ParameterError(
            "weights",
            f" must be {n_components} positive numbers that sum to one, got {weights!r}.",
        )
    return values


def _temperatures(temperature: object) -> tuple[float, float]:
    try:
        values = np.atleast_1d(np.asarray(temperature, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape not in ((1,), (2,)):
        raise ParameterError(
            "temperature", f"={temperature!r} must be a number or a pair (first, last)."
        )
    first, last = float(values[0]), float(values[-1])
    if not (0 < first < math.inf and 0 < last < math.inf):
        raise ParameterError("temperature", f"={temperature!r} must be positive and finite.")
    return first, last


def _temperature(parameters: Mapping[str, Any], max_epochs: int) -> TemperatureSchedule:
    first, last = _temperatures(parameters["temperature"])
    n_epochs = parameters["temperature_epochs"]
    if n_epochs is None:
        n_epochs = 0 if first == last else max_epochs // 2
    if 0 < max_epochs <= n_epochs:
        raise ParameterError(
            "temperature_epochs",
            f"={n_epochs} must be less than max_epochs={max_epochs}: no weights are kept before "
            "the decay ends.",
        )
    return TemperatureSchedule(first, last, int(n_epochs))


def _init(init: object, n_components: int, n_features: int) -> str | Array:
    if isinstance(init, str):
        return init
    try:
        centres = np.asarray(init, dtype=np.float64)
    except (TypeError, ValueError):
        centres = np.empty(0)
    if centres.shape != (n_components, n_features):
        raise ParameterError(
            "init",
            f" has shape {centres.shape}: give the name of a start ({', '.join(STARTS)}) or "
            f"centres of shape {(n_components, n_features)}; to give a cluster for each row, use "
            "clusters= of fit.",
        )
    if not np.isfinite(centres).all():
        raise ParameterError("init", " holds NaN or infinite values: give finite centres.")
    return centres
