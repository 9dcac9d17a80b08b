"""Two features: rows, samples, and the regions that the posterior assigns to components."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb

from vmonf.plots.rows import (
    N_SAMPLES,
    Points,
    Subject,
    grid,
    limits,
    mass_outside,
    outside,
    panel_width,
)
from vmonf.plots.style import (
    LEGEND_BELOW,
    OKABE_ITO,
    draw_points,
    figure_style,
    fit_panels,
    handles,
    legend_below,
    legend_beside,
    name_at,
    new_figure,
    point_size,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from vmonf.estimator import FlowMixture

    Range = tuple[float, float]

#: Height of a panel, in inches.
HEIGHT = 4.3
#: Cells along each axis, for the image of the regions.
GRID = 250
#: Strength of the tint where all components are equally probable, and where one is certain.
TINTS = (0.04, 0.34)


def plot_regions(
    mixture: FlowMixture,
    X: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Figure:
    """Draw two features: the rows, and samples over the regions of the posterior.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted to two features.
    X : array-like or DataFrame of shape (n, 2), optional
        Rows for the left panel. Without them there is no left panel.
    labels : array-like of shape (n,), optional
        Colour the rows by these instead of by cluster; -1 marks an unlabelled row. A label
        has the colour of the component it is matched with.
    random_state : int, RandomState or None, default=0
        Draws the samples, and the 3,000 rows that are shown if X has more.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the mixture does not have two features, or X or labels do not fit it.

    Notes
    -----
    The layout is that of figure 1 of Pires & Figueiredo, "Variational Mixture of Normalizing
    Flows" (ESANN 2020).
    """
    subject = Subject(mixture, X, labels, random_state)
    if subject.n_features != 2:
        raise ValueError(
            f"Regions can be drawn of 2 features, and this mixture has {subject.n_features}: "
            f"choose kind={'density' if subject.n_features == 1 else 'pairs'!r} instead."
        )
    given = None if subject.X is None else subject.given()
    sampled = subject.sampled(N_SAMPLES if given is None else len(given.X))
    shown = sampled.X if given is None else given.X
    ranges = limits(shown[:, 0]), limits(shown[:, 1])
    with figure_style():
        return _draw(subject, given, sampled, ranges)


def draw_regions(axes: Axes, subject: Subject, ranges: tuple[Range, Range]) -> None:
    """Tint each cell of a panel by its most probable component under the posterior."""
    probabilities = subject.mixture.predict_proba(grid(*ranges, GRID))
    chosen = probabilities.argmax(axis=1)
    confidence = np.ones(len(chosen))
    if subject.n_components > 1:
        undecided = 1.0 / subject.n_components
        confidence = (probabilities.max(axis=1) - undecided) / (1.0 - undecided)
    colours = np.array([to_rgb(look.colour) for look in subject.looks])[chosen]
    strength = TINTS[0] + (TINTS[1] - TINTS[0]) * confidence[:, None]
    picture = (1.0 - strength * (1.0 - colours)).reshape(GRID, GRID, 3)
    axes.imshow(picture, origin="lower", extent=(*ranges[0], *ranges[1]), aspect="auto", zorder=1)


def _draw(
    subject: Subject, given: Points | None, sampled: Points, ranges: tuple[Range, Range]
) -> Figure:
    width = panel_width(*ranges, HEIGHT)
    n_panels = 1 if given is None else 2
    figure = new_figure(n_panels * width + 3.0, HEIGHT + 3.0)
    panels = figure.subplots(1, n_panels, sharex=True, sharey=True, squeeze=False)[0]
    panels[0].set(xlim=ranges[0], ylim=ranges[1], ylabel=subject.axis_name(1))
    for axes in panels:
        axes.set_xlabel(subject.axis_name(0))
    if given is not None:
        _draw_data(panels[0], subject, given, ranges, width)
    model = panels[-1]
    model.set_title("Model: samples over its regions")
    draw_regions(model, subject, ranges)
    draw_points(model, sampled.X, sampled.codes, sampled.looks, point_size(len(sampled.X)))
    if subject.n_components > len(OKABE_ITO):
        _name_components(model, subject, sampled)
    entries = shortened(handles(sampled.looks, "point"))
    if len(entries) > LEGEND_BELOW:
        legend_beside(model, entries, sampled.legend_title)
    else:
        legend_below(model, entries, width, sampled.legend_title)
    title = _title(subject.n_components) + mass_outside(sampled.X, *ranges)
    fit_panels(figure, width, HEIGHT, title)
    return figure


def _draw_data(
    axes: Axes, subject: Subject, given: Points, ranges: tuple[Range, Range], width: float
) -> None:
    assert subject.X is not None
    title = f"Data: {subject.shown(given)} by {given.grouping}{outside(subject.X, *ranges)}"
    axes.set_title("\n".join(textwrap.wrap(title, int(12 * width))))
    n_coloured = int((given.codes >= 0).sum())
    draw_points(axes, given.X, given.codes, given.looks, point_size(n_coloured))
    if given.grouping == "label":  # The other legend shows the clusters, as components.
        entries = shortened(handles(given.entries, "point"))
        legend_below(axes, entries, width, given.legend_title)


def _name_components(axes: Axes, subject: Subject, sampled: Points) -> None:
    """Write the name of each component at the sample where its density is highest."""
    log_component = subject.mixture.component_log_prob(sampled.X)
    for component in range(subject.n_components):
        own = np.flatnonzero(sampled.codes == component)
        if len(own):
            densest = own[log_component[own, component].argmax()]
            name_at(axes, sampled.X[densest], subject.short_name(component))


def _title(n_components: int) -> str:
    if n_components == 1:
        return "Samples of a single flow, whose region is the whole plane."
    return (
        f"Regions that the posterior assigns to each of {n_components} components. "
        "A stronger tint is a higher probability."
    )
