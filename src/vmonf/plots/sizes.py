"""Mixing weight of each component, and share of the rows assigned to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from vmonf.plots.rows import Subject, counted
from vmonf.plots.style import (
    FAINT,
    INK,
    UNLABELLED,
    figure_style,
    handles,
    label_looks,
    legend_beside,
    new_figure,
    set_title,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from vmonf.estimator import FlowMixture

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Most components in a figure.
MOST_COMPONENTS = 40


def plot_sizes(
    mixture: FlowMixture, X: ArrayLike | None = None, labels: ArrayLike | None = None
) -> Figure:
    """Draw the mixing weight of each component beside the share of rows assigned to it.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted.
    X : array-like or DataFrame of shape (n, D), optional
        Rows to assign by the posterior. Without them only the mixing weights are drawn.
    labels : array-like of shape (n,), optional
        Divide the rows of each component by these; -1 marks an unlabelled row. A label has
        the colour of the component it is matched with.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If X or labels do not fit the mixture.
    """
    subject = Subject(mixture, X, labels)
    with figure_style():
        return _draw(subject)


def _draw(subject: Subject) -> Figure:
    weights = subject.mixture.weights_
    sizes = weights
    clusters = None
    if subject.X is not None:
        clusters = subject.clusters(subject.X)
        shares = np.bincount(clusters, minlength=subject.n_components) / len(clusters)
        sizes = np.maximum(weights, shares)
    # The largest components, in the order of their index.
    chosen = np.sort(np.argsort(-sizes, kind="stable")[:MOST_COMPONENTS])
    looks = [subject.looks[component] for component in chosen]
    place = np.arange(len(chosen), dtype=float)

    longest = max(len(look.name) for look in looks)
    height = 0.34 if clusters is None else 0.5
    figure = new_figure(7.6 + 0.07 * longest, max(2.6, 1.5 + height * len(chosen)))
    axes = figure.subplots()
    entries: list[Artist] = [
        Patch(facecolor=(INK, 0.25), edgecolor=INK, label="mixing weight p(c)")
    ]
    thickness = 0.62 if clusters is None else 0.36
    above = place if clusters is None else place - 0.2
    axes.barh(
        above,
        weights[chosen],
        thickness,
        color=[(look.colour, 0.25) for look in looks],
        edgecolor=[look.colour for look in looks],
        linewidth=1.2,
    )
    _write_values(axes, above, weights[chosen])
    if clusters is not None:
        below = place + 0.2
        if subject.label_codes is None:
            axes.barh(below, shares[chosen], thickness, color=[look.colour for look in looks])
            entries.append(Patch(facecolor=INK, label="share of rows assigned by q"))
        else:
            entries += _stack_labels(axes, subject, clusters, chosen, below, thickness)
        _write_values(axes, below, shares[chosen])
        legend_beside(axes, entries)
    axes.set_yticks(place, [look.name for look in looks])
    axes.set_ylim(len(chosen) - 0.4, -0.6)  # The first component is at the top.
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.18 * float(sizes.max()))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share")
    set_title(figure, _title(subject, len(chosen)))
    return figure


def _title(subject: Subject, n_shown: int) -> str:
    which = "each component"
    if n_shown < subject.n_components:
        which = f"the {n_shown} largest of {subject.n_components} components"
    if subject.X is None:
        return f"Mixing weight of {which}, p(c)."
    whose = "its" if n_shown == subject.n_components else "their"
    by_label = "" if subject.label_codes is None else ", by label"
    rows = counted(len(subject.X), "row")
    return f"Mixing weight of {which} above {whose} share of the {rows}{by_label}."


def _write_values(axes: Axes, place: Array, values: Array) -> None:
    """Write each bar's value at its end."""
    for y, value in zip(place, values, strict=True):
        axes.annotate(
            f"{value:.1%}",
            (value, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=FAINT,
        )


def _stack_labels(
    axes: Axes,
    subject: Subject,
    clusters: IntArray,
    chosen: IntArray,
    place: Array,
    thickness: float,
) -> list[Artist]:
    """Draw bars of the assigned rows, one part for each label, and return their legend entries."""
    assert subject.label_codes is not None
    assert subject.label_classes is not None
    codes = subject.label_codes
    looks = label_looks(subject.label_classes, codes, clusters, subject.mixture.classes_)
    groups = list(enumerate(looks))
    if (codes < 0).any():
        groups.append((-1, UNLABELLED))
    left = np.zeros(len(chosen))
    for code, look in groups:
        ours = clusters[codes == code]
        share = np.bincount(ours, minlength=subject.n_components)[chosen] / len(clusters)
        axes.barh(place, share, thickness, left=left, color=look.colour)
        left += share
    return shortened(handles([look for _, look in groups], "patch"))
