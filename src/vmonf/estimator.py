"""The estimator `FlowMixture`: parameters, fitted attributes, scoring and sampling."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vmonf import ranks
from vmonf.arrays import checked_rows, column_names, plain_array
from vmonf.bounds import domain_of, refuse_beyond
from vmonf.data.faults import TableError
from vmonf.data.source import Readable, Source, is_source, open_source
from vmonf.data.tables import feature_columns
from vmonf.fitting import Table, fit_best, go_on, prepare
from vmonf.flows import Family
from vmonf.judge import Comparison, Verdict, compare
from vmonf.labels import encode_labels, with_new_names
from vmonf.machine import blas_threads_kept, make_forks_safe
from vmonf.model import MixtureModel, PosteriorMLP, in_parts
from vmonf.model_file import Document, from_document, to_document
from vmonf.parameters import check_number
from vmonf.progress import ProgressBar
from vmonf.rows import Rows, distinct_rows
from vmonf.settings import (
    check_parameters,
    parameters_of_components,
    resolve,
    specifications,
    with_nested,
)
from vmonf.start import Agreement, Number, Sample, number_of_clusters
from vmonf.storage import read_model, write_model
from vmonf.stream import StreamedTable, Survey, survey
from vmonf.training import Epoch, Training, TrainingLoop, Watcher

if TYPE_CHECKING:
    import polars
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]


class FlowMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A mixture of normalizing flows for density estimation, clustering and sampling.

    It corresponds to `sklearn.mixture.GaussianMixture` with normalizing flows as components, whose
    densities are exact. A neural network, the posterior, assigns new rows to clusters in one pass.
    Labels of some or all rows may be given. A fit starts from a Gaussian mixture with
    cross-validated shrinkage, in which a component can have several Gaussians. It keeps the flows
    only if they improve the held-out log-likelihood: by more than chance, or at all if they have
    one Gaussian for each component where the mixture has several.

    Source: Pires & Figueiredo, "Variational Mixture of Normalizing Flows" (ESANN 2020).

    Parameters
    ----------
    n_components : int or "auto", default=2
        K, the number of flows. If the labels have more classes, K is raised to their number,
        with a warning. With fewer than a few hundred rows for each component, flows rarely
        improve on Gaussians. "auto" finds K from the rows, by the agreement of several
        clusterings (see `vmonf.start.number`). It is at least the number of classes, and
        with `clusters` it is their number; `number_` tells how it was chosen. The search runs
        in parallel under ``joblib.parallel_config``.
    max_components : int, default=40
        The largest K that ``n_components="auto"`` tries. It seldom tries more than 12, unless the
        density has more peaks.
    flow : {"realnvp", "maf", "nsf", "nsf-ar"} or Family, default="realnvp"
        The family of flows with its default settings: affine coupling, affine autoregressive,
        or rational-quadratic splines in coupling or autoregressive form. Other settings are
        given by a specification, such as ``NSF(n_layers=6, n_bins=12)``. Autoregressive flows
        fit more closely, but sampling is slow: it takes one network pass for each feature. With
        one feature, affine flows are Gaussian; use splines instead.
        ``set_params(flow__n_layers=6)`` changes one setting, also in a grid search.
    base : int or "auto", default="auto"
        The number of Gaussians, called atoms, in the base distribution of each flow. With several,
        a component can have the shape of a ring or a wing before any training, and keeps it if no
        flows are kept. "auto" chooses a number for each component by cross-validation. It is one
        with more than 32 features, and with ``init="none"``. With 1, the base distributions are
        standard normal, as in the paper.
    posterior : "mlp" or PosteriorMLP, default="mlp"
        The posterior network q(c given x), such as ``PosteriorMLP(hidden=(128,))``.
    weights : {"learned", "uniform"} or array of shape (K,), default="learned"
        Mixing weights p(c). Uniform weights, as in the paper, assume that all clusters have the
        same size, labelled or not.
    objective : {"elbo", "marginal"}, default="elbo"
        The objective that is maximised: the paper's ELBO, or the exact log-likelihood with q
        fitted to the responsibilities.
    temperature : float or (float, float), default=1.0
        Divides the posterior's softmax input. With a pair, the temperature decays exponentially
        from the first value to the last. With ``init="none"``, start well above 1, as in the
        paper.
    temperature_epochs : int or None, default=None
        Number of epochs of the decay. None means half of `max_epochs`.
    init : str or array of shape (K, D), default="auto"
        The clusters from which the components start: "auto", "kmeans", "graph", "peaks", "tree",
        "gaussian", "merged", "random", "none" or centres. "kmeans" uses k-means. "graph" cuts the
        graph of nearest neighbours, which follows rings, wings and other shapes, and along which
        labels spread (see `vmonf.start.graph`). "peaks" uses the K most prominent peaks of the
        density of nearest neighbours. "tree" merges rows along the minimum spanning tree, and
        keeps the sizes of clusters even. "gaussian" uses a Gaussian mixture, which finds clusters
        of unequal size. "merged" uses a mixture of more Gaussians, which are merged until K
        remain. "auto" computes the clusters of "gaussian", "merged", "graph" (with at most 128
        components), "peaks" and "tree", and takes those that agree most with the others; if these
        agree little, it also does so in the metric of the deviations within clusters. `start_`
        tells which (see `vmonf.start.agreement`). "random" assigns each row to the nearest of K
        random rows. An array assigns each row to the nearest of the given centres. With labels,
        each class starts from its own rows. "none" is the paper's start: every component starts
        from all rows, with networks drawn at random, and the components separate by chance and
        by the temperature. To give a cluster for each row, use `clusters` of `fit`.
    n_init : int, default=1
        Number of fits. The one with the best held-out log-likelihood is kept; if no rows are held
        out, that of the training rows counts. With ``init="auto"`` the first begins with the
        clusters that agree most, the second with those that agree next, and so on.
    max_seconds : float, optional
        Time of a fit, with its start and its end. The learning rate falls to zero along half a
        cosine over this time, besides its own schedule, and the training ends with it, or before
        by `max_epochs` or `patience`. There is a warning of what is left undone. Restarts share
        the time. The start is not shortened. Two fits of the same rows may then differ.
    max_epochs : int, default=300
        Largest number of epochs. An epoch is a pass over the rows, or over a part of them if there
        are many; see `epoch_rows` of `Training`.
    validation_fraction : float, default=0.1
        Share of the distinct rows held out for early stopping. With 0, or with fewer than 80 or
        four K rows left to train, there is no early stopping, and the last weights are kept
        whatever their log-likelihood.
    training : Training or None, default=None
        The settings of the optimiser and the training loop, such as
        ``Training(learning_rate=0.001, batch_size=512)``. None means ``Training()``.
    checkpoint : path or None, default=None
        A file for the state of the training, written about every 30 seconds. A fit with the same
        rows, settings and `random_state` continues from it and gives the same result as an
        uninterrupted fit. The device may differ, and `max_epochs` may be larger unless a schedule
        depends on it. With several restarts, each has its own numbered file. The state before the
        last is kept with ".previous" added to the name, and used if the last is damaged. The files
        are not removed.
    bounds : dict, optional
        Columns whose values have bounds, by name or by number from 0, such as
        ``{"share": (0, 1), "mass": (0, None)}``. The density is zero beyond a bound, where the log
        density is -inf, and no sample is there. The columns are mapped to the real line, by
        logarithms or, with both bounds, by quantiles of the normal distribution, which is part of
        the density; see `vmonf.model.Domain`. Clusters are looked for after this.
    periodic : dict, optional
        Columns that are angles, by name or by number, with their period, such as ``{"hour": 24}``:
        at most three. The density is the same after a period, and smooth where it begins.
        Scoring takes three times as long for each of them.
    missing : {"refuse", "marginal"}, default="refuse"
        What is done with missing values, NaN. "refuse" raises an error that names the first. With
        "marginal" the mixture is fitted to the known values of each row, and scores, predicts and
        judges rows with gaps by the marginal distribution of their known values. It assumes that
        values are missing at random, given the known ones. For at most 64 features, none of
        them periodic. See docs/missing-values.md.
    device : str, default="auto"
        A torch device. "auto" is a CUDA GPU if there is one, and otherwise the CPU.
    precision : {"double", "single"}, default="double"
        In which rows are scored and sampled. The flows are trained in single precision. In double
        precision a numerical derivative of `score_samples` is right, and scoring takes 1.6 to 2
        times as long, on some GPUs longer.
    random_state : int, RandomState or None, default=None
        Seed of all random numbers of the fit, and of `sample` unless it is given another.
    warm_start : bool, default=False
        Whether a further `fit` goes on from the fitted mixture instead of a new start: with its
        components, flows and scaling of columns, whatever the other parameters say. An epoch is
        kept only if it raises the held-out log-likelihood of the new rows. There is no
        checkpoint, and `n_init` is not used.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    weights_ : array of shape (K,)
        Mixing weights.
    n_components_ : int
        K as fitted.
    classes_ : array of shape (K,)
        The name of each component in the results of `predict`. Without labels these are
        0..K-1. With labels they are the classes, followed by new names for the other components.
    labelled_classes_ : array
        Those of `classes_` that had labels in the fit.
    n_features_in_ : int
        D, the number of features.
    feature_names_in_ : array of shape (D,)
        The names of the columns of X. Present only if X had names.
    history_ : dict of str to list
        One entry for each epoch: "epoch", "elbo", "log_likelihood" and "gap" of the held-out
        rows (nats per row), "training_objective", "temperature", "learning_rate", "seconds",
        "component_use", and "start_agreement", the adjusted Rand index between the clusters of q
        and those of the start.
    converged_ : bool
        Whether training stopped because the held-out log-likelihood no longer improved, rather
        than at `max_epochs`.
    n_epochs_ : int
        Number of epochs trained. Those that met values that are not numbers count, but were undone
        and are not in `history_`.
    verdict_ : vmonf.judge.Verdict
        Whether the flows or the Gaussian mixture were kept, and why. ``str(verdict_)`` is one
        sentence.
    best_epoch_ : int
        The epoch whose weights were kept, or 0 if no epoch's weights were. The model is then a
        Gaussian mixture, or has the flows with which the training began; ``verdict_.kept`` tells.
    held_out_log_likelihood_ : float
        Held-out log-likelihood of the flows or the Gaussian mixture that were kept, in nats per
        row. It is NaN if no rows were held out. The held-out rows also choose the epoch, so it is
        biased slightly upwards.
    gain_, gain_error_ : float
        Held-out log-likelihood of the flows minus that of the Gaussian mixture, in nats per row,
        and its standard error. The gain is biased in the same way. The training rows are used if
        none are held out. Both are NaN if nothing was trained.
    shrinkage_ : dict
        The shrinkage of the covariances of the start; see `vmonf.start.Shrinkage`.
    start_ : vmonf.start.Agreement
        The name of the start, ``start_.chosen``. With ``init="auto"`` also the names of the
        candidates and the table of their agreements. ``str(start_)`` is one sentence.
    number_ : vmonf.start.Number
        K, and how it was chosen: ``number_.reason``, and with ``n_components="auto"`` the table of
        agreements. ``str(number_)`` is one sentence.
    model_ : vmonf.model.MixtureModel
        The torch model, for example for your own training loop. It takes rows as float64 tensors
        in the units of X, and ``-model_.elbo(x).mean()`` is a loss.

    Notes
    -----
    Densities are in the units of X, and log densities are in nats. Equal rows are merged, so
    that a row of weight two is the same as two rows, and the order of the rows does not matter.
    Rounding of the rows changes densities little. A relative error of 1e-15 seldom changes the
    training, which is in float32. One of 1e-8 changes a mixture of Gaussians by about 1e-5 nats,
    and flows after a long training by about 0.01, since its steps amplify any difference. Rounding
    matters more where it makes equal rows unequal, and in tables of more than 100,000 rows that
    are read in parts, whose sample is drawn by a hash.

    Examples
    --------
    >>> from vmonf import FlowMixture
    >>> from vmonf.data import Pinwheel
    >>> X, _ = Pinwheel().sample(100, random_state=0)
    >>> mixture = FlowMixture(n_components=5, max_epochs=5, random_state=0).fit(X)
    >>> mixture.predict(X).shape, mixture.score_samples(X).shape
    ((500,), (500,))
    """

    classes_: NDArray[Any]
    labelled_classes_: NDArray[Any]
    history_: dict[str, list[Any]]
    converged_: bool
    verdict_: Verdict
    shrinkage_: dict[str, float]
    start_: Agreement
    number_: Number
    model_: MixtureModel

    # `watchers` are not data about the rows, so that scikit-learn must not route them as metadata.
    __metadata_request__fit = {"watchers": UNUSED}  # noqa: RUF012 - read by scikit-learn

    def __init__(
        self,
        n_components: int | Literal["auto"] = 2,
        *,
        max_components: int = 40,
        flow: str | Family = "realnvp",
        base: int | Literal["auto"] = "auto",
        posterior: str | PosteriorMLP = "mlp",
        weights: str | ArrayLike = "learned",
        objective: Literal["elbo", "marginal"] = "elbo",
        temperature: float | tuple[float, float] = 1.0,
        temperature_epochs: int | None = None,
        init: str | ArrayLike = "auto",
        n_init: int = 1,
        max_epochs: int = 300,
        max_seconds: float | None = None,
        validation_fraction: float = 0.1,
        training: Training | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        bounds: Mapping[str | int, tuple[float | None, float | None]] | None = None,
        periodic: Mapping[str | int, float] | None = None,
        missing: Literal["refuse", "marginal"] = "refuse",
        device: str = "auto",
        precision: Literal["double", "single"] = "double",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.max_components = max_components
        self.flow = flow
        self.base = base
        self.posterior = posterior
        self.weights = weights
        self.objective = objective
        self.temperature = temperature
        self.temperature_epochs = temperature_epochs
        self.init = init
        self.n_init = n_init
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.validation_fraction = validation_fraction
        self.training = training
        self.checkpoint = checkpoint
        self.bounds = bounds
        self.periodic = periodic
        self.missing = missing
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also nested ones such as ``flow__n_layers``.

        A nested parameter replaces its specification by a copy with that one value changed. If
        `flow`, `posterior` or `training` is a name or None, the copy is made from the
        specification that the name or None stands for.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        changed: Self = super().set_params(**with_nested(self.get_params(deep=False), params))
        return changed

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may give to the estimator: NaN with missing="marginal"."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "marginal"
        return tags

    # ---------------------------------------------------------------- fitting

    @blas_threads_kept()
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | str | None = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        clusters: ArrayLike | None = None,
        watchers: Iterable[Callable[[Self], object]] = (),
    ) -> Self:
        """Fit the mixture. If the fit fails, the estimator is unchanged.

        Ctrl-C ends the training: the best model so far is kept, with a warning. To stop a loop over
        fits too, press it twice within two seconds: the second raises KeyboardInterrupt.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n, D), or a table that is read in parts
            Finite numbers. A missing value is refused, with its place, unless missing="marginal",
            which leaves out rows without any value. A path, a pattern of paths,
            a polars LazyFrame or an Arrow dataset is read in parts: see `vmonf.data.open_source`
            and docs/big-tables.md. Its features are all columns but those of labels and weights.
            With at most 100,000 distinct rows it is fitted as a table in memory.
        y : array-like of shape (n,) or str, optional
            Labels: whole numbers or strings. An unlabelled row has -1, NaN, None or "". If X is
            read in parts, the name of a column.
        sample_weight : array-like of shape (n,) or str, optional
            Non-negative weight of each row. A weight of two is the same as two equal rows: whole
            numbers count rows. Divide weights of another kind by their mean. If X is read in
            parts, the name of a column.
        clusters : int array-like of shape (n,), optional
            The initial cluster of each row, 0 to K - 1, or -1 if it is not given. These replace
            the clusters of `init`. Labels take precedence, and are used throughout the training.
            It cannot be combined with an X that is read in parts.
        watchers : iterable of callables, optional
            Each is called with the current mixture, once after pretraining and before the first
            epoch, and then after each epoch. The mixture predicts, scores and samples;
            `n_epochs_` is 0 in the first call; `history_` holds the epochs so far. The mixture is
            valid only during the call, and scores in single precision. The final model may come
            from an earlier epoch, and its posterior may be refined.

        Returns
        -------
        FlowMixture
            This object, fitted.

        Raises
        ------
        vmonf.parameters.ParameterError
            If a parameter is out of range, or cannot be combined with the data or with another
            parameter. It is a ValueError.
        ValueError
            If the data cannot be fitted.
        vmonf.training.TrainingError
            If training repeatedly meets values that are not numbers.
        vmonf.storage.ModelFileError
            If `checkpoint` is the file of another fit, or cannot be written.
        """
        began = time.monotonic()
        make_forks_safe()
        parameters = self.get_params(deep=False)
        check_parameters(parameters)
        if self.warm_start and hasattr(self, "model_"):
            if clusters is not None:
                raise ValueError("clusters cannot be given to a fit that goes on: warm_start=True.")
            return self._go_on(X, y, sample_weight, parameters, watchers)
        random = check_random_state(self.random_state)
        drawn = random.randint(np.iinfo(np.int32).max, size=1 + int(self.n_init)).tolist()
        seeds = ranks.from_first(lambda: drawn)
        seen, table = None, None
        with_gaps = self.missing == "marginal"
        if is_source(X):
            if clusters is not None:
                raise ValueError("clusters cannot be given for an X that is read in parts.")
            if with_gaps:
                raise ValueError(
                    "missing='marginal' takes no X that is read in parts: read the table, or a "
                    "sample of it, into memory, for example by vmonf.data.read_table."
                )
            table = ranks.together(lambda: _streamed(X, y, sample_weight))
            seen = _surveyed(table, seeds[0])
            X, sample_weight = _frame(seen.x, table.features), seen.weight
            y = None if y is None else _labels_of(seen)
        header = type(self)()  # takes the new column names, so that a failed fit changes nothing
        values = checked_rows(header, X, reset=True, at_least=2, with_gaps=with_gaps)
        names = column_names(header)
        weight = _checked_weight(sample_weight, values)
        if with_gaps:
            weight = _without_empty_rows(values, weight, names)
        fixed = None if self.n_components == "auto" else int(self.n_components)
        classes, component = _components_of(y, weight, fixed)
        n_given = _number_of_given(clusters, len(values)) if fixed is None else 0
        n_clusters = max(len(classes), n_given, 1)
        cluster = _checked_clusters(clusters, len(values), n_clusters, self.init)
        rows = distinct_rows(values, weight, component, cluster)
        _check_same_rows(rows)
        domain = domain_of(parameters, values, getattr(header, "feature_names_in_", None))
        if table is None or seen is None or seen.is_whole:
            fitted = Table.of(rows, names, domain, with_gaps=with_gaps, seed=seeds[0])
        else:
            fitted = Table.of_stream(rows, names, table, seen, component, domain)
        number, sample = Number(len(classes)), None
        if n_given:
            number = Number(max(len(classes), n_given), "clusters")
        elif fixed is None:
            at_least = max(len(classes), 1)
            number, sample = _found_number(fitted, at_least, self.max_components, seeds[0])
        classes = with_new_names(classes, number.chosen)
        _warn_of_empty_components(rows, classes)
        settings = resolve(
            parameters, fitted.n_rows, values.shape[1], len(classes), fitted.n_sampled, began
        )
        prepared = prepare(fitted, settings, seeds[0], sample)
        known = {
            **_fitted_attributes(header),
            "classes_": classes,
            "labelled_classes_": classes[np.unique(component[component >= 0])],
        }
        watching: list[Watcher] = [ProgressBar(settings.n_init)] if self.verbose else []
        watching += [_MixtureWatcher(function, self, known) for function in watchers]
        fit = fit_best(prepared, settings, seeds[1:], watching)

        self._replace_fitted(
            **known,
            model_=fit.model,
            history_=_by_name(fit.training.history),
            converged_=fit.training.converged,
            verdict_=fit.verdict,
            shrinkage_=dataclasses.asdict(fit.shrinkage),
            start_=fit.start,
            number_=number,
        )
        self._parameters_of_fit = parameters
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike | str | None = None,
        sample_weight: ArrayLike | str | None = None,
    ) -> Self:
        """Train the fitted mixture with one pass of steps over new rows; or fit, if it is not.

        No rows are held out, and nothing is judged: the last averaged weights are kept. There is
        no memory of earlier rows but the weights. What only those rows showed is forgotten,
        the sooner the more the new rows differ and the more of them there are: components that
        the new rows do not use lose their mixing weight. So give rows of all kinds in each call,
        and thousands of them: each call begins with a new optimiser at `learning_rate`. The
        number of components, the classes and the scaling of columns stay as they are.
        `history_` and `verdict_` are those of this call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. Labels must be among those of the first fit.

        Returns
        -------
        FlowMixture
            This object.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y, sample_weight)
        parameters = self.get_params(deep=False)
        check_parameters(parameters)
        training = dataclasses.replace(
            specifications(parameters)["training"],
            epoch_rows=None,
            learning_rate_schedule="constant",
            refine_posterior=False,
        )
        one_pass = {
            "training": training,
            "max_epochs": 1,
            "max_seconds": None,
            "validation_fraction": 0.0,
            "temperature": float(self.model_.temperature),
            "temperature_epochs": None,
        }
        return self._go_on(X, y, sample_weight, parameters | one_pass)

    @blas_threads_kept()
    def _go_on(
        self,
        X: ArrayLike,
        y: ArrayLike | str | None,
        sample_weight: ArrayLike | str | None,
        parameters: dict[str, Any],
        watchers: Iterable[Callable[[Self], object]] = (),
    ) -> Self:
        """Train the fitted mixture further, with these parameters of the training."""
        began = time.monotonic()
        drawn = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        seed = ranks.from_first(lambda: drawn)
        seen, streamed = None, None
        if is_source(X):
            streamed = ranks.together(lambda: self._table(X, y, sample_weight))
            seen = _surveyed(streamed, seed)
            X, sample_weight = self._named(seen.x), seen.weight
            y = None if y is None else _labels_of(seen)
        values = checked_rows(self, X, reset=False)
        weight = _checked_weight(sample_weight, values)
        component = np.full(len(values), -1, dtype=np.int64)
        if y is not None:
            found, own = _components_of(y, weight, None)
            component = _places(found, self.labelled_classes_, self.classes_)[own]
        nowhere = np.full(len(values), -1)
        rows = distinct_rows(values, weight, component, nowhere)
        _check_same_rows(rows)
        names = column_names(self)
        standardizer = copy.deepcopy(self.model_.standardizer).cpu()
        if standardizer.domain is not None:
            refuse_beyond(standardizer.domain, rows.x.min(axis=0), rows.x.max(axis=0), names)
        table = Table(rows, names, standardizer)
        if streamed is not None and seen is not None and not seen.is_whole:
            stream = Table.of_stream(rows, names, streamed, seen, component).stream
            table = dataclasses.replace(table, stream=stream)
        n_components = len(self.classes_)
        settings = resolve(
            parameters | {"init": "random", "base": 1, "weights": "learned", "checkpoint": None},
            max(table.n_rows, n_components),
            values.shape[1],
            n_components,
            table.n_sampled,
            began,
        )
        known = _fitted_attributes(self)
        watching: list[Watcher] = [ProgressBar()] if self.verbose else []
        watching += [
            _MixtureWatcher(function, self, _before_training(known)) for function in watchers
        ]
        model, training, before, after, row_weight = go_on(
            self.model_, table, settings, seed, watching
        )
        comparison = Comparison(math.nan, math.nan)
        if training.history:
            comparison = compare(after, before, row_weight)
        is_judged = settings.n_held_out > 0
        kept = "flows" if training.best_epoch else self.verdict_.kept
        verdict = Verdict(
            kept,
            "continued" if is_judged or not training.history else "not judged",
            *comparison,
            float(row_weight @ after / row_weight.sum()) if is_judged else math.nan,
            training.best_epoch,
            training.n_epochs,
        )
        labelled = np.isin(self.classes_, self.labelled_classes_)
        labelled[component[component >= 0]] = True
        known |= {
            "model_": model,
            "history_": _by_name(training.history),
            "converged_": training.converged,
            "verdict_": verdict,
            "labelled_classes_": self.classes_[labelled],
        }
        self._replace_fitted(**known)
        return self

    def fit_predict(
        self,
        X: ArrayLike,
        y: ArrayLike | str | None = None,
        sample_weight: ArrayLike | str | None = None,
    ) -> NDArray[Any]:
        """Fit, and return the cluster of each row, from the posterior: (n,); see `fit`."""
        clusters: NDArray[Any] = self.fit(X, y, sample_weight).predict(X)
        return clusters

    def without_unused(
        self,
        X: ArrayLike,
        least: float = 0.01,
        sample_weight: ArrayLike | str | None = None,
    ) -> Self:
        """The fitted mixture without the components that hold few of the rows.

        The use of a component is the mean over rows of q(c given x), as in the paper, where
        components that are not needed lose all rows. What remains is renormalised: the density is
        that of the mixture of the kept components, with their mixing weights and q divided by the
        sum over them, and nothing is trained again. Removing a component without use raises the
        ELBO of the rows. Their likelihood may still fall, if q and the exact responsibilities
        differ: compare `score` before and after.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, D), or a table that is read in parts
            The rows that decide, such as those of the fit.
        least : float, default=0.01
            Components whose use is smaller are left out. Classes with labels are always kept, and
            so is the component that is used most.
        sample_weight : array-like of shape (n,) or str, optional
            Non-negative weight of each row, or the name of their column.

        Returns
        -------
        FlowMixture
            A new fitted mixture; this one is unchanged. Its `n_components`, `classes_` and
            `weights_`, given weights and centres, and the use in `history_` are those of the kept
            components. Everything else that describes the fit, such as `verdict_`, is as it was
            before the removal.

        Raises
        ------
        vmonf.parameters.ParameterError
            If `least` is not a number of at least 0 and below 1.
        TypeError
            If the posterior network is not ours and has no method `only`.
        """
        check_number("least", least, at_least=0, below=1)
        use = self._use(X, sample_weight)
        is_kept = (use >= least) | np.isin(self.classes_, self.labelled_classes_)
        is_kept[use.argmax()] = True
        kept = np.flatnonzero(is_kept)

        parameters = parameters_of_components(self._parameters_of_fit, kept)
        attributes = _fitted_attributes(self)
        history = dict(self.history_)
        history["component_use"] = [[epoch[c] for c in kept] for epoch in history["component_use"]]
        device = self.model_.log_weights.device
        attributes |= {
            "classes_": self.classes_[kept],
            "history_": history,
            "model_": self.model_.only(torch.from_numpy(kept).to(device)),
        }
        reduced = type(self)(**parameters)
        reduced._replace_fitted(**attributes)
        reduced._parameters_of_fit = parameters
        return reduced

    def _replace_fitted(self, **attributes: Any) -> None:
        """Replace the attributes of the previous fit."""
        for name in _fitted_attributes(self):
            delattr(self, name)
        for name, value in attributes.items():
            setattr(self, name, value)

    # ---------------------------------------------------------------- results of the fit

    @property
    def n_components_(self) -> int:
        """K as fitted."""
        return len(self.classes_)

    @property
    def weights_(self) -> Array:
        """Mixing weights p(c): shape (K,)."""
        check_is_fitted(self, "model_")
        logits = self.model_.log_weight_logits.detach().double()
        weights: Array = logits.softmax(dim=-1).cpu().numpy()
        return weights

    @property
    def n_epochs_(self) -> int:
        """Number of epochs trained, with those that were undone."""
        return int(max(self.history_["epoch"], default=0))

    @property
    def best_epoch_(self) -> int:
        """The epoch whose weights were kept, or 0 if no epoch's weights were."""
        return self.verdict_.epoch

    @property
    def held_out_log_likelihood_(self) -> float:
        """Held-out log-likelihood of what was kept, in nats per row."""
        return self.verdict_.log_likelihood

    @property
    def gain_(self) -> float:
        """Held-out log-likelihood of the flows minus the Gaussian mixture's, in nats per row."""
        return self.verdict_.gain

    @property
    def gain_error_(self) -> float:
        """Standard error of `gain_`, in nats per row."""
        return self.verdict_.gain_error

    # ---------------------------------------------------------------- scoring

    def predict(
        self, X: ArrayLike, method: Literal["posterior", "exact"] = "posterior"
    ) -> NDArray[Any]:
        """Cluster of each row.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, D)
        method : {"posterior", "exact"}, default="posterior"
            "posterior" uses the posterior network q, in one pass. "exact" uses the exact
            responsibilities, from the flows. Far from the rows of the fit, q may be
            overconfident, so use "exact" for outliers.

        Returns
        -------
        array of shape (n,)
            Entries of `classes_`.
        """
        log_proba = self._log_proba(method)

        # Taken inside `_evaluate`'s parts, so that the (n, K) probabilities are never all held.
        def likeliest(x: torch.Tensor) -> torch.Tensor:
            found = log_proba(x)
            return found.argmax(dim=1).double().masked_fill(found.isnan().any(dim=1), math.nan)

        clusters: NDArray[Any] = self.classes_[self._evaluate(likeliest, X).astype(np.int64)]
        return clusters

    def predict_proba(
        self, X: ArrayLike, method: Literal["posterior", "exact"] = "posterior"
    ) -> Array:
        """Probability of each component given each row: (n, K). `method` is as in `predict`."""
        return np.exp(self._evaluate(self._log_proba(method), X))

    def score_samples(self, X: ArrayLike) -> Array:
        """Exact log density of each row, in nats: (n,).

        X may be a table that is read in parts (see `vmonf.data.open_source`), here and in every
        method that scores rows. Results are in the order of its rows. After a fit with
        missing="marginal" it may have NaN: the density of a row is then that of its known values,
        with the error that `score_samples_error` estimates.
        """
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.log_prob, X)

    def score_samples_error(self, X: ArrayLike) -> Array:
        """Standard error of the `score_samples` of each row, in nats: (n,).

        It is 0 for rows without missing values, and about 0 if the Gaussian mixture was kept.
        Otherwise the density of a row with gaps is estimated by importance sampling.
        """
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.log_prob_error, X)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean exact log density of the rows, in nats per row; y is ignored.

        An X that is read in parts needs memory for a part alone.
        """
        check_is_fitted(self, "model_")
        parts = [(values.sum(), len(values)) for values in map(self.score_samples, self._parts(X))]
        total, n_rows = map(sum, zip(*parts, strict=True))
        return float(total / n_rows)

    def bic(self, X: ArrayLike) -> float:
        """Bayesian information criterion of the rows; lower is better.

        It is ``-2 * log-likelihood + n_parameters * log(n)``, in nats. Counted are the numbers of
        log p(x) that can be trained: means and covariances, the mixing weights if they are
        learned (K - 1), and, where flows were kept, the weights and biases of their networks that
        are not masked. The posterior network is not part of the density, and not counted. A flow
        has thousands of such numbers, so that the criterion favours Gaussian mixtures more than
        held-out rows do: compare mixtures of flows by `held_out_log_likelihood_`.

        Source: Schwarz, "Estimating the dimension of a model" (1978).

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, D)
        """
        log_prob = self.score_samples(X)
        return float(-2 * log_prob.sum() + self._n_free_parameters() * math.log(len(log_prob)))

    def aic(self, X: ArrayLike) -> float:
        """Akaike information criterion of the rows; lower is better.

        It is ``-2 * log-likelihood + 2 * n_parameters``, in nats, and counts what `bic` counts.

        Source: Akaike, "A new look at the statistical model identification" (1974).

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, D)
        """
        return float(-2 * self.score_samples(X).sum() + 2 * self._n_free_parameters())

    def _n_free_parameters(self) -> int:
        # Beside a Gaussian mixture that was kept, the layers are the identity.
        return self.model_.n_free_parameters(layers=self.verdict_.kept == "flows")

    def component_log_prob(self, X: ArrayLike) -> Array:
        """Log p(x given c) of each row under each component, in nats: (n, K)."""
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.component_log_prob, X)

    def elbo(self, X: ArrayLike) -> Array:
        """Evidence lower bound of each row, in nats: (n,)."""
        check_is_fitted(self, "model_")
        return self._evaluate(self.model_.elbo, X)

    def gap(self, X: ArrayLike) -> Array:
        """KL(q, responsibilities) = log p(x) - ELBO of each row, in nats: (n,), never negative."""
        check_is_fitted(self, "model_")
        return self._evaluate(lambda x: self.model_.terms(x).gap, X)

    def _log_proba(self, method: str) -> Callable[[torch.Tensor], torch.Tensor]:
        check_is_fitted(self, "model_")
        if method not in ("posterior", "exact"):
            raise ValueError(f"method={method!r} is not known: choose 'posterior' or 'exact'.")
        model = self.model_
        return model.log_posterior if method == "posterior" else model.log_responsibilities

    def _parts(self, X: Any) -> Iterator[ArrayLike]:
        """The rows of X: whole, or in parts if it is a source."""
        if not is_source(X):
            yield X
            return
        table = self._table(X)
        row = 0
        for frame in table.source.in_order(table.columns):
            yield self._named(table.features_of(frame, row)[0])
            row += len(frame)

    def _named(self, x: Array) -> ArrayLike:
        """Rows with the names of the fit, if it had names, so that scikit-learn does not warn."""
        names = getattr(self, "feature_names_in_", None)
        return x if names is None else _frame(x, names.tolist())

    def _table(self, X: Readable, y: object = None, sample_weight: object = None) -> StreamedTable:
        """A source, with its columns that are the features of this mixture."""
        source, label, weight = _opened(X, y, sample_weight)
        beside = [name for name in (label, weight) if name is not None]
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            features = feature_columns(source.head(), None, beside)
        else:
            features = feature_columns(source.head(), names.tolist(), [])
        if len(features) != self.n_features_in_:
            raise TableError(
                f"{source.name} has {len(features)} columns, and the model has "
                f"{self.n_features_in_} features: select the columns in the model's order."
            )
        with_gaps = self.model_.conditionals is not None
        return StreamedTable(source, features, label, weight, with_gaps)

    def _evaluate(self, function: Callable[[torch.Tensor], torch.Tensor], X: ArrayLike) -> Array:
        make_forks_safe()
        if is_source(X):
            return np.concatenate([self._evaluate(function, part) for part in self._parts(X)])
        with_gaps = self.model_.conditionals is not None
        rows = checked_rows(self, X, reset=False, with_gaps=with_gaps)
        x = torch.from_numpy(np.array(rows)).to(self.model_.log_weights.device)
        values: Array = in_parts(function, x, self.model_.rows_at_once).double().cpu().numpy()
        if np.isnan(values).any():
            row = int(np.isnan(values.reshape(len(rows), -1)).any(axis=1).argmax())
            raise ArithmeticError(_why_not_a_number(self.model_, row, x[row : row + 1]))
        return values

    def _use(self, X: ArrayLike, sample_weight: ArrayLike | str | None) -> Array:
        """The weighted mean of q(c given x) over rows: (K,)."""
        check_is_fitted(self, "model_")
        if not is_source(X):
            share = self.predict_proba(X)
            use: Array = np.average(share, axis=0, weights=_checked_weight(sample_weight, share))
            return use
        table = self._table(X, sample_weight=sample_weight)
        use, total, row = np.zeros(len(self.classes_)), 0.0, 0
        for frame in table.source.in_order(table.columns):
            x, weight = table.features_of(frame, row)
            use += weight @ self.predict_proba(self._named(x))
            total, row = total + weight.sum(), row + len(frame)
        return use / total

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
            The component to draw from. None draws from the mixture.
        random_state : int, RandomState or None, default=None
            Seed of the draw. None uses the estimator's own `random_state`.

        Returns
        -------
        X : array of shape (n_samples, D)
        component : array of shape (n_samples,)
            The component that each row was drawn from: entries of `classes_`.
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
        make_forks_safe()
        random = check_random_state(self.random_state if random_state is None else random_state)
        generator = torch.Generator(self.model_.log_weights.device)
        generator.manual_seed(int(random.randint(np.iinfo(np.int32).max)))
        with torch.no_grad():
            x, drawn = self.model_.sample(n_samples, index, generator)
        return x.cpu().numpy(), self.classes_[drawn.cpu().numpy()]

    # ---------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one safetensors file, with its settings as JSON.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file cannot be written, in which case no partial file is left; or if the
            family of the flows is not in `vmonf.flows.FAMILIES`, so that the file could not be
            read.
        """
        check_is_fitted(self, "model_")
        write_model(path, *to_document(self._parameters_of_fit, _fitted_attributes(self)))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | None = None) -> Self:
        """Read a fitted model from a file.

        Parameters
        ----------
        path : path
        device : str, optional
            The torch device of the model. None uses the `device` that the model was fitted with.

        Raises
        ------
        vmonf.storage.ModelFileError
            If there is no such file, or it is not a model that this version reads, or it is
            damaged: every bit of a file is covered by a checksum.
        """
        parameters, attributes = from_document(path, *read_model(path, Document), device)
        mixture = cls(**parameters)
        mixture._replace_fitted(**attributes)
        mixture._parameters_of_fit = parameters
        return mixture


class _MixtureWatcher(Watcher):
    """Calls a user's function with the current mixture during the training.

    Parameters
    ----------
    function : callable
        Called with the current mixture.
    mixture : FlowMixture
        The estimator whose parameters the current mixture has.
    attributes : dict
        Fitted attributes that are known before the training.
    """

    def __init__(
        self,
        function: Callable[[Any], object],
        mixture: FlowMixture,
        attributes: dict[str, Any],
    ) -> None:
        self.function = function
        self.mixture = mixture
        self.attributes = attributes

    def on_start(self, loop: TrainingLoop) -> None:
        """Call the function before the first epoch."""
        now = type(self.mixture)(**self.mixture.get_params(deep=False))
        history = _by_name(loop.result.history)
        with loop.averaged():
            now._replace_fitted(**self.attributes, model_=loop.model, history_=history)
            self.function(now)

    def on_epoch(self, loop: TrainingLoop) -> None:
        """Call the function after an epoch."""
        self.on_start(loop)


def _opened(X: Readable, y: object, sample_weight: object) -> tuple[Source, str | None, str | None]:
    """The source, and the names of its columns of labels and weights."""
    names: list[str | None] = []
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if not (value is None or isinstance(value, str)):
            raise ValueError(f"X is read in parts: give the name of a column as {name}.")
        names.append(value)
    return open_source(X), names[0], names[1]


def _streamed(X: Readable, y: object, sample_weight: object) -> StreamedTable:
    """The table to fit, with the columns of its labels and weights."""
    source, label, weight = _opened(X, y, sample_weight)
    beside = [name for name in (label, weight) if name is not None]
    return StreamedTable(source, feature_columns(source.head(), None, beside), label, weight)


def _surveyed(table: StreamedTable, seed: int) -> Survey:
    """What one look at all rows finds: that of the first process, for all.

    Raises
    ------
    TableError
        If the table cannot be read, or another process sees another one.
    """
    ranks.check_same(
        (list(table.columns), table.source.stretches.tolist()),
        f"{table.source.name} is not the same table for all processes (other columns or another "
        "number of rows): every machine needs the same files.",
    )
    return ranks.from_first(lambda: survey(table, seed))


def _check_same_rows(rows: Rows[NDArray[Any]]) -> None:
    """Check that all processes fit the same rows, of which each will take a part.

    Raises
    ------
    ValueError
        If they do not.
    """
    if ranks.count() == 1:
        return
    digest = hashlib.sha256()
    for values in (rows.x, rows.weight, rows.component, rows.cluster):
        digest.update(values.tobytes())
    ranks.check_same(
        (rows.x.shape, digest.hexdigest()),
        "The processes have different rows: give each of them the whole table, in the same order.",
    )


def _found_number(
    table: Table, at_least: int, at_most: int, seed: int
) -> tuple[Number, Sample | None]:
    """K, found by the first process, which alone has the sample that the start uses again."""
    sample: Sample | None = None

    def find() -> Number:
        nonlocal sample
        number, sample = number_of_clusters(table.standardised, at_least, at_most, seed)
        return number

    return ranks.from_first(find), sample


def _before_training(attributes: dict[str, Any]) -> dict[str, Any]:
    """Fitted attributes but those that a watched mixture has from the training."""
    return {k: v for k, v in attributes.items() if k not in ("model_", "history_")}


def _places(found: NDArray[Any], labelled: NDArray[Any], classes: NDArray[Any]) -> IntArray:
    """The component of each class that was found, and -1 at the end, for rows without a label."""
    names = classes.tolist()
    unknown = [name for name in found.tolist() if name not in names]
    if unknown:
        listed = ", ".join(map(str, labelled.tolist())) or "none"
        raise ValueError(
            f"y has the label {unknown[0]!r}, which the fitted mixture has no component for: its "
            f"classes are {listed}; fit again without warm_start."
        )
    return np.array([*(names.index(name) for name in found.tolist()), -1], dtype=np.int64)


def _labels_of(seen: Survey) -> NDArray[Any]:
    """The label of each row of the sample: -1, or None among strings, if it has none."""
    is_text = any(isinstance(label, str) for label in seen.labels)
    # The last entry is that of index -1.
    labels = np.array([*seen.labels, None if is_text else -1], dtype=object if is_text else None)
    return labels[seen.label]


def _frame(x: Array, features: Sequence[str]) -> polars.DataFrame:
    """Rows with names of columns."""
    import polars

    return polars.DataFrame(x, schema=list(features))


def _without_empty_rows(values: Array, weight: Array, names: Sequence[str]) -> Array:
    """The weights (n,), with 0 for the rows that have no value.

    Raises
    ------
    ValueError
        If a column has no value, or fewer than two rows have one.
    """
    is_known = ~np.isnan(values)
    empty = np.flatnonzero(~is_known.any(axis=0))
    if len(empty):
        raise ValueError(f"Every value is missing in {names[empty[0]]}: leave out this column.")
    weight = np.where(is_known.any(axis=1), weight, 0.0)
    if (weight > 0).sum() < 2:
        raise ValueError("Fewer than two rows with a positive weight have any value: add rows.")
    return weight


def _checked_weight(sample_weight: ArrayLike | None, values: Array) -> Array:
    """The weight of each row: shape (n,)."""
    if sample_weight is None:
        return np.ones(len(values))
    weight = np.asarray(plain_array(sample_weight, "sample_weight"), dtype=np.float64)
    weight = np.full(len(values), float(weight)) if weight.ndim == 0 else weight
    if weight.shape != (len(values),):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, and X has {len(values)} rows: give one "
            "number for each row."
        )
    if not np.isfinite(weight).all():
        raise ValueError("sample_weight holds NaN or infinite values: give finite weights.")
    if (weight < 0).any():
        raise ValueError("Negative values in sample_weight: give weights of zero or more.")
    if not weight.sum() > 0:
        raise ValueError("sample_weight is zero for every row: give some row a positive weight.")
    return weight


def _components_of(
    y: ArrayLike | None, weight: Array, n_components: int | None
) -> tuple[NDArray[Any], IntArray]:
    """Names of the components, and the component of each row: -1 if it has no label.

    If `n_components` is None, only the classes of the labels have components.
    """
    component = np.full(len(weight), -1, dtype=np.int64)
    if y is None:
        return np.arange(n_components or 0), component
    labels = column_or_1d(plain_array(y, "y"), warn=True)
    if len(labels) != len(weight):
        raise ValueError(
            f"y has {len(labels)} labels, and X has {len(weight)} rows: give each row a label, or "
            "-1 if it has none."
        )
    # Rows of weight zero are left out of the fit, so their labels must not add classes.
    classes, component[weight > 0] = encode_labels(labels[weight > 0], n_components)
    return classes, component


def _number_of_given(clusters: ArrayLike | None, n_rows: int) -> int:
    """The number of clusters that the user gave for ``n_components="auto"``, or 0."""
    if clusters is None:
        return 0
    given = np.asarray(plain_array(clusters, "clusters"))
    # Anything else is refused by `_checked_clusters`, as are more clusters than rows.
    if given.size == 0 or given.dtype.kind not in "iuf" or (given != np.floor(given)).any():
        return 0
    if given.max() >= n_rows:
        return n_rows
    number = int(given.max()) + 1
    empty = np.setdiff1d(np.arange(number), given)
    if len(empty):
        raise ValueError(
            f"clusters gives no row the cluster {empty[0]}: number the clusters 0 to K - 1 without "
            "gaps, or give n_components."
        )
    return number


def _checked_clusters(
    clusters: ArrayLike | None, n_rows: int, n_components: int, init: object
) -> IntArray:
    """The initial cluster of each row, -1 if it is not given: shape (n,)."""
    if clusters is None:
        return np.full(n_rows, -1, dtype=np.int64)
    given = np.asarray(plain_array(clusters, "clusters"))
    if given.shape != (n_rows,) or not np.isin(given, np.arange(-1, n_components)).all():
        raise ValueError(
            f"clusters must give each of {n_rows} rows a cluster, 0 to {n_components - 1}, or -1 "
            "if the cluster of the row is not known."
        )
    if isinstance(init, str) and init == "none":
        raise ValueError(
            "clusters= cannot be combined with init='none', which starts without clusters: choose "
            "another init."
        )
    return given.astype(np.int64)


def _warn_of_empty_components(rows: Rows[NDArray[Any]], classes: NDArray[Any]) -> None:
    """Warn of components that no row can be in, since all rows have a label or a cluster."""
    known = np.where(rows.labelled, rows.component, rows.cluster)
    empty = np.setdiff1d(np.arange(len(classes)), known)
    if (known >= 0).all() and len(empty):
        listed = ", ".join(str(name) for name in classes[empty])
        warnings.warn(
            f"Every row has a label or a cluster, and none has {listed}: the weight of "
            f"{'this component' if len(empty) == 1 else 'these components'} stays near zero. Give "
            "fewer n_components, or -1 to rows whose cluster is not known.",
            stacklevel=3,
        )


def _fitted_attributes(mixture: FlowMixture) -> dict[str, Any]:
    """Attributes that a fit has set, by name, including those that scikit-learn sets."""
    return {
        name: value
        for name, value in vars(mixture).items()
        if name.endswith("_") and not name.startswith("_")
    }


def _by_name(history: list[Epoch]) -> dict[str, list[Any]]:
    """The records of the epochs, as one list for each field."""
    names = [field.name for field in dataclasses.fields(Epoch)]
    return {name: [getattr(record, name) for record in history] for name in names}


def _why_not_a_number(model: MixtureModel, row: int, x: Tensor) -> str:
    """Message naming the part of the model that gives a NaN at a row of shape (1, D)."""
    with torch.no_grad():
        dead = torch.isnan(model.log_joint(x)[0]).nonzero().flatten().tolist()
    if dead:
        listed = ", ".join(map(str, dead))
        return (
            f"Row {row} has no density: component {listed} gives values that are not numbers; "
            "fit again with a smaller learning_rate."
        )
    return (
        f"Row {row} has no cluster: the posterior network gives values that are not numbers; use "
        "method='exact', or fit again with a smaller learning_rate."
    )
