"""The data of a figure: rows, labels, samples, names and limits of axes."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from vmonf.arrays import checked_rows
from vmonf.labels import encode_labels
from vmonf.plots.style import UNLABELLED, Look, component_looks, cut_text, label_looks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from vmonf.estimator import FlowMixture

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Most points in a panel.
MOST_POINTS = 3000
#: Number of samples where no rows are given.
N_SAMPLES = 2000


@final
@dataclass(frozen=True)
class Points:
    """Rows to draw, and the group of each.

    Attributes
    ----------
    X : array of shape (m, D)
    codes : int array of shape (m,)
        The group of each row, -1 where it has none.
    looks : list of Look
        One for each group.
    grouping : str
        What the groups are: "cluster", "label" or "component".
    """

    X: Array
    codes: IntArray
    looks: list[Look]
    grouping: str

    @property
    def legend_title(self) -> str | None:
        """The kind of the groups, or None if their names contain it, as in "component 3"."""
        kind = "label" if self.grouping == "label" else "component"
        if all(look.name.startswith(f"{kind} ") for look in self.looks):
            return None
        return self.grouping

    @property
    def entries(self) -> list[Look]:
        """The looks in a legend: of each group, and of rows without a group if there are any."""
        return [*self.looks, UNLABELLED] if (self.codes < 0).any() else self.looks


@final
class Subject:
    """A fitted mixture, and the rows and labels to draw with it, validated.

    Parameters
    ----------
    mixture : FlowMixture
    X : array-like or DataFrame of shape (n, D), optional
        Rows with missing values are left out, with a warning.
    labels : array-like of shape (n,), optional
    random_state : int, RandomState or None

    Attributes
    ----------
    mixture : FlowMixture
        A copy without names of features, so that arrays need no column names.
    X : array of shape (n, D) or None
    label_classes, label_codes : array of shape (L,), int array of shape (n,); or None
    looks : list of Look
        One for each component.

    Raises
    ------
    ValueError
        If X or labels do not fit the mixture or each other, or no row is whole.
    sklearn.exceptions.NotFittedError
        If the mixture is not fitted.
    """

    def __init__(
        self,
        mixture: FlowMixture,
        X: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        check_is_fitted(mixture)
        self.X: Array | None = None
        self.label_classes: NDArray[Any] | None = None
        self.label_codes: IntArray | None = None
        if X is not None:
            with_gaps = mixture.model_.conditionals is not None
            self.X = checked_rows(mixture, X, reset=False, with_gaps=with_gaps)
        if labels is not None:
            if self.X is None:
                raise ValueError("labels need the rows they belong to: give X as well.")
            values = np.asarray(labels)
            if values.shape != (len(self.X),):
                raise ValueError(
                    f"labels has shape {values.shape} and X has {len(self.X)} rows: give one "
                    "label a row."
                )
            names, self.label_codes = encode_labels(values, len(values))
            self.label_classes = names[: int(self.label_codes.max()) + 1]
        if self.X is not None:
            whole = np.flatnonzero(~np.isnan(self.X).any(axis=1))
            self.X = self._without_gaps(self.X, whole)
            self.label_codes = None if self.label_codes is None else self.label_codes[whole]
        self.looks = component_looks(mixture.classes_)
        # Grids and samples have no column names, and the mixture would warn about that.
        self.mixture = copy.copy(mixture)
        names_in = self.mixture.__dict__.pop("feature_names_in_", None)
        self._feature_names = None if names_in is None else [str(name) for name in names_in]
        self._random = check_random_state(random_state)

    @staticmethod
    def _without_gaps(X: Array, whole: IntArray) -> Array:
        """The rows that can be drawn, with a warning of how many cannot."""
        n_left_out = len(X) - len(whole)
        if not len(whole):
            raise ValueError("Every row has missing values, and whole rows are drawn: leave out X.")
        if n_left_out:
            warnings.warn(
                f"{n_left_out} of {len(X)} rows have missing values and are not drawn.",
                stacklevel=4,
            )
        return X[whole]

    @property
    def n_features(self) -> int:
        """The number of features, D."""
        return int(self.mixture.n_features_in_)

    @property
    def n_components(self) -> int:
        """The number of components, K."""
        return len(self.looks)

    def unwrapped(self, X: Array) -> Array:
        """Rows whose periodic features begin where they are rarest: (m, D), as X.

        A cluster at the end of a period is then in one piece.
        """
        domain = self.mixture.model_.standardizer.domain
        if domain is None:
            return X
        with torch.no_grad():
            on_line: Array = domain(torch.from_numpy(X).to(domain.period)).cpu().numpy()
        return np.where(domain.is_periodic.cpu().numpy(), on_line, X)

    def axis_name(self, feature: int) -> str:
        """The name of a feature."""
        if self._feature_names is None:
            return f"column {feature}"
        return cut_text(self._feature_names[feature])

    def given(self) -> Points:
        """At most `MOST_POINTS` of the given rows, grouped by label or by cluster."""
        assert self.X is not None
        n_rows = len(self.X)
        chosen = np.arange(n_rows)
        if n_rows > MOST_POINTS:
            chosen = np.sort(self._random.choice(n_rows, MOST_POINTS, replace=False))
        X = self.X[chosen]
        clusters = self.clusters(X)
        if self.label_codes is None or self.label_classes is None:
            return Points(X, clusters, self.looks, "cluster")
        every = clusters if n_rows == len(chosen) else self.clusters(self.X)
        looks = label_looks(self.label_classes, self.label_codes, every, self.mixture.classes_)
        return Points(X, self.label_codes[chosen], looks, "label")

    def sampled(self, n_samples: int) -> Points:
        """Samples from the mixture, grouped by component."""
        X, drawn = self.mixture.sample(n_samples, random_state=self._random)
        return Points(X, self._index(drawn), self.looks, "component")

    def shown(self, points: Points) -> str:
        """Return the number of rows in a figure, as "3,000 of 5,000 rows" or "150 rows"."""
        if self.X is None:
            return counted(len(points.X), "sample")
        if len(points.X) < len(self.X):
            return f"{len(points.X):,} of {counted(len(self.X), 'row')}"
        return counted(len(self.X), "row")

    def short_name(self, component: int) -> str:
        """The name of a component inside a panel."""
        return cut_text(str(self.mixture.classes_[component]), 14)

    def sampled_from(self, component: int, n_samples: int) -> Array:
        """Samples from one component: (n_samples, D)."""
        name = self.mixture.classes_[component]
        return self.mixture.sample(n_samples, name, random_state=self._random)[0]

    def clusters(self, X: Array) -> IntArray:
        """Index of the most probable component of each row under the posterior."""
        clusters: IntArray = self.mixture.predict_proba(X).argmax(axis=1)
        return clusters

    def _index(self, names: NDArray[Any]) -> IntArray:
        order = np.argsort(self.mixture.classes_)
        found: IntArray = order[np.searchsorted(self.mixture.classes_[order], names)]
        return found


def limits(values: Array) -> tuple[float, float]:
    """Limits of an axis, which a few outliers do not affect.

    They include the middle 96 % of the values, and other values that are at most half of that
    range away from it.

    Parameters
    ----------
    values : array of shape (m,)
    """
    # A quantile is the inner one of its two neighbours, so that the farthest row has no
    # influence in small tables either.
    low = float(np.quantile(values, 0.02, method="higher"))
    high = float(np.quantile(values, 0.98, method="lower"))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    extra = 0.5 * (high - low)
    near = values[(values >= low - extra) & (values <= high + extra)]
    low, high = float(near.min()), float(near.max())
    margin = 0.06 * (high - low) or 0.5 * max(abs(low), 1.0)
    return low - margin, high + margin


def outside(X: Array, *ranges: tuple[float, float]) -> str:
    """Return how many rows are outside the limits, as ", 3 outside the picture", or "".

    Parameters
    ----------
    X : array of shape (n, D)
    *ranges : (float, float)
        The limits of each of the D axes.
    """
    low, high = np.array(ranges).T
    left_out = int(((low > X) | (high < X)).any(axis=1).sum())
    return f", {left_out:,} outside the picture" if left_out else ""


def mass_outside(sampled: Array, *ranges: tuple[float, float]) -> str:
    """Return a sentence on the share of the samples outside the limits, or "" if it is small."""
    low, high = np.array(ranges).T
    share = float(((low > sampled) | (high < sampled)).any(axis=1).mean())
    return f" {share:.0%} of the mixture lies outside the picture." if share >= 0.02 else ""


def counted(number: int, what: str) -> str:
    """Return a number with its noun, as "1,024 rows" or "1 row"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def grid(x_range: tuple[float, float], y_range: tuple[float, float], n: int) -> Array:
    """Centres of n x n cells that cover the panel: (n * n, 2), row by row from the bottom."""
    x, y = (low + (high - low) * (np.arange(n) + 0.5) / n for low, high in (x_range, y_range))
    return np.stack([part.ravel() for part in np.meshgrid(x, y)], axis=1)


def panel_width(x_range: tuple[float, float], y_range: tuple[float, float], height: float) -> float:
    """Width of a panel of this height, with one scale for both axes unless far from square."""
    ratio = (x_range[1] - x_range[0]) / (y_range[1] - y_range[0])
    return height * (ratio if 0.75 < ratio < 1.6 else 1.15)
