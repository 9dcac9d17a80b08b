"""The steps of a fit, as functions: prepare the rows, start, train, judge and refine."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vmonf import ranks
from vmonf.bounds import refuse_beyond
from vmonf.checkpoint import Checkpoint
from vmonf.columns import (
    refuse_dependent_columns,
    refuse_fill_values,
    shift_and_scale,
    warn_of_repeated_values,
)
from vmonf.flows import StandardNormal
from vmonf.judge import STANDARD_ERRORS_OF_GAIN as ERRORS_OF_GAIN
from vmonf.judge import Verdict, compare, judge
from vmonf.machine import keep_freed_memory, threads_for
from vmonf.model import Domain, MixtureModel, Standardizer, build_model, in_parts
from vmonf.rows import Rows
from vmonf.settings import Settings
from vmonf.spacing import spacing_of
from vmonf.start import (
    Agreement,
    GaussianStart,
    GaussianStarter,
    Sample,
    Shrinkage,
    agreeing_clusters,
    conditionals_of,
    first_filled,
    given_centres,
    largest_to_largest,
    refitted,
)
from vmonf.stream import Stream, StreamedTable, Survey
from vmonf.training import (
    Training,
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
    Mask = NDArray[np.bool_]
    ArrayRows = Rows[NDArray[Any]]

#: How many times the gaps of a row are filled for the training. A step uses a few of these.
DRAWS_IN_TRAINING = 32
#: The filled rows of a training have at most so many values, if that leaves enough of them.
MOST_VALUES = 2**25
FEWEST_DRAWS = 4
#: A class with fewer labelled rows than this keeps them all for training.
MANY_LABELS = 20
#: Pretrained flows of one atom are trained further unless their held-out log-likelihood is lower
#: than that of several atoms by more than this, in nats per row.
ALMOST_AS_GOOD = 0.05
#: Share of the time that is left when a training begins; the rest is for what comes after it.
TRAINING_SHARE = 0.95
#: Standard errors that flows of one atom must gain over several atoms: none, since atoms overfit as
#: easily. The one that is better on the held-out rows is kept.
ERRORS_AGAINST_ATOMS = 0.0


@dataclass(frozen=True)
class Table:
    """The rows of a fit, before they are prepared.

    Attributes
    ----------
    rows : Rows
        Distinct rows as arrays, in the user's units: all of them, or a sample of a stream.
    names : list of str
        Names of the columns, used in messages.
    standardizer : Standardizer
        On the CPU.
    stream : Stream, optional
        The training rows, if they are not in memory, still with those that will be held out.
    is_gap : bool array of shape (n, D), optional
        Which values are missing, if rows may have gaps. In `rows` these are filled.
    """

    rows: ArrayRows
    names: list[str]
    standardizer: Standardizer
    stream: Stream | None = None
    is_gap: Mask | None = None

    @classmethod
    def of(
        cls,
        rows: ArrayRows,
        names: list[str],
        domain: Domain | None = None,
        *,
        with_gaps: bool = False,
        seed: int = 0,
    ) -> Table:
        """A table in memory.

        Parameters
        ----------
        rows : Rows
        names : list of str
        domain : Domain, optional
            Bounds and periods of the columns.
        with_gaps : bool
            Whether rows may have missing values, as NaN, here and when they are scored.
        seed : int
            Draws the missing values.

        Raises
        ------
        ValueError
            If a column is constant, holds a fill value, or depends exactly on others.
        """
        is_gap, random = np.isnan(rows.x), np.random.default_rng(seed)
        if is_gap.any():  # columns are looked at as if their values were those that are known
            rows = dataclasses.replace(rows, x=_drawn_from_columns(rows.x, random))
        refuse_fill_values(rows.x, names)
        shift, scale = shift_and_scale(rows.x, rows.weight, names)
        table = cls(rows, names, _standardizer(rows, names, shift, scale, domain))
        if is_gap.any():
            z = ranks.from_first(lambda: first_filled(table.standardised, is_gap, random))
            x = table.standardizer.inverse(torch.from_numpy(z)).numpy()
            rows = dataclasses.replace(rows, x=np.where(is_gap, x, rows.x))
            table = dataclasses.replace(table, rows=rows)
        if with_gaps:
            table = dataclasses.replace(table, is_gap=is_gap)
        refuse_dependent_columns((rows.x - shift) / scale, names)
        return table

    @classmethod
    def of_stream(
        cls,
        rows: ArrayRows,
        names: list[str],
        table: StreamedTable,
        seen: Survey,
        component: IntArray,
        domain: Domain | None = None,
    ) -> Table:
        """A table that is read in parts.

        Parameters
        ----------
        rows : Rows
            The distinct rows of the sample.
        names : list of str
        table : StreamedTable
        seen : Survey
        component : int array of shape (m,)
            The component of each row of `seen`.
        domain : Domain, optional
            Bounds and periods of the columns.

        Raises
        ------
        ValueError
            If a column is constant or has a value beyond its bounds, or, in the sample, holds a
            fill value or depends exactly on others.
        """
        moments = seen.moments
        refuse_fill_values(rows.x, names)
        shift, scale = moments.shift_and_scale(rows.x, rows.weight, names)
        refuse_dependent_columns((rows.x - shift) / scale, names)
        if domain is not None:
            refuse_beyond(domain, moments.low, moments.high, names)
        component_of = {
            seen.labels[code]: int(component[row])
            for code, row in zip(*np.unique(seen.label, return_index=True), strict=True)
            if code >= 0
        }
        mean_weight = moments.weight / moments.n_rows
        stream = Stream(table, component_of, seen.counts, mean_weight)
        return cls(rows, names, _standardizer(rows, names, shift, scale, domain), stream)

    @property
    def n_rows(self) -> int:
        """Number of distinct rows, or of all rows of a stream."""
        return self.rows.n_rows if self.stream is None else int(self.stream.counts.sum())

    @property
    def n_sampled(self) -> int | None:
        """Number of rows in memory if these are a sample, or None."""
        return None if self.stream is None else self.rows.n_rows

    @property
    def standardised(self) -> ArrayRows:
        """The rows in standardised units."""
        x: Array = self.standardizer(torch.from_numpy(self.rows.x)).numpy()
        return dataclasses.replace(self.rows, x=x)


@dataclass(frozen=True)
class Prepared:
    """The rows of a fit, shared by all its restarts.

    Attributes
    ----------
    standardised : Rows
        All rows as arrays, in standardised units, or a sample of a stream.
    tensors : Rows
        The same rows as tensors on the device of the fit, in the user's units.
    standardizer : Standardizer
        On the CPU.
    train, held_out : int array
        Indices of the training rows and of the held-out rows.
    start : Agreement
        The start that is used, and how it was chosen.
    others : tuple of (str, int array)
        Names and clusters of other starts, for restarts.
    stream : Stream, optional
        The training rows, if they are not in memory, without those that are held out.
    is_gap : bool array of shape (n, D), optional
        Which values are missing, if rows may have gaps. In both kinds of rows these are filled
        once.
    """

    standardised: ArrayRows
    tensors: Rows[Tensor]
    standardizer: Standardizer
    train: IntArray
    held_out: IntArray
    start: Agreement
    others: tuple[tuple[str, IntArray], ...] = ()
    stream: Stream | None = None
    is_gap: Mask | None = None

    @property
    def judged(self) -> IntArray:
        """Indices of the rows on which the flows and the Gaussian mixture are compared."""
        return self.held_out if len(self.held_out) else self.train

    def known(self, index: IntArray) -> Tensor:
        """Rows in the user's units, with NaN where a value is missing: (m,) to (m, D)."""
        device = self.tensors.x.device
        x = self.tensors.x[torch.from_numpy(index).to(device)]
        if self.is_gap is None:
            return x
        return x.masked_fill(torch.from_numpy(self.is_gap[index]).to(device), math.nan)

    def density_of(self, mixture: GaussianStart, index: IntArray) -> Array:
        """Log density of the known values of rows under a Gaussian mixture of standardised rows.

        It is in nats, in the user's units.

        Parameters
        ----------
        mixture : GaussianStart
        index : int array of shape (m,)
            The rows.
        """
        x = self.standardised.x[index]
        images = self.standardizer.images
        known = self.known(index).cpu()
        log_det = self.standardizer.log_slopes(known)
        if self.is_gap is not None:
            z = torch.from_numpy(np.where(self.is_gap[index], np.nan, x))
            log_prob = conditionals_of(mixture).log_prob(z).numpy()
            log_det = log_det.where(~known.isnan(), 0.0)
        elif images is None:
            log_prob = mixture.log_prob(x)
        else:
            of_images = [mixture.log_prob(x + image) for image in images.numpy()]
            log_prob = np.logaddexp.reduce(of_images, axis=0)
        found: Array = log_prob + log_det.sum(dim=-1).numpy()
        return found

    def of_restart(self, restart: int) -> Prepared:
        """The same rows with the clusters of the start that a restart begins with.

        The first fit begins with the clusters that agree most, and each restart with those that
        agree next. Then they begin again.
        """
        place = restart % (1 + len(self.others))
        if place == 0:
            return self
        name, cluster = self.others[place - 1]
        return dataclasses.replace(
            self,
            standardised=dataclasses.replace(self.standardised, cluster=cluster),
            tensors=dataclasses.replace(
                self.tensors, cluster=torch.from_numpy(cluster).to(self.tensors.x.device)
            ),
            start=dataclasses.replace(self.start, chosen=name),
        )


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
    start : Agreement
        The start that the fit began with.
    """

    model: MixtureModel
    training: TrainingResult
    verdict: Verdict
    shrinkage: Shrinkage
    log_prob: Array
    start: Agreement


def prepare(table: Table, settings: Settings, seed: int, sample: Sample | None = None) -> Prepared:
    """Hold rows out, and cluster all of them if the start does this once per fit.

    Parameters
    ----------
    table : Table
    settings : Settings
    seed : int
    sample : Sample, optional
        The sample in which K was found; see `vmonf.start.number_of_clusters`.
    """
    rows, standardised = table.rows, table.standardised
    warn_of_repeated_values(rows.x, table.names)
    start = settings.start
    if start is not None and settings.init == "auto":  # the sample may hold its clusters
        start = dataclasses.replace(start, cluster=partial(agreeing_clusters, sample=sample))
    others: tuple[tuple[str, IntArray], ...] = ()
    chosen = Agreement(settings.init if isinstance(settings.init, str) else "centres")
    if (rows.cluster >= 0).any():
        chosen = Agreement("clusters")
    elif start is not None and start.once:
        clusters_of = start.clusters_of
        found = ranks.from_first(lambda: clusters_of(standardised, settings.n_components, seed))
        chosen = found.agreement or chosen
        names, more = [name for name, _ in found.others], [each for _, each in found.others]
        clusters = [found.cluster, *more]
        weights = settings.weights
        if weights is not None and not rows.labelled.any():
            clusters = [largest_to_largest(each, rows.weight, weights) for each in clusters]
        cluster, others = clusters[0], tuple(zip(names, clusters[1:], strict=True))
        table = dataclasses.replace(table, rows=dataclasses.replace(rows, cluster=cluster))
    return _divided(table, settings, seed, chosen, others)


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
    left_out = 0
    cut_off: TrainingResult | None = None  # the last training that had no more time
    for restart, seed in enumerate(seeds):
        if restart and _is_out_of_time(settings):
            left_out = len(seeds) - restart
            break
        watching = list(watchers) if ranks.is_first() else []
        of_restart = prepared.of_restart(restart)
        if settings.checkpoint is not None and ranks.is_first():
            watching.append(_checkpoint(of_restart, settings, restart, seed))
        try:
            of_time = _share_of_time(settings, len(seeds) - restart)
            fit = fit_once(of_restart, of_time, seed, watching)
        except TrainingError as error:
            if best is None:
                raise
            warnings.warn(f"Restart {restart + 1} failed and is left out: {error}", stacklevel=3)
            continue
        if fit.training.out_of_time:
            cut_off = fit.training
        if best is None or compare(fit.log_prob, best.log_prob, weight).gain > 0:
            best = fit
        if fit.training.interrupted:
            warnings.warn("Training was interrupted; the best model so far is kept.", stacklevel=3)
            break
    assert best is not None
    if left_out or cut_off is not None:
        warnings.warn(_left_undone(cut_off or best.training, left_out), stacklevel=3)
    return best


def _is_out_of_time(settings: Settings) -> bool:
    """Whether the time of a fit is over, by the clock of the first process."""
    deadline = settings.deadline
    if deadline is None:
        return False
    return ranks.from_first(lambda: time.monotonic() > deadline)


def _share_of_time(settings: Settings, n_fits: int) -> Settings:
    """The settings of the next of several fits, which share the time that is left."""
    if settings.deadline is None:
        return settings
    now = time.monotonic()
    return dataclasses.replace(settings, deadline=now + max(0, settings.deadline - now) / n_fits)


def _left_undone(training: TrainingResult, n_fits: int) -> str:
    """What a fit that was out of time did not do, as a sentence."""
    scores = [epoch.log_likelihood for epoch in training.history]
    epochs = "1 epoch" if len(scores) == 1 else f"{len(scores)} epochs"
    text = f"The time of max_seconds was over after {epochs}"
    if len(scores) < 2:
        text += ": give more time, or fewer rows"
    else:
        last = max(1, len(scores) // 10)
        gain = scores[-1] - scores[-1 - last]
        text += f"; in the last {last} of them the log-likelihood rose by {gain:.4f} nats per row"
    if n_fits:
        text += f"; {n_fits} {'fits' if n_fits > 1 else 'fit'} of n_init "
        text += "are left out" if n_fits > 1 else "is left out"
    return f"{text}."


def fit_once(
    prepared: Prepared, settings: Settings, seed: int, watchers: Sequence[Watcher] = ()
) -> Fit:
    """Start, train, judge, and refine the posterior.

    Parameters
    ----------
    prepared : Prepared
    settings : Settings
    seed : int
    watchers : sequence of Watcher
    """
    generator = torch.Generator().manual_seed(seed)
    starter = _starter(prepared, settings)
    training_rows = prepared.standardised.take(prepared.train)

    def started() -> tuple[GaussianStart, GaussianStart]:
        random = np.random.default_rng(seed)
        clusters, mixture = starter.fit(training_rows, random)
        if prepared.is_gap is not None:
            of_training = prepared.is_gap[prepared.train]
            mixture = refitted(starter, training_rows, of_training, mixture, random)
        return clusters, mixture

    clusters, mixture = ranks.from_first(started)
    keep_freed_memory()
    # A step takes about one multiply-add for each parameter and each row of the batch.
    n_parameters = _n_parameters(mixture, settings)
    with threads_for(settings.batch_size // ranks.count() * n_parameters):
        result, model = TrainingResult(), None
        if settings.trains:
            loop = _training(clusters, mixture, prepared, settings, generator, watchers, starter)
            result, model = loop.run(), loop.model
        fit = ranks.from_first(
            lambda: _finished(model, mixture, result, prepared, settings, generator, starter)
        )
    fit.model.to(settings.device, settings.dtype)
    return fit


def go_on(
    model: MixtureModel,
    table: Table,
    settings: Settings,
    seed: int,
    watchers: Sequence[Watcher] = (),
) -> tuple[MixtureModel, TrainingResult, Array, Array, Array]:
    """Train a fitted model further, on new rows.

    Parameters
    ----------
    model : MixtureModel
        It is not changed.
    table : Table
    settings : Settings
    seed : int
    watchers : sequence of Watcher

    Returns
    -------
    model : MixtureModel
        The further trained model.
    training : TrainingResult
    before, after, weight : array of shape (number of judged rows,)
        Log density of the judged rows under both models, in nats, and their weights.
    """
    model = copy.deepcopy(model).to(settings.device, torch.float32)
    settings = dataclasses.replace(
        settings, training=dataclasses.replace(settings.training, pretrain_epochs=0)
    )
    prepared = _divided(table, settings, seed)
    generator = torch.Generator().manual_seed(seed)
    judged = prepared.tensors.take(torch.from_numpy(prepared.judged).to(settings.device))
    before = in_parts(model.log_prob, judged.x, model.rows_at_once).cpu().numpy()
    result = TrainingResult()
    with threads_for(settings.batch_size * sum(p.numel() for p in model.parameters())):
        if settings.trains:
            # q fits the flows already, so that it is not warmed up.
            watching = watchers if ranks.is_first() else ()
            loop = _loop(model, prepared, settings, settings.training, generator, watching, False)
            result = loop.run()

        def finished() -> tuple[MixtureModel, TrainingResult, Array, Array]:
            if settings.training.refine_posterior:
                refine_posterior(model, prepared.tensors, generator)
            after = in_parts(model.log_prob, judged.x, model.rows_at_once).cpu().numpy()
            return model.cpu(), result, before, after

        model, result, before, after = ranks.from_first(finished)
    model.to(settings.device, settings.dtype)
    return model, result, before, after, judged.weight.cpu().numpy()


def _divided(
    table: Table,
    settings: Settings,
    seed: int,
    start: Agreement | None = None,
    others: tuple[tuple[str, IntArray], ...] = (),
) -> Prepared:
    """The rows of a table, divided into training rows and held-out rows."""
    random = np.random.default_rng(seed)
    rows, source, train, held_out = _split(
        table.rows, settings, random, divide_repeated=table.stream is None
    )
    table = dataclasses.replace(table, rows=rows)
    standardised = table.standardised
    if settings.needs_spacing:
        spacing = spacing_of(standardised.x, np.random.default_rng(seed))
        rows = dataclasses.replace(rows, spacing=spacing)
    stream = table.stream
    if stream is not None:
        stream = stream.without(rows.x[held_out], settings.device)
    return Prepared(
        standardised,
        rows.to_tensors(settings.device),
        table.standardizer,
        train,
        held_out,
        Agreement("none") if start is None else start,
        tuple((name, cluster[source]) for name, cluster in others),
        stream=stream,
        is_gap=None if table.is_gap is None else table.is_gap[source],
    )


def _standardizer(
    rows: ArrayRows, names: list[str], shift: Array, scale: Array, domain: Domain | None
) -> Standardizer:
    """The standardiser of rows; shift and scale are those of the columns without a domain."""
    if domain is not None:
        on_line = domain(torch.from_numpy(rows.x)).numpy()
        is_mapped = (on_line != rows.x).any(axis=0)
        mapped_shift, mapped_scale = shift_and_scale(on_line, rows.weight, names)
        shift = np.where(is_mapped, mapped_shift, shift)
        scale = np.where(is_mapped, mapped_scale, scale)
    return Standardizer(torch.from_numpy(shift), torch.from_numpy(scale), domain)


def _drawn_from_columns(x: Array, random: np.random.Generator) -> Array:
    """Rows (n, D) in which NaN is replaced by other values of the column, drawn at random."""
    x = x.copy()
    for column in x.T:
        is_gap = np.isnan(column)
        column[is_gap] = random.choice(column[~is_gap], int(is_gap.sum()))
    return x


def _split(
    rows: ArrayRows, settings: Settings, random: np.random.Generator, *, divide_repeated: bool
) -> tuple[ArrayRows, IntArray, IntArray, IntArray]:
    """Divide rows into training rows and held-out rows. Classes with few labels are held out last.

    Of a row that is repeated, some repetitions are held out. Such a row is then there twice.

    Returns
    -------
    rows : Rows
        The m rows, with those that are divided twice.
    source : int array of shape (m,)
        Where each row was.
    train, held_out : int array
        Indices into the m rows.
    """
    n_rows, n_held_out = rows.n_rows, settings.n_held_out
    order = random.permutation(n_rows)
    labels = rows.component
    n_labels = np.bincount(labels[labels >= 0], minlength=settings.n_components)
    scarce = (labels >= 0) & (n_labels[labels] < MANY_LABELS)
    order = np.concatenate([order[~scarce[order]], order[scarce[order]]])
    counts = rows.counts
    taken = np.zeros(n_rows, dtype=np.int64)  # the repetitions that are held out
    taken[order[:n_held_out]] = counts[order[:n_held_out]]
    if divide_repeated:
        some = np.floor(counts * n_held_out / n_rows + random.random(n_rows)).astype(np.int64)
        taken = np.where((counts > 1) & ~scarce, some, taken)
    divided = np.flatnonzero((taken > 0) & (taken < counts))
    source = np.concatenate([np.arange(n_rows), divided])
    times = counts[source]
    times[divided] -= taken[divided]
    times[n_rows:] = taken[divided]
    is_whole = taken[order] == counts[order]
    held_out = np.concatenate([order[is_whole], n_rows + np.arange(len(divided))])
    return rows.take(source).occurring(times), source, order[~is_whole], held_out


def _starter(prepared: Prepared, settings: Settings) -> GaussianStarter:
    start = settings.start
    if start is None:
        centres = torch.from_numpy(np.array(settings.init))
        start = given_centres(prepared.standardizer(centres).numpy())
    return GaussianStarter(
        settings.n_components,
        start,
        settings.weights,
        atoms=settings.base,
        broad_weight=settings.broad_weight,
    )


def _gaussian_model(
    start: GaussianStart,
    prepared: Prepared,
    settings: Settings,
    generator: torch.Generator,
    *,
    informed: bool = True,
    mixture: GaussianStart | None = None,
) -> MixtureModel:
    """A model whose flows start as these Gaussians, or with random networks if not `informed`.

    Gaps are drawn from the `mixture`, by default from the Gaussians of the start.
    """
    model = build_model(
        settings.flow,
        settings.posterior,
        settings.n_components,
        settings.n_features,
        n_atoms=int(start.n_atoms.max()),
        broad_weight=settings.broad_weight,
        standardizer=copy.deepcopy(prepared.standardizer),
        learn_weights=settings.weights is None,
        conditionals=None if prepared.is_gap is None else conditionals_of(mixture or start),
        identity=informed,
        generator=generator,
    )
    weights, component = torch.from_numpy(start.weights), torch.from_numpy(start.component)
    model.flows.set_gaussians(
        torch.from_numpy(start.means), torch.from_numpy(start.covariances), weights, component
    )
    model.set_weights(weights.new_zeros(settings.n_components).index_add(0, component, weights))
    return model.to(settings.device)


def _training(
    clusters: GaussianStart,
    mixture: GaussianStart,
    prepared: Prepared,
    settings: Settings,
    generator: torch.Generator,
    watchers: Sequence[Watcher],
    starter: GaussianStarter,
) -> TrainingLoop:
    """The training of flows that begin with the better of two starts.

    If components have several atoms, flows with one atom each are pretrained on the clusters. They
    are trained further if they are then about as good as the atoms, since they have fewer
    parameters and go on to improve. Otherwise the flows begin with the atoms.
    """
    informed = starter.start.informed
    several = mixture.n_atoms.max() > 1
    # With many rows the flows can learn the shape of the first clusters. Expectation maximisation
    # would first change the clusters to shapes that Gaussians can represent.
    ample = starter.is_ample(len(prepared.train), settings.n_features)
    if not several or (settings.training.pretrain_epochs and settings.base == "auto"):
        first = clusters if several or ample else mixture
        model = _gaussian_model(
            first, prepared, settings, generator, informed=informed, mixture=mixture
        )
        loop = _loop(model, prepared, settings, settings.training, generator, watchers, informed)
        if not several:
            return loop
        held_out = prepared.held_out
        if len(held_out):
            of_atoms = prepared.density_of(mixture, held_out)
            weight = prepared.standardised.weight[held_out]
            least = np.average(of_atoms, weights=weight) - ALMOST_AS_GOOD
            loop.begin()
            if loop.result.interrupted or loop.score() > least:
                return loop
    model = _gaussian_model(mixture, prepared, settings, generator)
    training = dataclasses.replace(settings.training, pretrain_epochs=0)
    return _loop(model, prepared, settings, training, generator, watchers, informed)


def _loop(
    model: MixtureModel,
    prepared: Prepared,
    settings: Settings,
    training: Training,
    generator: torch.Generator,
    watchers: Sequence[Watcher],
    informed: bool,
) -> TrainingLoop:
    device = settings.device
    rows = prepared.tensors.take(torch.from_numpy(prepared.train).to(device))
    held_out = prepared.tensors.take(torch.from_numpy(prepared.held_out).to(device))
    if prepared.is_gap is not None and prepared.is_gap.any():
        rows = _with_draws(rows, prepared.known(prepared.train), model, generator)
        held_out = _with_draws(held_out, prepared.known(prepared.held_out), model, generator)
    first = rows
    if training.pretrain_epochs:  # clusters count as labels during pretraining
        component = rows.component.where(rows.labelled, rows.cluster)
        first = dataclasses.replace(rows, component=component)
    if informed:
        warm_up_posterior(model, first, generator)
    return TrainingLoop(
        model,
        rows if prepared.stream is None else prepared.stream,
        held_out if held_out.n_rows else None,
        settings.objective,
        training,
        settings.max_epochs,
        settings.temperature,
        generator,
        first,
        watchers,
        None if settings.deadline is None else _end_of_training(settings.deadline),
        settings.pretrain_patience,
    )


def _with_draws(
    rows: Rows[Tensor], known: Tensor, model: MixtureModel, generator: torch.Generator
) -> Rows[Tensor]:
    """Rows with their gaps, NaN in `known`, filled several times."""
    if not rows.n_rows:
        return rows
    n_draws = min(DRAWS_IN_TRAINING, max(FEWEST_DRAWS, MOST_VALUES // known.numel()))
    shape = (rows.n_rows, n_draws, known.shape[1] + 2)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64).to(known.device)
    return dataclasses.replace(rows, draws=model.draw(known, uniform))


def _end_of_training(deadline: float) -> float:
    """When a training ends that begins now, so that the fit ends at its deadline."""
    now = time.monotonic()
    return now + TRAINING_SHARE * max(0.0, deadline - now)


def _finished(
    model: MixtureModel | None,
    mixture: GaussianStart,
    result: TrainingResult,
    prepared: Prepared,
    settings: Settings,
    generator: torch.Generator,
    starter: GaussianStarter,
) -> Fit:
    """The flows or the Gaussian mixture, whichever is better, with a refined posterior."""
    verdict, log_prob = _judge(model, mixture, result, prepared)
    if model is None or verdict.kept == "gaussian mixture":
        if len(prepared.held_out):  # no longer needed for judging, so fit to all rows
            everyone, is_gap = prepared.standardised, prepared.is_gap
            mixture = starter.refit(everyone, mixture)
            if is_gap is not None:
                random = np.random.default_rng(generator.initial_seed())
                mixture = refitted(starter, everyone, is_gap, mixture, random)
        model = _gaussian_model(mixture, prepared, settings, generator)
        warm_up_posterior(model, prepared.tensors, generator)
    if settings.training.refine_posterior:
        refine_posterior(model, prepared.tensors, generator)
    return Fit(model.cpu(), result, verdict, mixture.shrinkage, log_prob, prepared.start)


def _n_parameters(mixture: GaussianStart, settings: Settings) -> int:
    """Number of parameters of a model that begins with this mixture."""
    model = build_model(
        settings.flow,
        settings.posterior,
        settings.n_components,
        settings.n_features,
        n_atoms=int(mixture.n_atoms.max()),
        generator=torch.Generator(),
    )
    return sum(p.numel() for p in model.parameters())


def _judge(
    model: MixtureModel | None, mixture: GaussianStart, result: TrainingResult, prepared: Prepared
) -> tuple[Verdict, Array]:
    """The verdict, and the log density of the judged rows under the density that is kept."""
    judged = prepared.judged
    rows = prepared.standardised.take(judged)
    of_gaussians = prepared.density_of(mixture, judged)
    of_flows: Array | None = None
    if model is not None and result.history:
        known = prepared.known(judged)
        of_flows = in_parts(model.log_prob, known, model.rows_at_once).cpu().numpy()
    several = mixture.n_atoms.max() > 1
    of_one_atom = model is not None and isinstance(model.flows.base, StandardNormal)
    verdict = judge(
        of_flows,
        of_gaussians,
        rows.weight,
        held_out=len(prepared.held_out) > 0,
        epoch=result.best_epoch,
        n_epochs=result.n_epochs,
        standard_errors=ERRORS_AGAINST_ATOMS if several and of_one_atom else ERRORS_OF_GAIN,
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
    if prepared.stream is not None:  # its rows are known by their moments and their number
        known = prepared.standardizer
        for values in (known.shift.numpy(), known.scale.numpy(), prepared.stream.counts):
            digest.update(values.tobytes())
    path = settings.checkpoint
    assert path is not None
    name = path.name if settings.n_init == 1 else f"{path.stem}-{restart + 1}{path.suffix}"
    return Checkpoint(path.with_name(name), digest.hexdigest())
