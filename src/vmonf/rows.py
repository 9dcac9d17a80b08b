"""Rows of a table with their weights, labels and clusters, as numpy arrays or tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The four fields are all numpy arrays or all tensors.
Values = TypeVar("Values", "NDArray[Any]", Tensor)

#: Of the draws of the gaps of a row, so many are used in a step of the training.
DRAWS_IN_STEP = 3
#: If every row occurs more often than this, in units of their greatest common divisor, the numbers
#: are weights of another kind.
MOST_REPETITIONS_OF_ALL = 10
#: Larger whole numbers are not exact as floats.
LARGEST_WHOLE = 2.0**53


@dataclass(frozen=True)
class Draws:
    """Rows with gaps, each filled S times, in the user's units.

    Attributes
    ----------
    x : Tensor of shape (n, S, D)
        A row without gaps is there S times.
    log_prob : Tensor of shape (n, S)
        Log density, in nats, of the filled values in the distribution from which they were drawn.
    is_drawn : bool Tensor of shape (n,)
        Whether the row has gaps.
    """

    x: Tensor
    log_prob: Tensor
    is_drawn: Tensor

    def take(self, index: Any) -> Draws:
        """The rows that are selected by indices or by a mask."""
        return Draws(self.x[index], self.log_prob[index], self.is_drawn[index])

    def to(self, device: torch.device) -> Draws:
        """The same draws on another device."""
        return Draws(self.x.to(device), self.log_prob.to(device), self.is_drawn.to(device))

    def some(self, n_draws: int, generator: torch.Generator) -> Draws:
        """So many of the S draws of each row, which are consecutive ones from a random place."""
        n_rows, n_all = self.log_prob.shape
        first = torch.randint(n_all, (n_rows, 1), generator=generator)
        place = ((first + torch.arange(min(n_draws, n_all))) % n_all).to(self.x.device)
        row = torch.arange(n_rows, device=self.x.device)[:, None]
        return Draws(self.x[row, place], self.log_prob[row, place], self.is_drawn)


@dataclass(frozen=True)
class Rows(Generic[Values]):
    """Rows with their weights, labels and initial clusters.

    Attributes
    ----------
    x : array or Tensor of shape (n, D)
        The features, in the user's units or standardised.
    weight : array or Tensor of shape (n,)
        The weight of each row. The mean over all rows of a fit is one.
    component : int array or Tensor of shape (n,)
        The component of each row's label, or -1 if the row has no label.
    cluster : int array or Tensor of shape (n,)
        The initial cluster of each row, or -1 if none is given.
    repetitions : int array of shape (n,), optional
        How often each row occurs, for arrays alone. None means once.
    spacing : array or Tensor of shape (n,), optional
        The distance of each row to its near neighbours, standardised; see `vmonf.spacing`. It is
        None unless a term of the objective needs it.
    draws : Draws, optional
        If rows had gaps, these rows with their gaps filled several times, for tensors alone; `x`
        has them filled once.
    """

    x: Values
    weight: Values
    component: Values
    cluster: Values
    repetitions: Values | None = None
    spacing: Values | None = None
    draws: Draws | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows n."""
        return len(self.x)

    @property
    def counts(self: Rows[NDArray[Any]]) -> IntArray:
        """How often each row occurs: shape (n,)."""
        if self.repetitions is None:
            return np.ones(self.n_rows, dtype=np.int64)
        return self.repetitions

    @property
    def labelled(self) -> Values:
        """Mask of the rows that have a label: shape (n,)."""
        return self.component >= 0

    def take(self, index: Values) -> Rows[Values]:
        """The rows that are selected by indices or by a mask."""
        return Rows(
            self.x[index],
            self.weight[index],
            self.component[index],
            self.cluster[index],
            None if self.repetitions is None else self.repetitions[index],
            None if self.spacing is None else self.spacing[index],
            None if self.draws is None else self.draws.take(index),
        )

    def occurring(self: Rows[NDArray[Any]], times: IntArray) -> Rows[NDArray[Any]]:
        """The rows with so many of their repetitions (n,), without those of which none are left."""
        kept = np.flatnonzero(times)
        weight = self.weight[kept] * (times[kept] / self.counts[kept])
        return dataclasses.replace(self.take(kept), weight=weight, repetitions=times[kept])

    def to_tensors(self: Rows[NDArray[Any]], device: torch.device) -> Rows[Tensor]:
        """The same rows as tensors on a device."""
        x, weight, component, cluster = (
            torch.from_numpy(values)
            for values in (self.x, self.weight, self.component, self.cluster)
        )
        spacing = None if self.spacing is None else torch.from_numpy(self.spacing)
        return Rows(x, weight, component, cluster, spacing=spacing).to(device)

    def to(self: Rows[Tensor], device: torch.device) -> Rows[Tensor]:
        """The same rows on another device."""
        x, weight, component, cluster = (
            values.to(device) for values in (self.x, self.weight, self.component, self.cluster)
        )
        return Rows(
            x,
            weight,
            component,
            cluster,
            spacing=None if self.spacing is None else self.spacing.to(device),
            draws=None if self.draws is None else self.draws.to(device),
        )

    def batches(
        self: Rows[Tensor],
        batch_size: int,
        generator: torch.Generator,
        first: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Rows[Tensor]]:
        """Every row once, in random order, in batches of about `batch_size` rows.

        The remainder is spread over all batches. Otherwise a small last batch would take an
        optimiser's step as large as that of a whole batch. The first `first` batches are left out.
        If `part` is (rank, number of ranks), each rank gets its part of each batch.
        """
        order = torch.randperm(self.n_rows, generator=generator).to(self.x.device)
        own, n_parts = part
        rows = self
        if rows.draws is not None:
            rows = dataclasses.replace(rows, draws=rows.draws.some(DRAWS_IN_STEP, generator))
        for index in order.tensor_split(self.n_batches(batch_size))[first:]:
            yield rows.take(index.tensor_split(n_parts)[own])

    def n_batches(self, batch_size: int) -> int:
        """Number of batches that `batches` yields."""
        return max(1, self.n_rows // min(batch_size, self.n_rows))


def unlabelled_rows(x: Tensor) -> Rows[Tensor]:
    """Rows of weight one, without labels and clusters: x has shape (n, D)."""
    nowhere = torch.full((len(x),), -1, device=x.device)
    return Rows(x, torch.ones(len(x), dtype=x.dtype, device=x.device), nowhere, nowhere)


def concatenated(first: Rows[Tensor], second: Rows[Tensor]) -> Rows[Tensor]:
    """The rows of the first, then those of the second, without their spacing and draws."""
    return Rows(
        torch.cat([first.x, second.x]),
        torch.cat([first.weight, second.weight]),
        torch.cat([first.component, second.component]),
        torch.cat([first.cluster, second.cluster]),
    )


def distinct_rows(
    X: Array, weight: Array, component: IntArray, cluster: IntArray
) -> Rows[NDArray[Any]]:
    """Merge equal rows, and order the rows independently of their order in the table.

    A row that occurs twice is then the same as a row of weight two, and a fit does not depend on
    the order of the rows. Which rows are held out, sampled or in one batch follows from this
    order: a permutation that is fixed by the number of rows, of the order along a line. Rounding of
    the values hardly changes it, and the first rows are a random sample.

    Parameters
    ----------
    X : array of shape (n, D)
        Where values are missing, NaN, which are equal to one another.
    weight : array of shape (n,)
        Rows of weight zero are left out.
    component, cluster : int array of shape (n,)
        Equal rows are merged only if their components are equal too. The merged row has the
        cluster of those of them that have one; of several clusters the one with the highest number.

    Returns
    -------
    Rows of m <= n rows
        The weights of equal rows are added, and all weights are scaled to a mean of one.
    """
    kept = np.flatnonzero(weight > 0)
    x, weight = X[kept] + 0.0, weight[kept]  # -0.0 becomes 0.0
    component, cluster = component[kept], cluster[kept]
    x[np.isnan(x)] = np.nan  # of all its bit patterns, one
    key = row_keys(x, component)
    # Equal rows are in one place, with the highest cluster first.
    order = np.lexsort((-cluster, key, places_on_a_line(x)))
    x, weight, key = x[order], weight[order], key[order]
    component, cluster = component[order], cluster[order]
    same = key[1:] == key[:-1]
    if same.any():
        pairs = np.flatnonzero(same)
        bits = x.view(np.uint64)
        same[pairs] = (bits[pairs] == bits[pairs + 1]).all(axis=1) & (
            component[pairs] == component[pairs + 1]
        )
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    weight = np.add.reduceat(weight, starts)
    n_merged = np.diff(starts, append=len(x))
    mixed = np.random.default_rng(0).permutation(len(starts))
    weight, n_merged, starts = weight[mixed], n_merged[mixed], starts[mixed]
    return Rows(
        x[starts],
        weight / weight.mean(),
        component[starts],
        cluster[starts],
        repetitions(weight, n_merged),
    )


def places_on_a_line(x: Array) -> Array:
    """The place of each row on a line of fixed random direction through the scaled table: (n,).

    A small change of a row moves its place little, so that the order of the places only changes
    where two of them are as close. They do not depend on the order of the rows, bit for bit: each
    column is scaled by its range, whose ends are exact, and the columns are added one after the
    other.

    Parameters
    ----------
    x : array of shape (n, D)
        Finite values, or NaN, which counts as the smallest value of its column. Every column has
        a finite value.
    """
    # Halves, since the difference of the largest floats is infinite.
    low, high = np.nanmin(x, axis=0) / 2, np.nanmax(x, axis=0) / 2
    place = np.zeros(len(x))
    direction: Array = np.random.default_rng(0).standard_normal((x.shape[1],))
    for column in np.flatnonzero(low < high):
        scaled = (x[:, column] / 2 - low[column]) / (high[column] - low[column])
        place += direction[column] * np.nan_to_num(scaled)
    return place


def row_keys(x: Array, component: IntArray | None = None) -> NDArray[np.uint64]:
    """A 64-bit hash of each row, by multiplication, shift and exclusive-or of each column.

    Parameters
    ----------
    x : array of shape (n, D)
        Without negative zeros, whose bits differ from those of zero, and with one kind of NaN.
    component : int array of shape (n,), optional
        Rows of different components have different keys.
    """
    bits = np.ascontiguousarray(x).view(np.uint64)
    key = np.zeros(len(x), np.uint64) if component is None else component.astype(np.uint64)
    for column in range(bits.shape[1]):
        key = (key ^ bits[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


def folds_of(
    rows: Rows[NDArray[Any]], n_folds: int
) -> Iterator[tuple[Rows[NDArray[Any]], Rows[NDArray[Any]]]]:
    """Training rows and held-out rows of each fold of a cross-validation.

    Repeated values are one row. If they were all in one fold, a component as narrow as the values
    are alike would seem worthless, although new rows repeat them as well. So the weight of such a
    row is spread over the folds, as that of its repetitions would be.

    Parameters
    ----------
    rows : Rows
        In random order.
    n_folds : int
    """
    counts = rows.counts
    first = np.arange(rows.n_rows) % n_folds
    for fold in range(n_folds):
        in_fold = counts // n_folds + ((fold - first) % n_folds < counts % n_folds)
        yield rows.occurring(counts - in_fold), rows.occurring(in_fold)


def repetitions(weight: Array, n_merged: IntArray) -> IntArray:
    """How often each distinct row occurs: shape (n,).

    Parameters
    ----------
    weight : array of shape (n,)
        The weights of distinct rows, as they were given. If all are whole numbers, they count rows.
        Otherwise they tell nothing of repetitions.
    n_merged : int array of shape (n,)
        The number of rows of the table that are equal to each.

    Notes
    -----
    Only ratios matter. If every row occurs twice, none is repeated, as far as a fit can tell.
    """
    is_whole = weight.max() < LARGEST_WHOLE and (weight == np.rint(weight)).all()
    counts: IntArray = weight.astype(np.int64) if is_whole else n_merged.astype(np.int64)
    counts = counts // np.gcd.reduce(counts)
    return counts if counts.min() <= MOST_REPETITIONS_OF_ALL else np.ones_like(counts)
