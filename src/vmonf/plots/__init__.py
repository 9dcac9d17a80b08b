"""Figures of a fitted mixture: clusters, densities, training, sizes and number of components.

Every function returns a `matplotlib.figure.Figure` and leaves matplotlib's global state
unchanged. Save a figure with ``figure.savefig("name.png")``; a notebook displays it.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING

try:
    import matplotlib  # noqa: F401 - gives a clear error if it is missing
except ModuleNotFoundError as error:
    if error.name != "matplotlib":  # a dependency of matplotlib is missing
        raise
    raise ImportError("Plots need matplotlib: pip install 'vmonf[plots]'.") from error

from matplotlib.figure import Figure
from sklearn.utils.validation import check_is_fitted

from vmonf.plots.density import plot_density
from vmonf.plots.number import plot_number
from vmonf.plots.pairs import plot_pairs
from vmonf.plots.regions import plot_regions
from vmonf.plots.sizes import plot_sizes
from vmonf.plots.training import plot_training

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from vmonf.estimator import FlowMixture

__all__ = [
    "KINDS",
    "plot",
    "plot_density",
    "plot_number",
    "plot_pairs",
    "plot_regions",
    "plot_sizes",
    "plot_training",
]

#: The figures by name. Each function takes a mixture, and some of X, labels and random_state.
FIGURES: dict[str, Callable[..., Figure]] = {
    "regions": plot_regions,
    "density": plot_density,
    "training": plot_training,
    "pairs": plot_pairs,
    "sizes": plot_sizes,
    "number": plot_number,
}
#: What `plot` can draw.
KINDS = ("auto", *FIGURES)


def plot(
    mixture: FlowMixture,
    X: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    kind: str = "auto",
    random_state: int | np.random.RandomState | None = 0,
) -> Figure:
    """Draw a figure of a fitted mixture.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted.
    X : array-like or DataFrame of shape (n, D), optional
        Rows to show. Without them, samples from the mixture are shown.
    labels : array-like of shape (n,), optional
        Labels of the rows: whole numbers or strings; -1 marks an unlabelled row. Shown by
        "regions", "pairs" and "sizes".
    kind : {"auto", "regions", "density", "training", "pairs", "sizes", "number"}, default="auto"
        The figure: see `plot_regions`, `plot_density`, `plot_training`, `plot_pairs`,
        `plot_sizes` and `plot_number`. "auto" is "density" for one feature, "regions" for two and
        "pairs" for more.
    random_state : int, RandomState or None, default=0
        Draws the samples, and the rows that are shown if X has too many.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the kind is not known or does not fit the number of features, or X or labels do not
        fit the mixture.
    sklearn.exceptions.NotFittedError
        If the mixture is not fitted.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known: choose one of {', '.join(KINDS)}.")
    check_is_fitted(mixture)
    if kind == "auto":
        by_features: dict[int, str] = {1: "density", 2: "regions"}
        kind = by_features.get(mixture.n_features_in_, "pairs")
    figure = FIGURES[kind]
    given = {"X": X, "labels": labels, "random_state": random_state}
    taken = signature(figure).parameters
    return figure(mixture, **{name: value for name, value in given.items() if name in taken})
