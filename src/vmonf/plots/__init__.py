"""Figures of a fitted mixture: what it found, how it was trained, how large its components are.

Every function returns a `matplotlib.figure.Figure`; nothing is shown, and matplotlib's global
state is left alone. Save a figure with ``figure.savefig("name.png")``; a notebook shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

try:
    import matplotlib  # noqa: F401 - only to say in one sentence what is missing
except ModuleNotFoundError as error:
    if error.name != "matplotlib":  # matplotlib is there, and lacks something of its own
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
        Rows to show; samples from the mixture stand in for them unless given.
    labels : array-like of shape (n,), optional
        What is known of the rows: whole numbers or strings; -1 marks an unlabelled row.
        Shown by "regions", "pairs" and "sizes".
    kind : {"auto", "regions", "density", "training", "pairs", "sizes"}, default="auto"
        Which figure: see `plot_regions`, `plot_density`, `plot_training`, `plot_pairs` and
        `plot_sizes`. "auto" is the density of one feature, the regions of two, and the pairs
        of more.
    random_state : int, RandomState or None, default=0
        Draws the samples, and the rows that are shown where X has too many.

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
