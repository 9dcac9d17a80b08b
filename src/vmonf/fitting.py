"""The steps of a fit, as functions: prepare the rows, start, train, judge and refine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vmonf.checkpoint import Checkpoint
from vmonf.columns import shift_and_scale, warn_of_repeated_values
from vmonf.judge import Verdict, compare, judge
from vmonf.machine import keep_freed_memory, threads_for
from vmonf.model import MixtureModel, Standardizer, build_model, in_parts
from vmonf.rows import Rows
from vmonf.settings import Settings
from vmonf.spacing import spacing_of
from vmonf.start import (
    Agreement,
    GaussianStart,
    GaussianStarter,
    Shrinkage,
    given_centres,
    largest_to_largest,
)
from vmonf.training import (
    TrainingError,
    TrainingLoop,
    TrainingResult,
    Watcher,
    refine_posterior,
    warm_up_posterior,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    ArrayRows = Rows[NDArray[Any]]

#: A class with fewer labelled rows than this keeps them all for training.
MANY_LABELS = 20


@dataclass(frozen=True)
class Prepared:
    """The rows of a fit, shared by all its restarts.

    Attributes
    ----------
    standardised : Rows
        All rows as arrays, in standardised units.
    tensors : Rows
        All rows as tensors on the device of the fit, in the user's units.
    shift, scale : array of shape (D,)
        Standardised rows are (x - shift) / scale.
    train, held_out : int array
        Indices of the training rows and of the held-out rows.
    start : Agreement
        The start that was used, and how it was chosen.
    """

    standardised: ArrayRows
    tensors: Rows[Tensor]
    shift: Array
    scale: Array
    train: IntArray
    held_out: IntArray
    start: Agreement

    @property
    def judged(self) -> IntArray:
        """Indices of the rows on which the flows and the Gaussian mixture are compared."""
        return self.held_out if len(self.held_out) else self.train


@dataclass(frozen=True)
class Fit:
    """The result of one restart.

    Attributes
    ----------
    model : MixtureModel
    training : TrainingResult
    verdict : Verdict
    shrinkage : Shrinkage
        The shrinkage of the covariances of the Gaussian mixture.
    log_prob : array of shape (number of judged rows,)
        Log density of the judged rows under the flows or the Gaussian mixture that was kept, in
        nats.
    """

    model: MixtureModel
    training: TrainingResult
    verdict: Verdict
    shrinkage: Shrinkage
    log_prob: Array


def prepare(
    rows: ArrayRows, column_names: Sequence[str], settings: Settings, seed: int
) -> Prepared:
    """Standardise the rows, hold some out, and cluster them if the start does this once per fit.

    Parameters
    ----------
    rows : Rows
        Distinct rows as arrays, in the user's units.
    column_names : sequence of str
        Names used in messages.
    settings : Settings
    seed : int

    Raises
    ------
    ValueError
        If a column is constant.
    """
    shift, scale = shift_and_scale(rows.x, rows.weight, list(column_names))
    warn_of_repeated_values(rows.x, list(column_names))
    train, held_out = _split(rows, settings, np.random.default_rng(seed))
    standardised = dataclasses.replace(rows, x=(rows.x - shift) / scale)
    start = settings.start
    chosen = Agreement(settings.init if isinstance(settings.init, str) else "centres")
    if (rows.cluster >= 0).any():
        chosen = Agreement("clusters")
    elif start is not None and start.once:
        cluster, agreement = start.clusters_of(standardised, settings.n_components, seed)
        chosen = agreement or chosen
        if settings.weights is not None and not rows.labelled.any():
            cluster = largest_to_largest(cluster, rows.weight, settings.weights)
        rows = dataclasses.replace(rows, cluster=cluster)
        standardised = dataclasses.replace(standardised, cluster=cluster)
    if settings.needs_spacing:
        spacing = spacing_of(standardised.x, np.random.default_rng(seed))
        rows = dataclasses.replace(rows, spacing=spacing)
    tensors = rows.to_tensors(settings.device)
    return Prepared(standardised, tensors, shift, scale, train, held_out, chosen)


def fit_best(
    prepared: Prepared,
    settings: Settings,
    seeds: Sequence[int],
    watchers: Sequence[Watcher] = (),
) -> Fit:
    """Fit from each seed, and keep the best.

    Parameters
    ----------
    prepared : Prepared
    settings : Settings
    seeds : sequence of int
        One for each restart.
    watchers : sequence of Watcher

    Raises
    ------
    TrainingError
        If the first restart repeatedly meets values that are not numbers. A later restart that
        fails is left out, with a warning.
    """
    weight = prepared.standardised.weight[prepared.judged]
    best: Fit | None = None
    shrinkage: Shrinkage | None = None
    for restart, seed in enumerate(seeds):
        watching = list(watchers)
        if settings.checkpoint is not None:
            watching.append(_checkpoint(prepared, settings, restart, seed))
        try:
            fit = fit_once(prepared, settings, seed, watching, shrinkage)
        except TrainingError as error:
            if best is None:
                raise
            warnings.warn(f"Restart {restart + 1} failed and is left out: {error}", stacklevel=3)
            continue
        shrinkage = fit.shrinkage  # reused, since cross-validation is expensive
        if best is None or compare(fit.log_prob, best.log_prob, weight).gain > 0:
            best = fit
        if fit.training.interrupted:
            warnings.warn("Training was interrupted; the best model so far is kept.", stacklevel=3)
            break
    assert best is not None
    return best


def fit_once(
    prepared: Prepared,
    settings: Settings,
    seed: int,
    watchers: Sequence[Watcher] = (),
    shrinkage: Shrinkage | None = None,
) -> Fit:
    """Start, train, judge, and refine the posterior.

    Parameters
    ----------
    prepared : Prepared
    settings : Settings
    seed : int
    watchers : sequence of Watcher
    shrinkage : Shrinkage, optional
        Shrinkage of the covariances of the start. None chooses it by cross-validation.
    """
    generator = torch.Generator().manual_seed(seed)
    starter = _starter(prepared, settings, shrinkage)
    informed = starter.start.informed
    training_rows = prepared.standardised.take(prepared.train)
    clusters, mixture = starter.fit(training_rows, np.random.default_rng(seed))
    # With many rows the flows can learn the shape of the first clusters. Expectation maximisation
    # would first change the clusters to shapes that Gaussians can represent.
    ample = starter.is_ample(len(prepared.train), settings.n_features)
    model = _gaussian_model(
        clusters if ample else mixture,
        prepared,
        settings,
        generator,
        informed=informed,
    )
    keep_freed_memory()
    # A step takes about one multiply-add for each parameter and each row of the batch.
    n_parameters = sum(p.numel() for p in model.parameters())
    with threads_for(settings.training.batch_size * n_parameters):
        result = TrainingResult()
        if settings.trains:
            result = _train(model, prepared, settings, generator, watchers, informed)
        verdict, log_prob = _judge(model, mixture, result, prepared)
        if verdict.kept == "gaussian mixture":
            if len(prepared.held_out):  # no longer needed for judging, so fit to all rows
                mixture = starter.refit(prepared.standardised, mixture)
            model = _gaussian_model(mixture, prepared, settings, generator)
            warm_up_posterior(model, prepared.tensors, generator)
        if settings.training.refine_posterior:
            refine_posterior(model, prepared.tensors, generator)
    return Fit(model, result, verdict, mixture.shrinkage, log_prob)


def _split(
    rows: ArrayRows, settings: Settings, random: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Indices of training and held-out rows. Classes with few labels are held out last."""
    order = random.permutation(rows.n_rows)
    labels = rows.component[order]
    n_labels = np.bincount(labels[labels >= 0], minlength=settings.n_components)
    scarce = (labels >= 0) & (n_labels[labels] < MANY_LABELS)
    order = np.concatenate([order[~scarce], order[scarce]])
    return order[settings.n_held_out :], order[: settings.n_held_out]


def _starter(
    prepared: Prepared, settings: Settings, shrinkage: Shrinkage | None
) -> GaussianStarter:
    start = settings.start
    if start is None:
        start = given_centres((np.asarray(settings.init) - prepared.shift) / prepared.scale)
    return GaussianStarter(settings.n_components, start, settings.weights, shrinkage)


def _gaussian_model(
    start: GaussianStart,
    prepared: Prepared,
    settings: Settings,
    generator: torch.Generator,
    *,
    informed: bool = True,
) -> MixtureModel:
    """A model whose flows start as these Gaussians, or with random networks if not `informed`."""
    model = build_model(
        settings.flow,
        settings.posterior,
        settings.n_components,
        settings.n_features,
        learn_weights=settings.weights is None,
        identity=informed,
        generator=generator,
    )
    shift, scale = torch.from_numpy(prepared.shift), torch.from_numpy(prepared.scale)
    model.standardizer = Standardizer(shift, scale)
    model.flows.whitening.set_gaussians(
        torch.from_numpy(start.means), torch.from_numpy(start.covariances)
    )
    model.set_weights(torch.from_numpy(start.weights))
    return model.to(settings.device)


def _train(
    model: MixtureModel,
    prepared: Prepared,
    settings: Settings,
    generator: torch.Generator,
    watchers: Sequence[Watcher],
    informed: bool,
) -> TrainingResult:
    device = settings.device
    rows = prepared.tensors.take(torch.from_numpy(prepared.train).to(device))
    held_out = prepared.tensors.take(torch.from_numpy(prepared.held_out).to(device))
    first = rows
    if settings.training.pretrain_epochs:  # clusters count as labels during pretraining
        component = rows.component.where(rows.labelled, rows.cluster)
        first = dataclasses.replace(rows, component=component)
    if informed:
        warm_up_posterior(model, first, generator)
    loop = TrainingLoop(
        model,
        rows,
        held_out if held_out.n_rows else None,
        settings.objective,
        settings.training,
        settings.max_epochs,
        settings.temperature,
        generator,
        first,
        watchers,
    )
    return loop.run()


def _judge(
    model: MixtureModel, mixture: GaussianStart, result: TrainingResult, prepared: Prepared
) -> tuple[Verdict, Array]:
    """The verdict, and the log density of the judged rows under the density that is kept."""
    judged = prepared.judged
    rows = prepared.standardised.take(judged)
    of_gaussians = mixture.log_prob(rows.x) - np.log(prepared.scale).sum()
    of_flows: Array | None = None
    if result.history:
        x = prepared.tensors.x[torch.from_numpy(judged).to(prepared.tensors.x.device)]
        of_flows = in_parts(model.log_prob, x, model.rows_at_once).cpu().numpy()
    verdict = judge(
        of_flows,
        of_gaussians,
        rows.weight,
        held_out=len(prepared.held_out) > 0,
        epoch=result.best_epoch,
        n_epochs=len(result.history),
    )
    kept = of_flows if verdict.kept == "flows" and of_flows is not None else of_gaussians
    return verdict, kept


def _checkpoint(prepared: Prepared, settings: Settings, restart: int, seed: int) -> Checkpoint:
    """The checkpoint of a restart. Its file is numbered if there are several restarts."""
    document = json.dumps(settings.of_training() | {"seed": seed}, sort_keys=True)
    digest = hashlib.sha256(document.encode())
    rows = prepared.standardised
    for values in (rows.x, rows.weight, rows.component, rows.cluster, prepared.held_out):
        digest.update(values.tobytes())
    path = settings.checkpoint
    assert path is not None
    name = path.name if settings.n_init == 1 else f"{path.stem}-{restart + 1}{path.suffix}"
    return Checkpoint(path.with_name(name), digest.hexdigest())
