"""The history of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.utils.validation import check_is_fitted

from vmonf.plots.style import (
    FAINT,
    INK,
    LEGEND_BELOW,
    OKABE_ITO,
    component_looks,
    figure_style,
    handles,
    legend_beside,
    new_figure,
    set_title,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from vmonf.estimator import FlowMixture

    Array = NDArray[np.float64]

#: Fewer epochs than this have markers.
FEW_EPOCHS = 25


def plot_training(mixture: FlowMixture) -> Figure:
    """Draw the history of a fit: likelihood, use of the components, and schedules.

    Parameters
    ----------
    mixture : FlowMixture
        Fitted.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for log-likelihood and ELBO, one for the use of each component, and one each
        for temperature and learning rate if they changed. If nothing was trained, a single
        panel with an explanation.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the mixture is not fitted.
    """
    check_is_fitted(mixture)
    with figure_style():
        return _draw(mixture) if mixture.history_["epoch"] else _draw_nothing(mixture)


def _draw_nothing(mixture: FlowMixture) -> Figure:
    figure = new_figure(7.0, 1.6)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(
        0.0,
        0.6,
        "There is no history. A mixture is not trained with max_epochs=0, or if there are\n"
        "too few rows to hold some out.",
        transform=axes.transAxes,
        va="center",
        color=INK,
    )
    set_title(figure, str(mixture.verdict_))
    return figure


def _draw(mixture: FlowMixture) -> Figure:
    history = mixture.history_
    scheduled = [
        (name, title)
        for name, title in (
            ("temperature", "Temperature of the posterior"),
            ("learning_rate", "Learning rate"),
        )
        if len(set(history[name])) > 1
    ]
    figure = new_figure(
        8.6 + 1.4 * (len(mixture.classes_) > LEGEND_BELOW), 5.6 + 1.3 * len(scheduled)
    )
    panels = figure.subplots(
        2 + len(scheduled),
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[2.6, 1.7, *[1.0] * len(scheduled)],
    )[:, 0]
    _draw_likelihood(panels[0], mixture)
    _draw_use(panels[1], mixture)
    for axes, (name, title) in zip(panels[2:], scheduled, strict=True):
        axes.plot(history["epoch"], history[name], color=INK, linewidth=1.6)
        axes.set_ylim(0, 1.08 * max(history[name]))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.set_title(title)
    first, last = history["epoch"][0], history["epoch"][-1]
    for axes in panels:
        if mixture.best_epoch_ > 0:
            axes.axvline(mixture.best_epoch_, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        # Room for the markers of the first and the last epoch.
        margin = 0.5 if last == first else 0.015 * (last - first) * (last - first < FEW_EPOCHS)
        axes.set_xlim(first - margin, last + margin)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    set_title(figure, str(mixture.verdict_))
    return figure


def _draw_likelihood(axes: Axes, mixture: FlowMixture) -> None:
    history = mixture.history_
    epoch = np.array(history["epoch"])
    log_likelihood, elbo = np.array(history["log_likelihood"]), np.array(history["elbo"])
    objective = np.array(history["training_objective"])
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(epoch) < FEW_EPOCHS else {}
    axes.plot(epoch, objective, color=FAINT, linewidth=1.2, linestyle=":", zorder=1, **marker)
    axes.fill_between(epoch, elbo, log_likelihood, color=OKABE_ITO[4], alpha=0.35, linewidth=0)
    axes.plot(epoch, elbo, color=OKABE_ITO[5], linewidth=1.5, **marker)
    axes.plot(epoch, log_likelihood, color=OKABE_ITO[0], linewidth=2, **marker)
    entries = [
        Line2D([], [], color=OKABE_ITO[0], linewidth=2, label="log-likelihood"),
        Patch(color=OKABE_ITO[4], alpha=0.35, label="gap"),
        Line2D([], [], color=OKABE_ITO[5], linewidth=1.5, label="ELBO"),
        Line2D([], [], color=FAINT, linestyle=":", label="training objective"),
    ]
    if mixture.best_epoch_ > 0:
        entries.append(
            Line2D(
                [],
                [],
                color=INK,
                linewidth=1,
                linestyle=(0, (4, 3)),
                label=f"epoch {mixture.best_epoch_}, kept",
            )
        )
    axes.set_ylim(_likelihood_limits(log_likelihood, np.concatenate([elbo, objective])))
    axes.set_ylabel("nats per row")
    axes.set_title(f"Log-likelihood and ELBO of the {_scored(mixture)} rows")
    legend_beside(axes, entries)


def _likelihood_limits(log_likelihood: Array, others: Array) -> tuple[float, float]:
    """Limits that show the log-likelihood, and the other curves only near it.

    The first epochs may be far below all later ones, and the ELBO may fall by thousands of
    nats where flows overfit. Limits that include both would flatten the log-likelihood.
    """
    high = float(log_likelihood.max())
    usual = float(np.quantile(log_likelihood, 0.04))
    low = max(float(log_likelihood.min()), usual - 0.25 * (high - usual))
    reach = 0.75 * (high - low) or 1.0
    low = min(low, max(float(others.min()), low - reach))
    high = max(high, min(float(others.max()), high + reach))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_use(axes: Axes, mixture: FlowMixture) -> None:
    epoch = np.array(mixture.history_["epoch"])
    use = np.array(mixture.history_["component_use"])
    looks = component_looks(mixture.classes_)
    if len(epoch) == 1:  # A single epoch is drawn with a width of one.
        epoch, use = np.array([epoch[0] - 0.5, epoch[0] + 0.5]), np.repeat(use, 2, axis=0)
    axes.stackplot(
        epoch, use.T, colors=[look.colour for look in looks], edgecolor="white", linewidth=0.6
    )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("mean of q")
    axes.set_title("Use of each component by the posterior")
    # In the order of the stack: the first component is at the bottom.
    entries = shortened(handles(looks, "patch"))[::-1]
    legend_beside(axes, entries, n_columns=1 if len(entries) <= LEGEND_BELOW else 2)


def _scored(mixture: FlowMixture) -> str:
    """Which rows the history scores."""
    return "training" if mixture.verdict_.reason == "not judged" else "held-out"
