"""FlowMixture: the scikit-learn face of a mixture of flows."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from vmonf.checkpoint import Checkpoint
from vmonf.flows import FAMILIES, build_flows
from vmonf.flows.families import MIXINGS
from vmonf.graph import graph_clusters
from vmonf.inputs import (
    DistinctRows,
    encode_labels,
    shift_and_scale,
    warn_of_repeated_values,
)
from vmonf.machine import keep_freed_memory, threads_for
from vmonf.model import MixtureModel, PosteriorNetwork, Standardizer, in_parts
from vmonf.progress import epoch_bar
from vmonf.start import (
    FULL_COVARIANCE_LIMIT,
    GaussianStart,
    GaussianStarter,
    Shrinkage,
    StartRows,
    largest_to_largest,
)
from vmonf.storage import ModelFileError, read_model, write_model
from vmonf.training import (
    Objective,
    Progress,
    Rows,
    Training,
    TrainingConfig,
    TrainingError,
    TrainingResult,
    refine_posterior,
    warm_up_posterior,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Flows replace the Gaussian mixture only if they gain more than this many standard errors
#: of held-out log-likelihood: less could be luck.
STANDARD_ERRORS_OF_GAIN = 2.0
#: Tables with fewer distinct rows than this, in all or a component, keep the start.
MIN_ROWS_TO_TRAIN = 20
MIN_ROWS_A_COMPONENT = 4
#: Up to so many components each row of a step meets them all, unless told otherwise.
DENSE_COMPONENTS = 16
#: Beyond, it meets so many of the likely ones, and one other.
LIKELY_COMPONENTS = 4
#: Epochs in which flows take the shape of the graph's clusters.
GRAPH_PRETRAIN_EPOCHS = 20
#: A class with fewer labelled rows than this keeps them all for training.
MANY_LABELS = 20


class FlowMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A mixture of normalizing flows: exact density, clusters, samples, labels if any.

    `sklearn.mixture.GaussianMixture` with normalizing flows for components and a neural
    network for the posterior, which clusters new rows in one pass. A fit starts from a
    Gaussian mixture with cross-validated shrinkage and ends with flows only where they
    improve the held-out log-likelihood by more than chance.

    Source: Pires & Figueiredo, "Variational Mixture of Normalizing Flows" (ESANN 2020).

    Parameters
    ----------
    n_components : int, default=2
        K, the number of flows. Labels of more classes raise it, with a warning. Give each a
        few hundred rows or more, if flows are to have a chance.
    flow : {"realnvp", "maf", "nsf", "nsf-ar"}, default="realnvp"
        The family: affine coupling, affine autoregressive, and rational-quadratic splines
        in coupling and autoregressive form. Autoregressive flows fit more closely and
        sample slowly: one network pass a feature. Affine flows of one feature are Gaussian;
        use splines there.
    n_layers : int, default=4
        Coupling or autoregressive layers of each flow.
    hidden : sequence of int, default=(64, 64)
        Hidden widths of each layer's network.
    n_bins : int, default=8
        Bins of a spline.
    mixing : {"permutation", "lu"}, default="permutation"
        How features are mixed after each pair of layers.
    posterior_hidden : sequence of int, default=(64, 64)
        Hidden widths of the posterior network q(c given x).
    weights : {"uniform", "learned"} or array of shape (K,), default="uniform"
        Mixing weights p(c). Uniform ones, as in the paper, say that clusters are of one size,
        labelled or not: choose "learned" where they are not.
    components_per_row : int, "auto" or None, default="auto"
        With many components: train each row on at most so many of those that the posterior
        thinks likely, and one of the others drawn at random, which estimates the ELBO without
        bias; see `vmonf.model.sparse`. None is all of them, and so is "auto" with up to 16
        components or with the marginal objective; beyond, it is 4. What is scored is exact
        in either case.
    objective : {"elbo", "marginal"}, default="elbo"
        What is maximised: the paper's ELBO, or the exact log-likelihood with q fitted to
        the responsibilities.
    temperature : float or (float, float), default=1.0
        Divides the posterior's softmax input. A pair decays exponentially from the first to
        the last; start well above 1 with ``init="none"``, as in the paper.
    temperature_epochs : int or None, default=None
        Epochs the decay takes: half of `max_epochs` unless given.
    init : {"kmeans", "graph", "random", "none"} or array, default="kmeans"
        Where the start's components are: k-means; the graph of nearest neighbours, which
        follows rings, wings and other shapes, and along which labels spread (see
        `vmonf.graph`); K random rows; given centres of shape (K, D); or a given cluster for
        each row, of shape (n,), -1 where it is open. With labels, each class starts at its
        own rows. "none" is the paper's: all start at all rows, with networks drawn at random,
        and chance and the temperature part them.
    n_init : int, default=1
        Fits from so many starts; the best held-out log-likelihood is kept.
    pretrain_epochs : int or "auto", default="auto"
        Epochs on the labelled rows alone before all rows are used. Where `init` gives
        clusters, as "graph" does, these count as labels until then. "auto" is 20 with
        "graph", whose clusters no Gaussians can hold, and else 0.
    refine_posterior : bool, default=True
        At the end fit the posterior further, the flows held fixed, on rows and on samples of
        the model; with up to 64 features.
    learning_rate : float, default=0.003
        Of Adam.
    learning_rate_schedule : {"plateau", "cosine", "constant"}, default="plateau"
        Cut at plateaus of the held-out log-likelihood; half a cosine; or constant.
    weight_decay : float, default=0.1
        Of the networks' weights, decoupled, as in AdamW; 0 is Adam.
    gradient_clip : float, default=5.0
        Largest norm of a gradient.
    averaging : float, default=0.99
        Keep a moving average of the weights, with this factor a step; 0 for none.
    batch_size : int, default=256
        Rows a step.
    max_epochs : int, default=300
        Passes over the rows, at most.
    validation_fraction : float, default=0.1
        Share of the distinct rows held out for early stopping. With 0 there is no early
        stopping, and the last weights are kept whatever they are worth.
    patience : int or None, default=30
        Stop after so many epochs without gain; None: never.
    checkpoint : path or None, default=None
        A file that keeps the state of the training, written every half a minute or so: a fit
        of the same rows, settings and `random_state` goes on from it, and ends as if it had
        never stopped. With several starts each has its own, numbered. It is not removed.
    device : str, default="auto"
        A torch device; "auto" is a CUDA GPU if there is one, else the CPU.
    random_state : int, RandomState or None, default=None
        Seeds everything.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    weights_ : array of shape (K,)
        Mixing weights.
    n_components_ : int
        K as fitted.
    classes_ : array of shape (K,)
        What each component is called by `predict`: 0..K-1, or with labels the classes and
        then new names for the other components.
    n_features_in_ : int
    feature_names_in_ : array of shape (D,)
        Only where X had names.
    history_ : dict of str to list
        One entry an epoch: "epoch", "elbo", "log_likelihood" and "gap" of the held-out rows
        (nats per row), "training_objective", "temperature", "learning_rate", "seconds",
        "component_use".
    converged_ : bool
        Whether training stopped for want of gain rather than at `max_epochs`.
    n_epochs_ : int
        Epochs done.
    best_epoch_ : int
        The epoch whose weights were kept; 0 if no epoch's were and the model is a Gaussian
        mixture: flows gained no more than two standard errors on the held-out rows, or there
        were too few rows to train.
    held_out_log_likelihood_ : float
        Of the flows or the Gaussian mixture that were kept, in nats per row; not a number
        where no rows were held out. A little flattering, since these rows chose the epoch.
    gain_, gain_error_ : float
        Held-out log-likelihood of the flows less that of the Gaussian mixture of the same
        weights, in nats per row, and its standard error. The same rows chose the epoch, so it
        is a little flattering. Of the training rows, where none are held out; not a number,
        where nothing was trained.
    shrinkage_ : dict
        How the start's covariances were shrunk; see `vmonf.start.Shrinkage`.
    model_ : vmonf.model.MixtureModel
        The torch model, for a training loop of your own: it takes rows as float64 tensors in
        the units of X, and ``-model_.elbo(x).mean()`` is a loss.

    Notes
    -----
    Densities are in the units of X, in nats. Equal rows are merged, so that a row of weight
    two is the same as two rows, and the order of the rows does not matter.

    Examples
    --------
    >>> from vmonf import FlowMixture
    >>> from vmonf.data import Pinwheel
    >>> X, _ = Pinwheel().sample(100, random_state=0)
    >>> mixture = FlowMixture(n_components=5, max_epochs=5, random_state=0).fit(X)
    >>> mixture.predict(X).shape, mixture.score_samples(X).shape
    ((500,), (500,))
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's own name
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "flow": [StrOptions(set(FAMILIES))],
        "n_layers": [Interval(Integral, 0, None, closed="left")],
        "hidden": ["array-like"],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "mixing": [StrOptions(set(MIXINGS))],
        "posterior_hidden": ["array-like"],
        "weights": [StrOptions({"uniform", "learned"}), "array-like"],
        "components_per_row": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "objective": [StrOptions({"elbo", "marginal"})],
        "temperature": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "temperature_epochs": [Interval(Integral, 0, None, closed="left"), None],
        "init": [StrOptions({"kmeans", "graph", "random", "none"}), "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "refine_posterior": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"plateau", "cosine", "constant"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "gradient_clip": [Interval(Real, 0, None, closed="neither")],
        "averaging": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        flow: str = "realnvp",
        n_layers: int = 4,
        hidden: Sequence[int] = (64, 64),
        n_bins: int = 8,
        mixing: str = "permutation",
        posterior_hidden: Sequence[int] = (64, 64),
        weights: str | ArrayLike = "uniform",
        components_per_row: int | Literal["auto"] | None = "auto",
        objective: Literal["elbo", "marginal"] = "elbo",
        temperature: float | tuple[float, float] = 1.0,
        temperature_epochs: int | None = None,
        init: str | ArrayLike = "kmeans",
        n_init: int = 1,
        pretrain_epochs: int | Literal["auto"] = "auto",
        refine_posterior: bool = True,
        learning_rate: float = 3e-3,
        learning_rate_schedule: Literal["plateau", "cosine", "constant"] = "plateau",
        weight_decay: float = 0.1,
        gradient_clip: float = 5.0,
        averaging: float = 0.99,
        batch_size: int = 256,
        max_epochs: int = 300,
        validation_fraction: float = 0.1,
        patience: int | None = 30,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.flow = flow
        self.n_layers = n_layers
        self.hidden = hidden
        self.n_bins = n_bins
        self.mixing = mixing
        self.posterior_hidden = posterior_hidden
        self.weights = weights
        self.components_per_row = components_per_row
        self.objective = objective
        self.temperature = temperature
        self.temperature_epochs = temperature_epochs
        self.init = init
        self.n_init = n_init
        self.pretrain_epochs = pretrain_epochs
        self.refine_posterior = refine_posterior
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.averaging = averaging
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # ---------------------------------------------------------------- fitting

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        on_epoch: Callable[[Self], object] | None = None,
    ) -> Self:
        """Fit the mixture.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, D)
        y : array-like of shape (n,), optional
            Labels of some rows: whole numbers or strings; -1 marks an unlabelled row, as do
            NaN, None and "".
        sample_weight : array-like of shape (n,), optional
            How often each row counts; not negative.
        on_epoch : callable, optional
            Called before the first epoch, after pretraining, and after each epoch, with the
            mixture as it is then: it predicts, scores and samples, `n_epochs_` counts from 0,
            and `history_` is that so far. It is valid during the call alone. The model that
            the fit ends with may be of an earlier epoch, and its posterior refined.

        Returns
        -------
        FlowMixture
            This object, fitted.

        Raises
        ------
        ValueError
            If the data cannot be fitted: what is wrong and what to do stands in one sentence.
        vmonf.training.TrainingError
            If training meets values that are not numbers, again and again.
        vmonf.storage.ModelFileError
            If `checkpoint` is a file of another fit, or cannot be written.
        """
        values: Array = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        weight = _check_sample_weight(
            sample_weight, values, dtype=np.float64, ensure_non_negative=True
        )
        if not weight.sum() > 0:
            raise ValueError("sample_weight is zero for every row: no row is left to fit.")
        component = np.full(len(values), -1, dtype=np.int64)
        classes: NDArray[Any] = np.arange(self.n_components)
        if y is not None:
            labels = column_or_1d(y, warn=True)
            check_consistent_length(values, labels)
            # Rows of no weight are not there, and their labels neither.
            classes, component[weight > 0] = encode_labels(labels[weight > 0], self.n_components)
        self.n_components_ = len(classes)
        self._check_settings(values)
        rows = DistinctRows.of(values, weight, component)
        if len(rows.X) < self.n_components_:
            raise ValueError(
                f"n_components={self.n_components_} needs at least as many distinct rows, and "
                f"there are {len(rows.X)} (n_samples={len(values)})."
            )
        units = shift_and_scale(rows.X, rows.weight, self._feature_names())
        warn_of_repeated_values(rows.X, self._feature_names())
        random = check_random_state(self.random_state)
        seeds = random.randint(np.iinfo(np.int32).max, size=1 + self.n_init)
        train, held_out = self._split(rows, np.random.default_rng(seeds[0]))
        shift, scale = units
        Z = (rows.X - shift) / scale
        start_rows = StartRows(
            Z, rows.weight, rows.component, self._clusters(rows, Z, int(seeds[0]))
        )

        def watch(training: Training) -> None:
            if on_epoch is None:
                return
            now = copy.copy(self)
            now.classes_, history = classes, training.result.history
            now.history_, now.n_epochs_ = _by_name(history), len(history)
            with training.averaged():
                now.model_ = training.model
                on_epoch(now)

        tensors = self._tensors(rows)
        data = _Data(rows.weight, units, start_rows, tensors, train, held_out, watch)
        starter = GaussianStarter(
            self.n_components_, self._fixed_weights(), self._centres(shift, scale)
        )
        best: _Fit | None = None
        for restart, seed in enumerate(seeds[1:]):
            try:
                fitted = self._fit_once(data, starter, restart, int(seed))
            except TrainingError as error:
                if best is None:
                    raise
                warnings.warn(f"Start {restart + 1} was given up: {error}", stacklevel=2)
                continue
            starter = dataclasses.replace(starter, shrinkage=fitted.shrinkage)  # chosen once
            if best is None or fitted.score > best.score:
                best = fitted
            if fitted.result.interrupted:
                warnings.warn(
                    "Training was interrupted; the best model so far is kept.", stacklevel=2
                )
                break
        assert best is not None
        self._parameters_of_fit = self._savable_parameters()
        self.model_ = best.model
        self.classes_ = classes
        self.history_ = _by_name(best.result.history)
        self.converged_ = best.result.converged
        self.n_epochs_ = len(best.result.history)
        self.best_epoch_ = best.result.best_epoch
        self.held_out_log_likelihood_ = best.score if len(held_out) else math.nan
        self.gain_ = best.gain
        self.gain_error_ = best.gain_error
        self.shrinkage_ = dataclasses.asdict(best.shrinkage)
        return self

    def fit_predict(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Fit, and return the cluster of each row, by the posterior."""
        clusters: NDArray[Any] = self.fit(X, y, sample_weight).predict(X)
        return clusters

    def _fit_once(self, data: _Data, starter: GaussianStarter, restart: int, seed: int) -> _Fit:
        random = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        units, tensors, held_out = data.units, data.tensors, data.held_out
        clusters, mixture = starter.fit(data.start_rows.take(data.train), random)
        # Where rows are ample, flows find the shape of hard clusters by themselves, while
        # expectation maximisation has bent them towards what Gaussians can say.
        ample = starter.is_ample(len(data.train), self.n_features_in_)
        model = self._build(
            clusters if ample else mixture, units, generator, identity=not self._is_uninformed
        )
        keep_freed_memory()
        # Each weight meets each row of a batch once.
        with threads_for(self.batch_size * sum(p.numel() for p in model.parameters())):
            result = self._train(model, data, restart, generator)
            judged = held_out if len(held_out) else data.train
            floor = mixture.log_prob(data.start_rows.Z[judged]) - np.log(units[1]).sum()
            score, _ = _mean_and_error(floor, data.weight[judged])
            gain, gain_error = math.nan, math.nan
            if result.history:
                x = tensors.x[torch.from_numpy(judged)]
                log_prob = in_parts(model.log_prob, x, model.rows_at_once).cpu().numpy()
                gain, gain_error = _mean_and_error(log_prob - floor, data.weight[judged])
            if gain > STANDARD_ERRORS_OF_GAIN * gain_error or (
                result.history and not len(held_out)
            ):
                score += gain
            else:
                # The Gaussian mixture, then, but of all rows: none need be held out from it.
                mixture = starter.refit(data.start_rows, mixture) if len(held_out) else mixture
                model = self._build(mixture, units, generator)
                warm_up_posterior(model, tensors, generator)
                result.best_epoch = 0
            if self.refine_posterior:
                refine_posterior(model, tensors, generator)
        return _Fit(model, result, gain, gain_error, mixture.shrinkage, score)

    def _train(
        self, model: MixtureModel, data: _Data, restart: int, generator: torch.Generator
    ) -> TrainingResult:
        tensors, train, held_out = data.tensors, data.train, data.held_out
        if self.max_epochs == 0 or not (len(held_out) or self.validation_fraction == 0):
            return TrainingResult()
        rows = tensors.take(torch.from_numpy(train))
        first, cluster = rows, data.start_rows.cluster
        if cluster is not None and self._pretrain_epochs():
            given = torch.from_numpy(cluster[train]).to(rows.component.device)
            component = rows.component.where(rows.component >= 0, given)
            first = dataclasses.replace(rows, component=component)
        if not self._is_uninformed:
            warm_up_posterior(model, first, generator)
        training = Training(
            model,
            rows,
            tensors.take(torch.from_numpy(held_out)) if len(held_out) else None,
            Objective(self.objective),
            self._training_config(),
            generator,
            first,
        )
        checkpoint = self._checkpoint(data, restart, generator.initial_seed())
        if checkpoint is not None:
            checkpoint.resume(training)
        with epoch_bar(self.verbose, self.max_epochs, restart, self.n_init) as show:

            def on_epoch(progress: Progress) -> None:
                show(progress)
                data.watch(training)
                if checkpoint is not None:
                    checkpoint.save(training)

            return training.run(on_epoch, on_start=lambda: data.watch(training))

    def _checkpoint(self, data: _Data, restart: int, seed: int) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        settings = self._savable_parameters() | {"random_state": seed}
        digest = hashlib.sha256(
            json.dumps(settings, sort_keys=True, default=lambda value: value.tolist()).encode()
        )
        rows = data.start_rows
        for values in (rows.Z, rows.weight, rows.component, rows.cluster):
            digest.update(b"" if values is None else values.tobytes())
        path = Path(self.checkpoint)
        name = path.name if self.n_init == 1 else f"{path.stem}-{restart + 1}{path.suffix}"
        return Checkpoint(path.with_name(name), digest.hexdigest())

    def _split(self, rows: DistinctRows, random: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Training and held-out rows; of classes with few labels none is held out.

        No row is, either, where too few would be left to train on.
        """
        n_rows = len(rows.X)
        order = random.permutation(n_rows)
        labels = rows.component[order]
        n_labels = np.bincount(labels[labels >= 0], minlength=self.n_components_)
        dear = (labels >= 0) & (n_labels[labels] < MANY_LABELS)
        order = np.concatenate([order[~dear], order[dear]])
        n_held_out = math.ceil(self.validation_fraction * n_rows)
        enough = max(MIN_ROWS_TO_TRAIN, MIN_ROWS_A_COMPONENT * self.n_components_)
        if self.max_epochs == 0 or n_rows - n_held_out < enough:
            n_held_out = 0
        return order[n_held_out:], order[:n_held_out]

    def _build(
        self,
        start: GaussianStart,
        units: tuple[Array, Array],
        generator: torch.Generator,
        *,
        identity: bool = True,
    ) -> MixtureModel:
        """A model of flows that start as these Gaussians, or at them, drawn at random."""
        shift, scale = units
        model = self._architecture(len(shift), generator, identity=identity)
        model.standardizer = Standardizer(torch.from_numpy(shift), torch.from_numpy(scale))
        model.flows.whitening.set_gaussians(
            torch.from_numpy(start.means), torch.from_numpy(start.covariances)
        )
        model.set_weights(torch.from_numpy(start.weights))
        return model.to(self._device())

    def _architecture(
        self, n_features: int, generator: torch.Generator, *, identity: bool = True
    ) -> MixtureModel:
        """A model of this estimator's settings, whose parameters are not set from data yet."""
        settings = {"n_layers": self.n_layers, "hidden": tuple(self.hidden), "mixing": self.mixing}
        settings |= {"n_bins": self.n_bins} if "nsf" in self.flow else {}
        flows = build_flows(
            type(FAMILIES[self.flow])(**FAMILIES[self.flow].get_params() | settings),
            self.n_components_,
            n_features,
            diagonal_whitening=n_features > FULL_COVARIANCE_LIMIT,
            identity=identity,
            generator=generator,
        )
        return MixtureModel(
            Standardizer(torch.zeros(n_features), torch.ones(n_features)),
            flows,
            PosteriorNetwork(
                n_features, self.n_components_, tuple(self.posterior_hidden), generator=generator
            ),
            torch.full((self.n_components_,), 1 / self.n_components_),
            learn_weights=self._learns_weights,
        )

    @property
    def _named_init(self) -> str | None:
        """`init` where it is a name, and None where it is an array."""
        return self.init if isinstance(self.init, str) else None

    @property
    def _is_uninformed(self) -> bool:
        return self._named_init == "none"

    @property
    def _learns_weights(self) -> bool:
        return isinstance(self.weights, str) and self.weights == "learned"

    def _tensors(self, rows: DistinctRows) -> Rows:
        return Rows(
            *(
                torch.from_numpy(part).to(self._device())
                for part in (rows.X, rows.weight, rows.component)
            )
        )

    # ------------------------------------------------------- settings, resolved

    def _check_settings(self, X: Array) -> None:
        """Refuse what the parameter constraints cannot see."""
        for name in ("hidden", "posterior_hidden"):
            widths = getattr(self, name)
            if not all(isinstance(w, (int, np.integer)) and w > 0 for w in widths):
                raise ValueError(f"{name}={widths!r} must hold positive whole numbers.")
        if self._components_per_row() is not None and self.objective != "elbo":
            raise ValueError(
                f"components_per_row={self.components_per_row!r} does not go with "
                f"objective={self.objective!r}, which takes every component of every row: "
                "choose objective='elbo' or components_per_row=None."
            )
        first, last = self._temperatures()
        if not (first > 0 and last > 0):
            raise ValueError(f"temperature={self.temperature!r} must be positive.")
        if 0 < self.max_epochs <= self._temperature_epochs():
            raise ValueError(
                f"temperature_epochs={self._temperature_epochs()} leaves none of "
                f"max_epochs={self.max_epochs} after the decay, and no weights are kept before."
            )
        weights = self._fixed_weights()
        if weights is not None and (
            weights.shape != (self.n_components_,)
            or not (weights > 0).all()
            or abs(weights.sum() - 1) > 1e-6
        ):
            raise ValueError(
                f"weights must be {self.n_components_} positive numbers that sum to one, "
                f"got {self.weights!r}."
            )
        if not isinstance(self.init, str):
            init = np.asarray(self.init)
            if init.shape == (len(X),):
                if not np.isin(init, np.arange(-1, self.n_components_)).all():
                    raise ValueError(
                        f"init gives a cluster for each row: 0 to {self.n_components_ - 1}, or -1."
                    )
            elif init.ndim == 2 and not np.isfinite(init).all():
                raise ValueError("init holds centres that are not finite numbers.")
            elif init.shape != (self.n_components_, X.shape[1]):
                raise ValueError(
                    f"init has shape {init.shape}: give centres of shape "
                    f"{(self.n_components_, X.shape[1])} or a cluster for each of {len(X)} rows."
                )

    def _temperatures(self) -> tuple[float, float]:
        temperature = np.atleast_1d(np.asarray(self.temperature, dtype=np.float64))
        if temperature.shape not in ((1,), (2,)):
            raise ValueError(
                f"temperature={self.temperature!r} must be a number or a pair (first, last)."
            )
        return float(temperature[0]), float(temperature[-1])

    def _temperature_epochs(self) -> int:
        if self.temperature_epochs is not None:
            return self.temperature_epochs
        first, last = self._temperatures()
        return 0 if first == last else self.max_epochs // 2

    def _training_config(self) -> TrainingConfig:
        return TrainingConfig(
            learning_rate=self.learning_rate,
            learning_rate_schedule=self.learning_rate_schedule,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            gradient_clip=self.gradient_clip,
            temperature=self._temperatures(),
            temperature_epochs=self._temperature_epochs(),
            pretrain_epochs=self._pretrain_epochs(),
            components_per_row=self._components_per_row(),
            averaging=self.averaging,
        )

    def _pretrain_epochs(self) -> int:
        if self.pretrain_epochs != "auto":
            return self.pretrain_epochs
        return GRAPH_PRETRAIN_EPOCHS if self._named_init == "graph" else 0

    def _components_per_row(self) -> int | None:
        if self.components_per_row != "auto":
            return self.components_per_row
        is_dear = self.n_components_ > DENSE_COMPONENTS and self.objective == "elbo"
        return LIKELY_COMPONENTS if is_dear else None

    def _fixed_weights(self) -> Array | None:
        if not isinstance(self.weights, str):
            return np.asarray(self.weights, dtype=np.float64)
        if self.weights == "learned":
            return None
        return np.full(self.n_components_, 1 / self.n_components_)

    def _centres(self, shift: Array, scale: Array) -> str | Array:
        if isinstance(self.init, str):
            return self.init
        init = np.asarray(self.init, dtype=np.float64)
        return "kmeans" if init.ndim == 1 else (init - shift) / scale

    def _clusters(self, rows: DistinctRows, Z: Array, seed: int) -> IntArray | None:
        """The clusters that rows are first put in, where `init` says so."""
        if self._named_init == "graph":
            cluster = graph_clusters(Z, self.n_components_, rows.component, rows.weight, seed)
            weights = self._fixed_weights()
            if weights is not None and not (rows.component >= 0).any():
                cluster = largest_to_largest(cluster, rows.weight, weights)
            return cluster
        if isinstance(self.init, str) or np.ndim(self.init) == 2:
            return None
        return np.asarray(self.init, dtype=np.int64)[rows.first]

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            # In double, as densities are: some devices do not have it.
            torch.zeros(1, dtype=torch.float64, device=self.device).cpu()
            return torch.device(self.device)
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
            raise ValueError(
                f"device={self.device!r} is not to be had on this machine, or does not compute "
                "in double precision; choose 'auto' or 'cpu'."
            ) from error

    def _feature_names(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return [f"column {index}" for index in range(self.n_features_in_)]
        return [f"column {name!r}" for name in names]

    # ---------------------------------------------------------------- scoring

    @property
    def weights_(self) -> Array:
        """Mixing weights p(c): shape (K,)."""
        check_is_fitted(self, "model_")
        logits = self.model_.log_weight_logits.detach().double()
        weights: Array = logits.softmax(dim=-1).cpu().numpy()
        return weights

    def predict(
        self, X: ArrayLike, method: Literal["posterior", "exact"] = "posterior"
    ) -> NDArray[Any]:
        """Cluster of each row.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, D)
        method : {"posterior", "exact"}, default="posterior"
            By the posterior network q, one pass; or by the exact responsibilities, from
            the flows. Far from all rows of the fit, q may be sure without reason: use "exact"
            for outliers.

        Returns
        -------
        array of shape (n,)
            Entries of `classes_`.
        """
        log_proba = self._log_proba(method)

        def likeliest(x: torch.Tensor) -> torch.Tensor:  # in parts: K probabilities a row are many
            found = log_proba(x)
            return found.argmax(dim=1).double().masked_fill(found.isnan().any(dim=1), math.nan)

        clusters: NDArray[Any] = self.classes_[self._evaluate(likeliest, X).astype(np.int64)]
        return clusters

    def predict_proba(
        self, X: ArrayLike, method: Literal["posterior", "exact"] = "posterior"
    ) -> Array:
        """Probability of each component given each row: (n, K); see `predict`."""
        return np.exp(self._evaluate(self._log_proba(method), X))

    def score_samples(self, X: ArrayLike) -> Array:
        """Exact log density of each row, in nats: (n,)."""
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.log_prob, X)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean exact log density of the rows, in nats per row; y is ignored."""
        return float(self.score_samples(X).mean())

    def component_log_prob(self, X: ArrayLike) -> Array:
        """Log p(x given c) of each row under each component, in nats: (n, K)."""
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.component_log_prob, X)

    def elbo(self, X: ArrayLike) -> Array:
        """Evidence lower bound of each row, in nats: (n,)."""
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.elbo, X)

    def gap(self, X: ArrayLike) -> Array:
        """Log p(x) - ELBO of each row, KL(q, responsibilities) in nats: (n,), never negative."""
        check_is_fitted(self, "model_")
        return self._evaluate(lambda x: self.model_.terms(x).gap, X)

    def _log_proba(self, method: str) -> Callable[[torch.Tensor], torch.Tensor]:
        check_is_fitted(self, "model_")
        if method not in ("posterior", "exact"):
            raise ValueError(f"method={method!r} is not known: choose 'posterior' or 'exact'.")
        model = self.model_
        return model.posterior if method == "posterior" else model.log_responsibilities

    def _evaluate(self, function: Callable[[torch.Tensor], torch.Tensor], X: ArrayLike) -> Array:
        rows: Array = validate_data(self, X, dtype=np.float64, reset=False)
        x = torch.from_numpy(np.array(rows)).to(self.model_.log_weights.device)
        values: Array = in_parts(function, x, self.model_.rows_at_once).double().cpu().numpy()
        if np.isnan(values).any():
            row = int(np.isnan(values.reshape(len(rows), -1)).any(axis=1).argmax())
            joint = self.model_.log_joint(x[row : row + 1])[0]
            dead = torch.isnan(joint).nonzero().flatten().tolist()
            raise ArithmeticError(
                f"Row {row} has no density: component {', '.join(map(str, dead)) or 'none'} "
                "gives values that are not numbers; fit again with a smaller learning_rate."
            )
        return values

    # ---------------------------------------------------------------- sampling

    def sample(
        self,
        n_samples: int = 1,
        component: object = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> tuple[Array, NDArray[Any]]:
        """Draw rows from the mixture, in random order, or from one component.

        Parameters
        ----------
        n_samples : int, default=1
        component : entry of `classes_`, optional
            Draw from this component alone.
        random_state : int, RandomState or None, default=None
            Seeds the draw; the estimator's own `random_state` unless given.

        Returns
        -------
        X : array of shape (n_samples, D)
        component : array of shape (n_samples,)
            The component each row came from: entries of `classes_`.
        """
        check_is_fitted(self, "model_")
        if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples} must be a whole number of at least 1.")
        index: int | None = None
        if component is not None:
            found = np.flatnonzero(self.classes_ == component)
            if not len(found):
                raise ValueError(
                    f"component={component!r} is not one of {', '.join(map(str, self.classes_))}."
                )
            index = int(found[0])
        random = check_random_state(self.random_state if random_state is None else random_state)
        generator = torch.Generator(self.model_.log_weights.device)
        generator.manual_seed(int(random.randint(np.iinfo(np.int32).max)))
        with torch.no_grad():
            x, drawn = self.model_.sample(n_samples, index, generator)
        return x.cpu().numpy(), self.classes_[drawn.cpu().numpy()]

    # ---------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file: safetensors, with its settings as JSON.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file cannot be written; nothing is left half-written.
        """
        check_is_fitted(self, "model_")
        names = getattr(self, "feature_names_in_", None)
        document = {
            "parameters": _as_json(self._parameters_of_fit),
            "dtype": str(self.model_.flows.whitening.mean.dtype).removeprefix("torch."),
            "n_features": self.n_features_in_,
            "feature_names": None if names is None else names.tolist(),
            "classes": self.classes_.tolist(),
            "results": {name: getattr(self, name) for name in RESULTS},
        }
        write_model(path, document, self.model_.state_dict())

    def _savable_parameters(self) -> dict[str, Any]:
        """The parameters as they are now, but for those that are no property of the model.

        A cluster for each row is data; whether a bar was shown, and where a checkpoint lay,
        matters to no one later.
        """
        parameters: dict[str, Any] = self.get_params() | {"verbose": 0, "checkpoint": None}
        if not isinstance(self.init, str) and np.ndim(self.init) == 1:
            parameters["init"] = "kmeans"
        return parameters

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | None = None) -> Self:
        """Read a fitted model from a file.

        Parameters
        ----------
        path : path
        device : str, optional
            Where to put it; as the model was made unless given.

        Raises
        ------
        vmonf.storage.ModelFileError
            If there is no such file, or it is not a model that this version reads.
        """
        document, tensors = read_model(path)
        parameters: dict[str, Any] = document["parameters"]
        if device is not None:
            parameters["device"] = device
        for name, value in parameters.items():
            parameters[name] = tuple(value) if isinstance(value, list) else value
        mixture = cls(**parameters)
        mixture.n_features_in_ = document["n_features"]
        if document["feature_names"] is not None:
            mixture.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        mixture.classes_ = np.array(document["classes"])
        mixture.n_components_ = len(mixture.classes_)
        for name in RESULTS:
            setattr(mixture, name, document["results"][name])
        mixture._parameters_of_fit = dict(parameters)
        model = mixture._architecture(mixture.n_features_in_, torch.Generator())
        model = model.to(getattr(torch, document["dtype"]))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelFileError(
                f"{path} holds weights that do not fit its settings: the file is damaged."
            ) from error
        mixture.model_ = model.to(mixture._device())
        return mixture


#: What a fit leaves beside the model, and a file keeps.
RESULTS = (
    "history_",
    "converged_",
    "n_epochs_",
    "best_epoch_",
    "held_out_log_likelihood_",
    "gain_",
    "gain_error_",
    "shrinkage_",
)


@dataclasses.dataclass(frozen=True)
class _Data:
    """What all restarts share."""

    weight: Array
    #: Shift and scale.
    units: tuple[Array, Array]
    #: Standardised, for the Gaussian mixture.
    start_rows: StartRows
    #: In the user's units, for the flows.
    tensors: Rows
    train: IntArray
    held_out: IntArray
    #: Called before the first epoch and after each.
    watch: Callable[[Training], None]


@dataclasses.dataclass
class _Fit:
    model: MixtureModel
    result: TrainingResult
    gain: float
    gain_error: float
    shrinkage: Shrinkage
    #: By which restarts are compared: log-likelihood of the held-out rows, in nats per row.
    score: float


def _mean_and_error(values: Array, weight: Array) -> tuple[float, float]:
    """Weighted mean over rows, and its standard error."""
    share = weight / weight.sum()
    mean = float(share @ values)
    n_effective = 1 / float(share @ share)
    variance = float(np.square(share) @ np.square(values - mean))
    return mean, math.sqrt(variance * n_effective / max(1.0, n_effective - 1))


def _by_name(history: list[Progress]) -> dict[str, list[Any]]:
    names = [field.name for field in dataclasses.fields(Progress)]
    return {name: [getattr(progress, name) for progress in history] for name in names}


def _as_json(value: Any) -> Any:
    """Parameters as JSON can hold them; a random generator's state is not kept."""
    if isinstance(value, dict):
        return {name: _as_json(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    if isinstance(value, np.random.RandomState):
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value
