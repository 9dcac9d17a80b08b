"""The plane, cut into the posterior's regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np

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
    Look,
    draw_points,
    framed_panels,
    handles,
    house_style,
    legend_below,
    legend_beside,
    name_at,
    point_size,
    room_below,
    room_beside,
    set_ticks,
    shortened,
    tint,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from vmonf.estimator import FlowMixture

    Range = tuple[float, float]

#: Of a panel, in inches.
HEIGHT = 4.3
#: Cells of the regions' picture along each axis.
GRID = 250
#: How strong a region's tint is where the posterior is undecided, and where it is sure.
TINTS = (0.04, 0.34)


def plot_regions(
    mixture: FlowMixture,
    X: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Figure:
    """Draw two features: the rows, and samples over the posterior's regions.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted to two features.
    X : array-like or DataFrame of shape (n, 2), optional
        Rows for the left panel, which is left out unless they are given.
    labels : array-like of shape (n,), optional
        Colour the rows by these instead of by cluster; -1 marks an unlabelled row. A label
        has the colour of the component that shares most rows with it.
    random_state : int, RandomState or None, default=0
        Draws the samples, and 3,000 rows where X has more.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the mixture has not two features, or X or labels do not fit it.

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
    with house_style():
        return _draw(subject, given, sampled, ranges)


def draw_regions(axes: Axes, subject: Subject, ranges: tuple[Range, Range]) -> None:
    """Tint each cell of a panel by the component that the posterior chooses there."""
    probabilities = subject.mixture.predict_proba(grid(*ranges, GRID))
    chosen = probabilities.argmax(axis=1)
    confidence = np.ones(len(chosen))
    if subject.n_components > 1:
        undecided = 1.0 / subject.n_components
        confidence = (probabilities.max(axis=1) - undecided) / (1.0 - undecided)
    colours = np.array([tint(look.colour, 1.0) for look in subject.looks])[chosen]
    strength = TINTS[0] + (TINTS[1] - TINTS[0]) * confidence[:, None]
    picture = (1.0 - strength * (1.0 - colours)).reshape(GRID, GRID, 3)
    axes.imshow(picture, origin="lower", extent=(*ranges[0], *ranges[1]), aspect="auto", zorder=1)


@final
class _Legend:
    """Entries, their title, and whether they stand beside the panel or below it."""

    def __init__(self, looks: Sequence[Look], points: Points) -> None:
        self.entries = shortened(handles(looks, "point"))
        self.title = points.legend_title
        self.beside = False

    def room_below(self, width: float) -> float:
        return 0.0 if self.beside else room_below(self.entries, width, self.title)

    def room_beside(self) -> float:
        return room_beside(self.entries) if self.beside else 0.0

    def draw(self, axes: Axes, width: float) -> None:
        if self.beside:
            legend_beside(axes, self.entries, self.title)
        elif self.entries:
            legend_below(axes, self.entries, width, self.title)


def _draw(
    subject: Subject, given: Points | None, sampled: Points, ranges: tuple[Range, Range]
) -> Figure:
    size = panel_width(*ranges, HEIGHT), HEIGHT
    titles, legends = ["Model: samples over its regions"], [_Legend(subject.looks, sampled)]
    if given is not None:
        assert subject.X is not None
        left_out = outside(subject.X, *ranges)
        titles.insert(0, f"Data: {subject.shown(given)} by {given.grouping}{left_out}")
        # Clusters look as the components do in the other legend.
        shown = given.entries if given.grouping == "label" else []
        legends.insert(0, _Legend(shown, given))
    legends[-1].beside = len(legends[-1].entries) > LEGEND_BELOW
    figure, panels = framed_panels(
        _what_one_sees(subject.n_components) + mass_outside(sampled.X, *ranges),
        titles,
        size,
        below=max(legend.room_below(size[0]) for legend in legends),
        beside=max(legend.room_beside() for legend in legends),
    )
    for axes, legend in zip(panels, legends, strict=True):
        axes.set_xlim(ranges[0])
        axes.set_ylim(ranges[1])
        axes.set_xlabel(subject.axis_name(0))
        set_ticks(axes)
        legend.draw(axes, size[0])
    panels[0].set_ylabel(subject.axis_name(1))
    if given is not None:
        n_coloured = int((given.codes >= 0).sum())
        draw_points(panels[0], given.X, given.codes, given.looks, point_size(n_coloured))
        panels[1].tick_params(labelleft=False)
    draw_regions(panels[-1], subject, ranges)
    draw_points(panels[-1], sampled.X, sampled.codes, sampled.looks, point_size(len(sampled.X)))
    if subject.n_components > len(OKABE_ITO):
        _name_components(panels[-1], subject, sampled)
    return figure


def _name_components(axes: Axes, subject: Subject, sampled: Points) -> None:
    """Write each component's name at the densest of its samples."""
    log_component = subject.mixture.component_log_prob(sampled.X)
    for component in range(subject.n_components):
        own = np.flatnonzero(sampled.codes == component)
        if len(own):
            densest = own[log_component[own, component].argmax()]
            name_at(axes, sampled.X[densest], subject.short_name(component))


def _what_one_sees(n_components: int) -> str:
    if n_components == 1:
        return "A single flow: all of the plane is its region."
    return (
        f"Where each of {n_components} components claims new rows; the stronger the tint, the "
        "surer the posterior."
    )
