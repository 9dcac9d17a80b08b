"""Scatter plots of pairs of features, and histograms of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from vmonf.plots.rows import N_SAMPLES, Points, Subject, limits, outside
from vmonf.plots.style import (
    LEGEND,
    LEGEND_BELOW,
    UNLABELLED,
    columns_within,
    draw_points,
    figure_style,
    handles,
    new_figure,
    point_size,
    set_title,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from vmonf.estimator import FlowMixture

    Array = NDArray[np.float64]

#: With more features than this, principal components are considered instead.
MOST_FEATURES = 8


def plot_pairs(
    mixture: FlowMixture,
    X: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    n_features: int = 4,
    of: Literal["auto", "features", "components"] = "auto",
    random_state: int | np.random.RandomState | None = 0,
) -> Figure:
    """Draw each pair of a few features, and the histogram of each by cluster.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted to two features or more.
    X : array-like or DataFrame of shape (n, D), optional
        Rows to draw, coloured by cluster. Without them, samples coloured by component.
    labels : array-like of shape (n,), optional
        Colour the rows by these instead; -1 marks an unlabelled row. A label has the colour
        of the component it is matched with.
    n_features : int, default=4
        The largest number of features to draw, at least two.
    of : {"auto", "features", "components"}, default="auto"
        "features" are those that separate the clusters best, by the share of their variance
        between clusters; "components" are the first principal components of the standardised
        features. "auto" is "components" if there are more than eight features and the
        components explain much more of the variance than as many features would.
    random_state : int, RandomState or None, default=0
        Draws the samples, or the 3,000 rows that are shown if X has more.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the mixture has a single feature, n_features or `of` is not allowed, or X or labels
        do not fit the mixture.
    """
    if of not in ("auto", "features", "components"):
        raise ValueError(f"of={of!r} is not known: choose 'auto', 'features' or 'components'.")
    if n_features < 2:
        raise ValueError(f"n_features={n_features} must be at least 2: pairs need two.")
    subject = Subject(mixture, X, labels, random_state)
    if subject.n_features < 2:
        raise ValueError(
            "Pairs need at least 2 features, and this mixture has 1: choose kind='density' instead."
        )
    points = subject.sampled(N_SAMPLES) if subject.X is None else subject.given()
    n_shown = min(n_features, subject.n_features)
    columns = _leading_features(subject, points, n_shown)
    many = subject.n_features > MOST_FEATURES
    # A single row has no principal components.
    if len(points.X) > 1 and (of == "components" or (of == "auto" and many)):
        components, share = _principal_components(points.X, n_shown)
        # Components of uncorrelated features explain little more than the features.
        if of == "components" or share > 1.5 * n_shown / subject.n_features:
            columns = components
    with figure_style():
        return _draw(subject, points, columns)


@final
@dataclass(frozen=True)
class _Columns:
    """The values to draw, of shape (m, P), the name of each column, and their description."""

    values: Array
    names: list[str]
    what: str


def _leading_features(subject: Subject, points: Points, n_shown: int) -> _Columns:
    clusters = points.codes if points.grouping != "label" else subject.clusters(points.X)
    share = between_share(subject.unwrapped(points.X), clusters)
    chosen = np.argsort(-share, kind="stable")[:n_shown]
    what = f"the {n_shown} of {subject.n_features} features that separate the clusters best"
    if n_shown == subject.n_features:
        what = f"all {n_shown} features, in the order of how well they separate the clusters"
    return _Columns(points.X[:, chosen], [subject.axis_name(int(i)) for i in chosen], what)


def between_share(X: Array, clusters: NDArray[np.int64]) -> Array:
    """Share of each feature's variance that lies between clusters: (D,), from 0 to 1.

    Parameters
    ----------
    X : array of shape (m, D)
    clusters : int array of shape (m,)
    """
    # Divided by the range, so that no square underflows or overflows.
    spread = np.ptp(X, axis=0)
    unit = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    between = np.zeros(X.shape[1])
    for cluster in np.unique(clusters):
        ours = unit[clusters == cluster]
        between += len(ours) * np.square(ours.mean(axis=0))
    total = np.square(unit).sum(axis=0)
    return np.asarray(between / np.where(total > 0, total, 1.0))


def _principal_components(X: Array, n_shown: int) -> tuple[_Columns, float]:
    """Principal components of the standardised features, and their share of the variance."""
    spread = np.ptp(X, axis=0)
    unit = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    deviation = unit.std(axis=0)
    unit = unit / np.where(deviation > 0, deviation, 1.0)
    _, lengths, directions = np.linalg.svd(unit, full_matrices=False)
    n_shown = min(n_shown, len(directions))
    directions = directions[:n_shown]
    # The sign of a component is arbitrary: its largest coefficient is made positive.
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(n_shown), largest])[:, None]
    share = np.square(lengths) / max(float(np.square(lengths).sum()), np.finfo(float).tiny)
    names = [f"principal component {i + 1}\n{share[i]:.0%} of variance" for i in range(n_shown)]
    what = f"the first {n_shown} principal components of {X.shape[1]} standardised features"
    return _Columns(unit @ directions.T, names, what), float(share[:n_shown].sum())


def _draw(subject: Subject, points: Points, columns: _Columns) -> Figure:
    size = columns.values.shape[1]
    # The empty corner is as high as eight entries of a legend.
    entries = handles(points.entries, "point")
    entries = shortened(entries, 8 * columns_within(2.2 * (size - 1), entries))
    figure = new_figure(2.2 * size + 1.6, 2.0 * size + 0.9)
    panels = figure.subplots(size, size, sharex="col", squeeze=False)
    ranges = [limits(column) for column in columns.values.T]
    for row in range(size):
        for column in range(size):
            axes = panels[row, column]
            if column > row:
                axes.set_axis_off()
            elif column == row:
                _draw_histograms(axes, columns.values[:, row], points, ranges[row])
            else:
                pair = columns.values[:, [column, row]]
                draw_points(axes, pair, points.codes, points.looks, 0.6 * point_size(len(pair)))
                axes.set_ylim(ranges[row])
            axes.set_xlim(ranges[column])
            if column == row:
                axes.set_yticks([])
            elif column > 0:
                axes.tick_params(labelleft=False)
            if row == size - 1:
                axes.set_xlabel(columns.names[column], fontsize=_fitting(columns.names[column]))
            if column == 0 and row > 0:
                axes.set_ylabel(columns.names[row], fontsize=_fitting(columns.names[row]))
    panels[0, 0].set_ylabel(f"{'samples' if subject.X is None else 'rows'}")
    legend = panels[0, 1].legend(
        handles=entries,
        title=points.legend_title,
        ncols=math.ceil(len(entries) / 8),
        **LEGEND,
    )
    legend.set_in_layout(size == 2)  # In a larger corner the legend has room.
    set_title(
        figure,
        f"{subject.shown(points)}{outside(columns.values, *ranges)}, coloured by "
        f"{points.grouping}: {columns.what}.",
    )
    return figure


def _fitting(name: str) -> float:
    """Font size at which a name is not longer than its panel."""
    longest = max(len(line) for line in name.split("\n"))
    return min(10.0, 10.0 * 24 / longest)


def _draw_histograms(
    axes: Axes, values: Array, points: Points, x_range: tuple[float, float]
) -> None:
    """One histogram for each group, of numbers of rows, so that large groups look large."""
    groups = [(-1, UNLABELLED), *enumerate(points.looks)]
    n_bins = int(np.clip(1.2 * np.sqrt(len(values)), 12, 30))
    edges = np.linspace(*x_range, n_bins + 1)
    # Many overlapping fills cannot be told apart, so that they are made nearly transparent.
    fill = 0.3 if len(points.looks) <= LEGEND_BELOW else 0.08
    for code, look in groups:
        heights = np.histogram(values[points.codes == code], edges)[0]
        if heights.any():
            axes.stairs(heights, edges, fill=True, color=look.colour, alpha=fill, zorder=2)
            axes.stairs(heights, edges, color=look.colour, linewidth=1.3, zorder=3)
    axes.set_ylim(bottom=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_zorder(4)
