"""The spacing of rows: how far their near neighbours are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: The neighbour whose distance is the spacing, counted from 1 without the row itself.
NEIGHBOUR = 10
#: Neighbours are looked for among at most this many rows.
MAX_ROWS = 10_000


def spacing_of(x: Array, random: np.random.Generator) -> Array:
    """The distance of each row to its tenth nearest other row.

    With more than 10,000 rows, neighbours are looked for in a sample. A neighbour of a smaller
    rank then stands for the tenth, since a sample of a tenth of the rows has a tenth of the
    neighbours in any ball.

    Source: Hu et al., "Learning discrete representations via information maximizing
    self-augmented training" (2017), section 3.3, for the tenth neighbour.

    Parameters
    ----------
    x : array of shape (n, D)
        Rows, standardised.
    random : numpy.random.Generator
        Draws the sample.

    Returns
    -------
    array of shape (n,)
        In the units of x; 0 for a single row.
    """
    n = len(x)
    if n == 1:
        return np.zeros(1)
    chosen = np.arange(n) if n <= MAX_ROWS else random.choice(n, MAX_ROWS, replace=False)
    rank = min(max(1, round(NEIGHBOUR * len(chosen) / n)), len(chosen) - 1)
    distances, _ = NearestNeighbors(n_neighbors=rank + 1).fit(x[chosen]).kneighbors(x)
    spacing: Array = distances[:, rank - 1].copy()
    spacing[chosen] = distances[chosen, rank]  # a row of the sample is its own nearest
    return spacing
