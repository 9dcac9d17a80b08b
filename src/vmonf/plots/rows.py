"""What a figure shows of a mixture: rows, labels, samples, limits, names."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from vmonf.labels import encode_labels
from vmonf.plots.style import UNLABELLED, Look, component_looks, drawable, label_looks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from vmonf.estimator import FlowMixture

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Most points a panel draws.
MOST_POINTS = 3000
#: Samples that stand in for rows where none are given.
N_SAMPLES = 2000


@final
@dataclass(frozen=True)
class Points:
    """Rows to draw, each in a group.

    Attributes
    ----------
    X : array of shape (m, D)
    codes : int array of shape (m,)
        The group of each row, -1 where it has none.
    looks : list of Look
        Of each group.
    grouping : str
        What the groups are: "cluster", "label" or "component".
    """

    X: Array
    codes: IntArray
    looks: list[Look]
    grouping: str

    @property
    def legend_title(self) -> str | None:
        """What the groups are, unless their names say so themselves, as "component 3" does."""
        kind = "label" if self.grouping == "label" else "component"
        if all(look.name.startswith(f"{kind} ") for look in self.looks):
            return None
        return self.grouping

    @property
    def entries(self) -> list[Look]:
        """What a legend lists: each group, and the rows without one if there are any."""
        return [*self.looks, UNLABELLED] if (self.codes < 0).any() else self.looks


@final
class Subject:
    """A fitted mixture and the rows a user gave with it, checked once.

    Parameters
    ----------
    mixture : FlowMixture
    X : array-like or DataFrame of shape (n, D), optional
    labels : array-like of shape (n,), optional
    random_state : int, RandomState or None

    Attributes
    ----------
    mixture : FlowMixture
        Takes arrays that we made, without asking for the names of their columns.
    X : array of shape (n, D) or None
    label_classes, label_codes : array of shape (L,), int array of shape (n,); or None
    looks : list of Look
        Of each component.

    Raises
    ------
    ValueError
        If X or labels do not fit the mixture or each other.
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
            self.X = validate_data(mixture, X, dtype=np.float64, reset=False)
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
        self.looks = component_looks(mixture.classes_)
        # Grids and samples have no column names: a copy that knows none does not miss them.
        self.mixture = copy.copy(mixture)
        names_in = self.mixture.__dict__.pop("feature_names_in_", None)
        self._feature_names = None if names_in is None else [str(name) for name in names_in]
        self._random = check_random_state(random_state)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.mixture.n_features_in_)

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.looks)

    def axis_name(self, feature: int) -> str:
        """What an axis is called."""
        if self._feature_names is None:
            return f"column {feature}"
        return drawable(self._feature_names[feature])

    def given(self) -> Points:
        """The user's rows, at most `MOST_POINTS` of them, in groups: by label, or by cluster."""
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
        """Samples from the mixture, in groups by component."""
        X, drawn = self.mixture.sample(n_samples, random_state=self._random)
        return Points(X, self._index(drawn), self.looks, "component")

    def shown(self, points: Points) -> str:
        """Say how many rows a figure shows, as "3,000 of 5,000 rows" or "150 rows"."""
        if self.X is None:
            return counted(len(points.X), "sample")
        if len(points.X) < len(self.X):
            return f"{len(points.X):,} of {counted(len(self.X), 'row')}"
        return counted(len(self.X), "row")

    def short_name(self, component: int) -> str:
        """What is written into a picture: the number or word alone."""
        return drawable(str(self.mixture.classes_[component]), 14)

    def sampled_from(self, component: int, n_samples: int) -> Array:
        """Samples from one component: (n_samples, D)."""
        name = self.mixture.classes_[component]
        return self.mixture.sample(n_samples, name, random_state=self._random)[0]

    def clusters(self, X: Array) -> IntArray:
        """Component each row is assigned to by the posterior, 0..K-1."""
        clusters: IntArray = self.mixture.predict_proba(X).argmax(axis=1)
        return clusters

    def _index(self, names: NDArray[Any]) -> IntArray:
        order = np.argsort(self.mixture.classes_)
        found: IntArray = order[np.searchsorted(self.mixture.classes_[order], names)]
        return found


def limits(values: Array) -> tuple[float, float]:
    """Where an axis begins and ends, so that a few far rows do not squash all others.

    The middle 96 % of the values, and half as much again on either side, but no farther than
    there are any.

    Parameters
    ----------
    values : array of shape (m,)
    """
    # Of the two neighbours of a quantile the inner one, so that in a small table, too, the
    # farthest row has no say.
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
    """Say how many rows a picture leaves out, as ", 3 outside the picture"; empty if none.

    Parameters
    ----------
    X : array of shape (n, D)
    *ranges : (float, float)
        Where each of the D axes begins and ends.
    """
    low, high = np.array(ranges).T
    left_out = int(((low > X) | (high < X)).any(axis=1).sum())
    return f", {left_out:,} outside the picture" if left_out else ""


def mass_outside(sampled: Array, *ranges: tuple[float, float]) -> str:
    """Say how much of the mixture a picture of the rows leaves out, unless it is little."""
    low, high = np.array(ranges).T
    share = float(((low > sampled) | (high < sampled)).any(axis=1).mean())
    return f" {share:.0%} of the mixture lies outside the picture." if share >= 0.02 else ""


def counted(number: int, what: str) -> str:
    """As "1,024 rows" or "1 row"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def grid(x_range: tuple[float, float], y_range: tuple[float, float], n: int) -> Array:
    """Centres of n x n cells that tile the picture: (n * n, 2), row by row from below."""
    x, y = (low + (high - low) * (np.arange(n) + 0.5) / n for low, high in (x_range, y_range))
    return np.stack([part.ravel() for part in np.meshgrid(x, y)], axis=1)


def panel_width(x_range: tuple[float, float], y_range: tuple[float, float], height: float) -> float:
    """Width of a panel of this height: one scale for both axes where that leaves a fair shape."""
    ratio = (x_range[1] - x_range[0]) / (y_range[1] - y_range[0])
    return height * (ratio if 0.75 < ratio < 1.6 else 1.15)
