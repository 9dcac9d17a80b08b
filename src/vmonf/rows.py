"""Rows: what a fit sees of a table, as numpy arrays or as tensors."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Rows(Generic[Values]):
    """Rows with what is known of each.

    Attributes
    ----------
    x : array or Tensor of shape (n, D)
        In the user's units, or standardised.
    weight : array or Tensor of shape (n,)
        How much each row counts; of mean one over all rows of a fit.
    component : int array or Tensor of shape (n,)
        The component that a row's label names; -1 where it has no label.
    cluster : int array or Tensor of shape (n,)
        The cluster in which a row starts; -1 where none is given.
    """

    x: Values
    weight: Values
    component: Values
    cluster: Values

    @property
    def n_rows(self) -> int:
        """N."""
        return len(self.x)

    @property
    def labelled(self) -> Values:
        """Which rows have a label: shape (n,)."""
        return self.component >= 0

    def take(self, index: Values) -> Rows[Values]:
        """Some of the rows, by their indices or by a mask."""
        return Rows(self.x[index], self.weight[index], self.component[index], self.cluster[index])

    def to_tensors(self: Rows[NDArray[Any]], device: torch.device) -> Rows[Tensor]:
        """The same rows as tensors on a device."""
        x, weight, component, cluster = (
            torch.from_numpy(values).to(device)
            for values in (self.x, self.weight, self.component, self.cluster)
        )
        return Rows(x, weight, component, cluster)

    def batches(
        self: Rows[Tensor], batch_size: int, generator: torch.Generator
    ) -> Iterator[Rows[Tensor]]:
        """Every row once, in random order, in batches of about `batch_size` rows.

        The rows that whole batches leave over are spread over the batches, so that no small
        batch takes an optimiser's step as large as a whole batch does.
        """
        order = torch.randperm(self.n_rows, generator=generator).to(self.x.device)
        for index in order.tensor_split(self.n_batches(batch_size)):
            yield self.take(index)

    def n_batches(self, batch_size: int) -> int:
        """How many batches `batches` gives."""
        return max(1, self.n_rows // min(batch_size, self.n_rows))


def unlabelled_rows(x: Tensor) -> Rows[Tensor]:
    """Rows of weight one, without labels and in no cluster: x has shape (n, D)."""
    nowhere = torch.full((len(x),), -1, device=x.device)
    return Rows(x, torch.ones(len(x), dtype=x.dtype, device=x.device), nowhere, nowhere)


def concatenated(first: Rows[Tensor], second: Rows[Tensor]) -> Rows[Tensor]:
    """The rows of the first, then those of the second."""
    return Rows(
        torch.cat([first.x, second.x]),
        torch.cat([first.weight, second.weight]),
        torch.cat([first.component, second.component]),
        torch.cat([first.cluster, second.cluster]),
    )


def distinct_rows(
    X: Array, weight: Array, component: IntArray, cluster: IntArray
) -> Rows[NDArray[Any]]:
    """Each row of a table once, in an order that does not depend on the table's.

    A row given twice and a row of weight two are then the same, and a fit does not depend on
    the order of its rows.

    Parameters
    ----------
    X : array of shape (n, D)
    weight : array of shape (n,)
        Rows of weight zero are left out.
    component, cluster : int array of shape (n,)
        Equal rows are merged where their components are equal too. Of their clusters the first
        is taken.

    Returns
    -------
    Rows of m <= n rows
        Weights are sums of the weights of equal rows, scaled to a mean of one.
    """
    kept = np.flatnonzero(weight > 0)
    x, weight, component = X[kept] + 0.0, weight[kept], component[kept]  # -0.0 becomes 0.0
    key = _hash(x, component)
    order = np.argsort(key, kind="stable")
    x, weight, component, key = x[order], weight[order], component[order], key[order]
    same = key[1:] == key[:-1]
    if same.any():
        pairs = np.flatnonzero(same)
        same[pairs] = (x[pairs] == x[pairs + 1]).all(axis=1) & (
            component[pairs] == component[pairs + 1]
        )
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    weight = np.add.reduceat(weight, starts)
    first = kept[order][starts]
    return Rows(x[starts], weight / weight.mean(), component[starts], cluster[first])


def _hash(x: Array, component: IntArray) -> NDArray[np.uint64]:
    """A 64-bit key of each row: multiply, rotate and exclusive-or, column by column."""
    bits = np.ascontiguousarray(x).view(np.uint64)
    key = component.astype(np.uint64)
    for column in range(bits.shape[1]):
        key = (key ^ bits[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key
