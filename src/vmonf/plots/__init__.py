"""Figures of a fitted mixture: clusters, densities, training and sizes of components.

Every function returns a `matplotlib.figure.Figure` and leaves matplotlib's global state
unchanged. Save a figure with ``figure.savefig("name.png")``; a notebook displays it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

try:
    import matplotlib  # noqa: F401 - gives a clear error if it is missing
except ModuleNotFoundError as error:
    if error.name != "matplotlib":  # a dependency of matplotlib is missing
        raise
    raise ImportError("Plots need matplotlib: pip install 'vmonf[plots]'.") from error

from sklearn.utils.validation import check_is_fitted

from vmonf.plots.density import plot_density
from vmonf.plots.pairs import plot_pairs
from vmonf.plots.regions import plot_regions
from vmonf.plots.sizes import plot_sizes
from vmonf.plots.training import plot_training

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from vmonf.estimator import FlowMixture

__all__ = [
    "KINDS",
    "plot",
    "plot_density",
    "plot_pairs",
    "plot_regions",
    "plot_sizes",
    "plot_training",
]

#: What `plot` can draw.
KINDS = ("auto", "regions", "density", "training", "pairs", "sizes")


def plot(
    mixture: FlowMixture,
    X: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    kind: Literal["auto", "regions", "density", "training", "pairs", "sizes"] = "auto",
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
    kind : {"auto", "regions", "density", "training", "pairs", "sizes"}, default="auto"
        The figure: see `plot_regions`, `plot_density`, `plot_training`, `plot_pairs` and
        `plot_sizes`. "auto" is "density" for one feature, "regions" for two and "pairs" for
        more.
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
    chosen: str = kind
    if kind == "auto":
        chosen = {1: "density", 2: "regions"}.get(mixture.n_features_in_, "pairs")
    if chosen == "training":
        return plot_training(mixture)
    if chosen == "sizes":
        return plot_sizes(mixture, X, labels)
    if chosen == "density":
        return plot_density(mixture, X, random_state=random_state)
    draw: Any = plot_regions if chosen == "regions" else plot_pairs
    figure: Figure = draw(mixture, X, labels, random_state=random_state)
    return figure
