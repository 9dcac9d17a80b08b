"""How the number of components was chosen: agreement and score of each K."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vmonf.plots.style import (
    FAINT,
    INK,
    OKABE_ITO,
    figure_style,
    legend_beside,
    new_figure,
    set_title,
)
from vmonf.start.number import LEAST_AGREEMENT_OF_SEVERAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vmonf.estimator import FlowMixture
    from vmonf.start import Number

#: Lower scores are cut off: they can be far below zero, and say no more.
LOWEST = -2.0
_AGREEMENT, _SCORE = OKABE_ITO[0], OKABE_ITO[1]


def plot_number(mixture: FlowMixture) -> Figure:
    """Draw the agreement of the starts against K, and the score from which K was chosen.

    Above is the agreement at each K. Below is the score: the information that the clusters of the
    starts share, less a penalty for what they do not share, and on top of it half the separation of
    K peaks of the density. Very low scores are cut off. The K that was chosen is marked in both. If
    the best has an agreement below the dashed line, and no valley of the density is deep, K is 1.
    There is no such line for a search in the metric within clusters.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted with ``n_components="auto"``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the fit did not search for the number of components.
    """
    number = mixture.number_
    if not number.candidates:
        raise ValueError(
            "This fit did not search for the number of components, so that there is no agreement "
            "to draw: fit with n_components='auto'."
        )
    with figure_style():
        return _draw(number)


def _draw(number: Number) -> Figure:
    figure = new_figure(8.6, 5.6)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_agreement(above, number)
    _draw_score(below, number)
    for axes in (above, below):
        if number.chosen > 1:
            axes.axvspan(number.chosen - 0.45, number.chosen + 0.45, color=FAINT, alpha=0.22, lw=0)
    below.set_xlabel("number of components, K")
    below.set_xlim(min(1.4, number.candidates[0] - 0.6), number.candidates[-1] + 0.6)
    below.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14))
    set_title(figure, str(number))
    return figure


def _draw_agreement(axes: Axes, number: Number) -> None:
    k, agreement = np.array(number.candidates), np.array(number.agreement)
    axes.plot(k, agreement, color=_AGREEMENT, marker="o", markersize=4.5, linewidth=1.3, zorder=3)
    axes.set_ylabel("adjusted Rand index")
    axes.set_title("Agreement of the starts")
    entries = [Line2D([], [], color=_AGREEMENT, marker="o", markersize=4.5, label="mean agreement")]
    if number.metric == "columns":
        axes.axhline(LEAST_AGREEMENT_OF_SEVERAL, color=INK, linewidth=1.1, linestyle="--", zorder=1)
        below = "below it K may be 1"
        entries.append(Line2D([], [], color=INK, linewidth=1.1, linestyle="--", label=below))
    if number.chosen > 1:
        entries.append(Line2D([], [], color=FAINT, alpha=0.35, linewidth=8, label="K as chosen"))
    legend_beside(axes, entries)


def _draw_score(axes: Axes, number: Number) -> None:
    k, score = np.array(number.candidates), np.array(number.score)
    axes.plot(k, score, color=_SCORE, marker="o", markersize=4.5, linewidth=1.3, zorder=3)
    axes.vlines(k, number.information, score, color=INK, linewidth=2.2, zorder=2)
    axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
    lowest = max(min(number.information) - 0.3, min(LOWEST, score.max() - 1.0))
    axes.set_ylim(lowest, max(score.max(), 0) + 0.3)
    axes.set_ylabel("nats")
    axes.set_title("Score of each K: shared information, less penalty, and separation of peaks")
    legend_beside(
        axes,
        [
            Line2D([], [], color=_SCORE, marker="o", markersize=4.5, label="score"),
            Line2D([], [], color=INK, linewidth=2.2, label="of it, half the\nseparation of peaks"),
        ],
    )
