"""The density of a mixture of one or two features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter

from vmonf.plots.rows import (
    N_SAMPLES,
    Subject,
    counted,
    grid,
    limits,
    mass_outside,
    outside,
    panel_width,
)
from vmonf.plots.style import (
    INK,
    OKABE_ITO,
    figure_style,
    fit_panels,
    handles,
    legend_beside,
    name_at,
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

#: Shares of the mixture that the contours enclose, outermost first.
MASSES = (0.99, 0.90, 0.75, 0.50, 0.25, 0.10)
#: Share of a component that its outline encloses.
OUTLINE_MASS = 0.90
#: Height of the panel of contours, in inches.
HEIGHT = 4.8
PALE = "#DDDDDD"
#: Cells of the grid along each axis, and points of a curve.
GRID = 200
CURVE = 800
SAMPLES_A_COMPONENT = 500


def plot_density(
    mixture: FlowMixture,
    X: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Figure:
    """Draw the density of one feature as a curve, of two as contours.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted to one or two features.
    X : array-like or DataFrame of shape (n, D), optional
        Rows to compare the density with: a histogram of one feature, points of two.
    random_state : int, RandomState or None, default=0
        Draws the samples that set the levels of the contours, and the 3,000 rows that are
        shown if X has more.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the mixture has more than two features, or X does not fit it.

    Notes
    -----
    A contour encloses the smallest region that contains a given share of the mixture, from
    10 % to 99 %. An outline encloses the smallest region that contains 90 % of its component.
    """
    subject = Subject(mixture, X, None, random_state)
    if subject.n_features > 2:
        raise ValueError(
            f"A density can be drawn of 1 or 2 features, and this mixture has "
            f"{subject.n_features}: choose kind='pairs' instead."
        )
    with figure_style():
        return _draw_curve(subject) if subject.n_features == 1 else _draw_contours(subject)


def _log_density(subject: Subject, log_component: Array) -> tuple[Array, Array]:
    """Log-densities of the weighted components, (n, K), and of the mixture, (n,)."""
    joint = log_component + np.log(subject.mixture.weights_)
    return joint, np.logaddexp.reduce(joint, axis=1)


# ---------------------------------------------------------------- one feature


def _draw_curve(subject: Subject) -> Figure:
    sampled = subject.sampled(N_SAMPLES).X[:, 0]
    rows = None if subject.X is None else subject.X[:, 0]
    x_range = limits(sampled if rows is None else rows)
    # The samples are added to the grid, which could miss a narrow peak between two points.
    within = sampled[(sampled > x_range[0]) & (sampled < x_range[1])]
    x = np.unique(np.concatenate([np.linspace(*x_range, CURVE), within]))
    joint, log_density = _log_density(subject, subject.mixture.component_log_prob(x[:, None]))
    figure = new_figure(9.2, 4.8)
    axes = figure.subplots()
    entries: list[Artist] = [Line2D([], [], color=INK, linewidth=2, label="mixture")]
    tallest = 0.0
    if rows is not None:
        edges = np.linspace(*x_range, int(np.clip(2.0 * np.sqrt(len(rows)), 12, 60)) + 1)
        # Divided by the number of all rows, so that the heights are comparable to the density.
        heights = np.histogram(rows, edges)[0] / (len(rows) * np.diff(edges))
        tallest = float(heights.max())
        axes.stairs(heights, edges, fill=True, color=PALE, zorder=1)
        left_out = outside(rows[:, None], x_range).replace(", ", ",\n", 1)
        entries.insert(0, Patch(color=PALE, label=counted(len(rows), "row") + left_out))
    for look, curve in zip(subject.looks, np.exp(joint).T, strict=True):
        axes.fill_between(x, curve, color=look.colour, alpha=0.22, linewidth=0, zorder=2)
        axes.plot(x, curve, color=look.colour, linewidth=1.6, zorder=4)
    # Below the components, so that these stay visible where they equal the mixture.
    axes.plot(x, np.exp(log_density), color=INK, linewidth=3.4, zorder=3)
    axes.set_xlim(x_range)
    # A narrow peak of little mass must not set the scale.
    _, at_samples = _log_density(subject, subject.mixture.component_log_prob(sampled[:, None]))
    usual = 4.0 * float(np.exp(np.quantile(at_samples, 0.9)))
    axes.set_ylim(0, 1.05 * max(min(float(np.exp(log_density.max())), usual), tallest))
    axes.set_xlabel(subject.axis_name(0))
    axes.set_ylabel(f"density, per unit of {subject.axis_name(0)}")
    legend_beside(axes, [*entries, *shortened(handles(subject.looks, "line"))])
    outside_mass = mass_outside(sampled[:, None], x_range)
    set_title(figure, _curve_title(subject.n_components, rows is not None) + outside_mass)
    return figure


def _curve_title(n_components: int, with_rows: bool) -> str:
    beside = ", over a histogram of the rows" if with_rows else ""
    if n_components == 1:
        return f"Density of a single flow{beside}."
    return f"Density of the mixture and of its {n_components} weighted components{beside}."


# ---------------------------------------------------------------- two features


def _draw_contours(subject: Subject) -> Figure:
    sampled = subject.sampled(2 * N_SAMPLES).X
    given = None if subject.X is None else subject.given()
    shown = sampled if given is None else given.X
    ranges = limits(shown[:, 0]), limits(shown[:, 1])
    log_component = subject.mixture.component_log_prob(grid(*ranges, GRID))
    _, log_density = _log_density(subject, log_component)
    _, at_samples = _log_density(subject, subject.mixture.component_log_prob(sampled))

    entries = shortened(handles(subject.looks, "line"))
    if given is not None:
        assert subject.X is not None
        left_out = outside(subject.X, *ranges).replace(", ", ",\n", 1)
        dot: dict[str, Any] = {"marker": "o", "markersize": 3, "color": INK, "linestyle": "none"}
        entries.insert(0, Line2D([], [], label=subject.shown(given) + left_out, **dot))
    width = panel_width(*ranges, HEIGHT)
    figure = new_figure(width + 5.0, HEIGHT + 3.0)
    axes = figure.subplots()
    axes.set(xlim=ranges[0], ylim=ranges[1])
    axes.set(xlabel=subject.axis_name(0), ylabel=subject.axis_name(1))
    legend_beside(axes, entries)
    _fill_regions(axes, log_density, at_samples, ranges)
    if given is not None:
        axes.scatter(given.X[:, 0], given.X[:, 1], s=2.5, c=INK, alpha=0.4, linewidths=0, zorder=2)
    for component, look in enumerate(subject.looks):
        own = subject.sampled_from(component, SAMPLES_A_COMPONENT)
        at_own = subject.mixture.component_log_prob(own)[:, component]
        level = float(np.quantile(at_own, 1.0 - OUTLINE_MASS))
        _outline(axes, log_component[:, component], level, ranges, look.colour)
        if subject.n_components > len(OKABE_ITO):
            name_at(axes, own[at_own.argmax()], subject.short_name(component))
    outlines = "The outline" if subject.n_components == 1 else "Each outline"
    title = f"Density. {outlines} encloses {OUTLINE_MASS:.0%} of its component."
    fit_panels(figure, width, HEIGHT, title + mass_outside(sampled, *ranges))
    return figure


def _cells(values: Array, ranges: tuple[tuple[float, float], tuple[float, float]]) -> list[Array]:
    """Arguments of a contour plot: x, y and the values on the grid."""
    x, y = grid(*ranges, GRID).T.reshape(2, GRID, GRID)
    return [x, y, values.reshape(GRID, GRID)]


def _fill_regions(
    axes: Axes,
    log_density: Array,
    at_samples: Array,
    ranges: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    levels = np.quantile(at_samples, 1.0 - np.array(MASSES))
    # Contours need increasing levels, also where the density is constant.
    step = 1e-9 * max(1.0, float(np.abs(levels).max()))
    levels = np.maximum.accumulate(levels) + step * np.arange(len(levels))
    top = max(float(log_density.max()), float(at_samples.max()), levels[-1]) + step
    greys = [str(grey) for grey in np.linspace(0.93, 0.5, len(MASSES))]
    # Contours need finite values, and far from all rows the logarithm may not be finite.
    floor = levels[0] - 50.0
    axes.contourf(
        *_cells(log_density.clip(min=floor), ranges),
        levels=[*levels, top],
        colors=greys,
        zorder=1,
    )
    # One colour for each share, evenly spaced, instead of a scale of logarithms.
    bar = axes.figure.colorbar(
        ScalarMappable(
            BoundaryNorm(np.arange(len(MASSES) + 1), len(MASSES)), ListedColormap(greys)
        ),
        ax=axes,
        location="bottom",
        aspect=40,
        ticks=np.arange(len(MASSES)),
        format=FixedFormatter([f"{mass:.0%}" for mass in MASSES]),
        label="share of the mixture in the region of at least this density",
    )
    bar.outline.set_visible(False)


def _outline(
    axes: Axes,
    log_prob: Array,
    level: float,
    ranges: tuple[tuple[float, float], tuple[float, float]],
    colour: str,
) -> None:
    # A component narrower than a cell of the grid, or outside the grid, has no outline.
    if log_prob.min() < level < log_prob.max():
        axes.contour(
            *_cells(log_prob.clip(min=level - 50.0), ranges),
            levels=[level],
            colors=[colour],
            linewidths=1.8,
            linestyles="solid",
            zorder=3,
        )
