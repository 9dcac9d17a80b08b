"""Rows with missing values: a Gaussian mixture of what is known, from which the gaps are drawn.

The mixture is fitted by Monte Carlo expectation maximisation: the gaps are drawn from their
distribution given the known values, the mixture is fitted to the rows that are filled in this way,
and so on.

Source: Wei & Tanner, "A Monte Carlo implementation of the EM algorithm" (1990).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vmonf.flows.base import DEGREES
from vmonf.model import Conditionals
from vmonf.start.atoms import clusters_within, number_of_atoms
from vmonf.start.gaussian_mixture import (
    VARIANCE_FLOOR,
    GaussianStart,
    Shrinkage,
    mixture_from_clusters,
)
from vmonf.start.starter import GaussianStarter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vmonf.rows import Rows

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    ArrayRows = Rows[NDArray[Any]]

#: How many times rows are filled and a Gaussian or a mixture fitted to them, before there are
#: clusters.
FIRST_ROUNDS = 8
#: The same at most, once there are clusters. What is missing slows expectation maximisation.
MOST_ROUNDS = 40
#: A row is filled at most so many times in a round, and a table has at most so many filled rows.
MOST_DRAWS = 10
MOST_FILLED = 20_000
#: The mixture by which the gaps are filled before there are clusters.
FIRST_SHRINKAGE = Shrinkage(1.0, 0.1)
#: Expectation maximisation between two fillings ends when an iteration gains less than this, in
#: nats per row.
TOLERANCE = 1e-3
#: The fillings end after two that gain less than this, in nats per row.
GAIN_OF_FILLING = 2e-4


def conditionals_of(mixture: GaussianStart) -> Conditionals:
    """The distribution of gaps under a mixture of standardised rows, with its broad parts."""
    weights, means, covariances = mixture.weights, mixture.means, mixture.covariances
    degrees = np.full(len(weights), np.inf)
    if mixture.broad_weight:
        share, whole_means, whole_covariances = mixture.whole_components()
        weights = np.concatenate(
            [weights * (1 - mixture.broad_weight), share * mixture.broad_weight]
        )
        means = np.concatenate([means, whole_means])
        covariances = np.concatenate([covariances, whole_covariances])
        degrees = np.concatenate([degrees, np.full(len(share), float(DEGREES))])
    return Conditionals(*map(torch.from_numpy, (weights, means, covariances, degrees)))


def filled(
    x: Array, is_gap: Mask, mixture: GaussianStart, n_draws: int, random: np.random.Generator
) -> Array:
    """Rows (n, D) with their gaps drawn from a mixture, each S times: (n, S, D)."""
    z = torch.from_numpy(np.where(is_gap, np.nan, x))
    uniform = torch.from_numpy(random.random((len(x), n_draws, x.shape[1] + 2)))
    drawn, _ = conditionals_of(mixture).draw(z, uniform)
    values: Array = drawn.numpy()
    return values


def first_filled(rows: ArrayRows, is_gap: Mask, random: np.random.Generator) -> Array:
    """Rows with their gaps filled once, before there are clusters: (n, D).

    The gaps are drawn from a Gaussian first, and then from a mixture of Gaussians of the whole
    table, whose number cross-validation chooses.

    Parameters
    ----------
    rows : Rows
        In standardised units, with any values in the gaps.
    is_gap : bool array of shape (n, D)
    random : numpy.random.Generator
    """
    some = random.permutation(rows.n_rows)[:MOST_FILLED]
    fitted, gaps = rows.take(some), is_gap[some]
    # Gaps begin as draws from independent columns. Of a column that is rarely known, no value may
    # be among some of the rows.
    known = np.where(is_gap, np.nan, rows.x)
    mixture = GaussianStart(
        np.nanmean(known, axis=0)[None],
        np.diag(np.nanvar(known, axis=0) + VARIANCE_FLOOR)[None],
        np.ones(1),
        np.zeros(1, dtype=np.int64),
        FIRST_SHRINKAGE,
    )
    cluster, number = np.zeros(len(some), dtype=np.int64), 1
    for round_ in range(2 * FIRST_ROUNDS):
        x = filled(fitted.x, gaps, mixture, 1, random)[:, 0]
        if round_ == FIRST_ROUNDS:
            fitted = dataclasses.replace(fitted, x=x)
            number = number_of_atoms(fitted, random)
            cluster = clusters_within(fitted, number, random)
            if number == 1:
                break
        mixture = mixture_from_clusters(
            x, fitted.weight, cluster, number, FIRST_SHRINKAGE, TOLERANCE
        )
        cluster = mixture.atom_log_joint(x).argmax(axis=0)
    return filled(rows.x, is_gap, mixture, 1, random)[:, 0]


def refitted(
    starter: GaussianStarter,
    rows: ArrayRows,
    is_gap: Mask,
    mixture: GaussianStart,
    random: np.random.Generator,
) -> GaussianStart:
    """A mixture, fitted again to rows whose gaps are drawn from it, and so on.

    Parameters
    ----------
    starter : GaussianStarter
    rows : Rows
        In standardised units, with any values in the gaps.
    is_gap : bool array of shape (n, D)
    mixture : GaussianStart
        The first mixture.
    random : numpy.random.Generator
    """
    if not is_gap.any():
        return mixture
    if rows.n_rows > MOST_FILLED:
        some = random.permutation(rows.n_rows)[:MOST_FILLED]
        rows, is_gap = rows.take(some), is_gap[some]
    n_draws = max(1, min(MOST_DRAWS, MOST_FILLED // rows.n_rows))
    row = np.repeat(np.arange(rows.n_rows), n_draws)
    repeated = rows.take(row)
    repeated = dataclasses.replace(repeated, weight=repeated.weight / n_draws)
    known = torch.from_numpy(np.where(is_gap, np.nan, rows.x))
    highest, since = -np.inf, 0
    for _ in range(MOST_ROUNDS):
        x = filled(rows.x, is_gap, mixture, n_draws, random).reshape(len(row), -1)
        mixture = starter.refit(dataclasses.replace(repeated, x=x), mixture, TOLERANCE)
        log_prob = conditionals_of(mixture).log_prob(known).numpy()
        score = float(np.average(log_prob, weights=rows.weight))
        since = 0 if score > highest + GAIN_OF_FILLING else since + 1
        highest = max(score, highest)
        if since == 2:
            break
    return mixture
