"""Made-up shapes with known density: clusters, their number, and nats under the truth.

    python benchmarks/shapes.py [--threads N] [--seeds N] [--shapes NAME ...] [--only NAME ...]
    python benchmarks/shapes.py --write-page    # the page's tables, from the results file

Three things are measured: "given", clusters and density with the right K; "found", the same with
`n_components="auto"`, which is left out if the installed vmonf does not have it; and "labels", with
the labels of two random rows of each class. GaussianMixture and KMeans of scikit-learn are fitted
to the same rows with the right K. Clusters are compared on the rows of the fit. The density is
compared with the true one on fresh rows.

The results file is written after each shape. A run with the same settings, the same code of vmonf
and the same versions of the libraries adds what the file lacks. Otherwise the file is renamed; if
only vmonf has changed, the fits of the other contestants are kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import mean
from typing import Any

import common
import numpy as np
from clusters import QUICK
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture
from vmonf.data import Pinwheel, TwoCircles
from vmonf.data.toy import ToyMixture
from vmonf.experiments.two_circles import stray_share
from vmonf.metrics import clustering_accuracy
from vmonf.parameters import ParameterError

#: The parameters of each `FlowMixture` that is a contestant. K and the seed are added.
FLOW_MIXTURES: dict[str, dict[str, Any]] = {
    "FlowMixture": {},
}
TRUTH = "true density"
#: Contestants that need K, beside ours.
OTHERS = ("GaussianMixture", "KMeans", TRUTH)
CONTESTANTS = (*FLOW_MIXTURES, *OTHERS)
MEASURES = ("given", "found", "labels")
FRESH_ROWS, QUICK_FRESH_ROWS = 10_000, 500
LABELS_A_CLASS = 2
#: An adjusted Rand index that counts as success.
ENOUGH = 0.98
#: Fresh rows whose density under a curve is computed at once.
PART = 1000


@dataclass(frozen=True)
class NoisyCurves(ToyMixture):
    """Curves in the plane with the same Gaussian noise in both coordinates.

    Attributes
    ----------
    curves : tuple of callables
        Each maps positions, uniform on [0, 1), to points of shape (n, 2).
    noise_std : float
    n_nodes : int
        The density is the mean of Gaussians around this many points of the curve. Their distance
        must be small against the noise.
    """

    curves: tuple[Callable[[np.ndarray], np.ndarray], ...]
    noise_std: float
    n_nodes: int = 1000

    @property
    def n_components(self) -> int:
        """The number of curves."""
        return len(self.curves)

    def _draw(self, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        position = generator.random(len(labels))
        points = np.stack([curve(position) for curve in self.curves])
        rows = points[labels, np.arange(len(labels))]
        return rows + self.noise_std * generator.standard_normal(rows.shape)

    def _component_log_prob(self, X: np.ndarray) -> np.ndarray:
        nodes = (np.arange(self.n_nodes) + 0.5) / self.n_nodes
        constant = np.log(2 * np.pi * self.noise_std**2 * self.n_nodes)
        log_prob = np.empty((len(X), self.n_components))
        for component, curve in enumerate(self.curves):
            points = curve(nodes)
            for begin in range(0, len(X), PART):
                rows = X[begin : begin + PART]
                squares = ((rows[:, None, :] - points) ** 2).sum(axis=-1) / self.noise_std**2
                log_prob[begin : begin + PART, component] = logsumexp(-squares / 2, axis=1)
        return log_prob - constant


def arc(centre: tuple[float, float], begin: float, end: float, position: np.ndarray) -> np.ndarray:
    """Return points on an arc of radius one, between two angles."""
    angle = begin + (end - begin) * position
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + centre


def spiral(sign: float, position: np.ndarray) -> np.ndarray:
    """Return points on a spiral of one and a half turns, uniform along its length."""
    return _on_spiral(sign, 3 * np.pi * np.sqrt(position))


def spiral_apart(sign: float, position: np.ndarray) -> np.ndarray:
    """Return points on a spiral of one and a quarter turns, which begins a quarter turn out."""
    return _on_spiral(sign, np.pi * (0.5 + 2.5 * position))


def _on_spiral(sign: float, angle: np.ndarray) -> np.ndarray:
    return sign / 3 * np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], axis=1)


def point(at: tuple[float, float], position: np.ndarray) -> np.ndarray:
    """Return the same point for every position."""
    return np.tile(at, (len(position), 1))


def blobs(*centres: tuple[float, float], std: float = 1.0) -> NoisyCurves:
    """Return round Gaussians: curves that are points."""
    return NoisyCurves(tuple(partial(point, at) for at in centres), std, n_nodes=1)


@dataclass(frozen=True)
class Shape:
    """A distribution and the number of rows of each of its components."""

    mixture: ToyMixture
    counts: tuple[int, ...]

    @cached_property
    def log_weights(self) -> np.ndarray:
        """Return the logarithm of the components' shares."""
        return np.log(np.array(self.counts) / sum(self.counts))

    def log_joint(self, X: np.ndarray) -> np.ndarray:
        """Return log p(x, c) of each row and component."""
        return self.mixture.component_log_prob(X) + self.log_weights

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a fit and their classes."""
        return self._drawn(self.counts, seed)

    def fresh(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return other rows, with the same shares, and their classes."""
        shares = np.exp(self.log_weights)
        return self._drawn(np.maximum(1, np.round(shares * n_rows)).astype(int), 1000 + seed)

    def smaller(self, factor: int) -> Shape:
        """Return the shape with fewer rows."""
        return Shape(self.mixture, tuple(count // factor for count in self.counts))

    def _drawn(self, counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        X, classes = self.mixture.sample(max(counts), random_state=seed)
        number = np.empty(len(X), dtype=int)  # of the row among those of its component
        for component in range(len(counts)):
            number[classes == component] = np.arange(max(counts))
        kept = number < np.array(counts)[classes]
        return X[kept], classes[kept]


MOONS = NoisyCurves(
    (partial(arc, (0.0, 0.0), 0.0, np.pi), partial(arc, (1.0, 0.5), -np.pi, 0.0)), noise_std=0.05
)
#: Neighbours are six standard deviations apart.
EIGHT = blobs(
    *((4 * np.cos(angle), 4 * np.sin(angle)) for angle in np.arange(8) * np.pi / 4), std=0.5
)
SHAPES: dict[str, Shape] = {
    "moons": Shape(MOONS, (500, 500)),
    "circles": Shape(TwoCircles(), (512, 512)),
    "two spirals, apart": Shape(
        NoisyCurves((partial(spiral_apart, 1.0), partial(spiral_apart, -1.0)), 0.1), (500, 500)
    ),
    "two spirals, meeting": Shape(
        NoisyCurves((partial(spiral, 1.0), partial(spiral, -1.0)), 0.1), (500, 500)
    ),
    "pinwheel, twist .25": Shape(Pinwheel(rate=0.25), (512,) * 5),
    "pinwheel, twist .4": Shape(Pinwheel(rate=0.4), (512,) * 5),
    "eight Gaussians": Shape(EIGHT, (125,) * 8),
    "blobs 97:2:1": Shape(blobs((0, 0), (8, 0), (4, 4 * np.sqrt(3))), (1940, 40, 20)),
    "two blobs 9:1": Shape(blobs((0, 0), (6, 0)), (900, 100)),
}
LABELLED = ("moons",)
QUICK_SHAPES = ("moons", "circles")


# ------------------------------------------------------------------------------------ measuring


@dataclass(frozen=True)
class Case:
    """One fit: what is measured, of which shape, which contestant, with which seed."""

    shape: str
    measure: str
    contestant: str
    seed: int

    def __str__(self) -> str:
        measure = {"given": "K given", "found": "K found", "labels": "few labels"}[self.measure]
        return f"{self.shape}, {measure}: {self.contestant}, seed {self.seed}"

    def fit(self, quick: bool) -> dict[str, Any]:
        """Fit once, and compare clusters and density with the truth."""
        shape = SHAPES[self.shape].smaller(8) if quick else SHAPES[self.shape]
        X, classes = shape.rows(self.seed)
        fresh, fresh_classes = shape.fresh(QUICK_FRESH_ROWS if quick else FRESH_ROWS, self.seed)
        if self.contestant in FLOW_MIXTURES:
            return self._fit_ours(X, classes, fresh, fresh_classes, shape, quick)
        began = time.perf_counter()
        k = len(shape.counts)
        log_prob = None
        if self.contestant == TRUTH:
            clusters = shape.log_joint(X).argmax(axis=1)
        elif self.contestant == "KMeans":
            clusters = KMeans(k, n_init=10, random_state=self.seed).fit_predict(X)
        else:
            mixture = GaussianMixture(k, n_init=10, random_state=self.seed).fit(X)
            clusters, log_prob = mixture.predict(X), mixture.score_samples(fresh)
        return {
            "seconds": time.perf_counter() - began,
            **_scores(classes, clusters, by_name=False),
            **({} if log_prob is None else _under_truth(shape, fresh, log_prob)),
        }

    def _fit_ours(
        self,
        X: np.ndarray,
        classes: np.ndarray,
        fresh: np.ndarray,
        fresh_classes: np.ndarray,
        shape: Shape,
        quick: bool,
    ) -> dict[str, Any]:
        labels = None
        if self.measure == "labels":
            labels = np.full(len(X), -1)
            generator = np.random.default_rng(self.seed)
            for each in range(len(shape.counts)):
                of_class = np.flatnonzero(classes == each)
                labels[generator.choice(of_class, LABELS_A_CLASS, replace=False)] = each
        mixture = FlowMixture(
            "auto" if self.measure == "found" else len(shape.counts),
            random_state=self.seed,
            **FLOW_MIXTURES[self.contestant],
            **(QUICK if quick else {}),
        )
        began = time.perf_counter()
        clusters = mixture.fit(X, labels).predict(X)
        seconds = time.perf_counter() - began
        by_name = labels is not None
        result = {
            "seconds": seconds,
            **_scores(classes, clusters, by_name=by_name),
            "fresh": _scores(fresh_classes, mixture.predict(fresh), by_name=by_name),
            **_under_truth(shape, fresh, mixture.score_samples(fresh)),
            "k_found": mixture.n_components_,
            "best_epoch": mixture.best_epoch_,
        }
        if isinstance(shape.mixture, TwoCircles):
            result["stray"] = stray_share(mixture.sample(len(fresh))[0])
        return result


def _scores(classes: np.ndarray, clusters: np.ndarray, *, by_name: bool) -> dict[str, float]:
    """Return the adjusted Rand index and the accuracy, of the best match unless `by_name`."""
    right = np.mean(classes == clusters) if by_name else clustering_accuracy(classes, clusters)
    return {"ari": float(adjusted_rand_score(classes, clusters)), "accuracy": float(right)}


def _under_truth(shape: Shape, fresh: np.ndarray, log_prob: np.ndarray) -> dict[str, float]:
    """Return the mean of log p under the truth minus that of a fit."""
    truth = logsumexp(shape.log_joint(fresh), axis=1)
    return {"nats_under_truth": common.finite(float(np.mean(truth - log_prob)))}


def cases_of(name: str, seed: int, measures: Sequence[str], only: Sequence[str]) -> Iterator[Case]:
    """Yield what is fitted to a shape with one seed."""
    for measure_name in measures:
        if measure_name == "labels" and name not in LABELLED:
            continue
        for contestant in CONTESTANTS if measure_name == "given" else FLOW_MIXTURES:
            if contestant in only:
                yield Case(name, measure_name, contestant, seed)


def can_find_k() -> bool:
    """Return whether the installed vmonf has `n_components="auto"`."""
    try:  # parameters are checked before the rows, which are refused in any case
        FlowMixture("auto").fit([[np.nan]])
    except ParameterError:
        return False
    except ValueError:
        return True
    raise AssertionError("a row that is not a number was not refused")


def measure(arguments: argparse.Namespace) -> None:
    """Measure all shapes, and write the results file after each of them."""
    names = arguments.shapes or (QUICK_SHAPES if arguments.quick else tuple(SHAPES))
    measures = arguments.measures or MEASURES
    only = arguments.only or CONTESTANTS
    if arguments.quick:  # one FlowMixture is enough to check that the script works
        only = [name for name in only if name not in tuple(FLOW_MIXTURES)[1:]]
    if "found" in measures and not can_find_k():
        print('This vmonf has no n_components="auto": what finds K is left out.')
        measures = [each for each in measures if each != "found"]
    settings = common.settings_of(arguments, parameters=FLOW_MIXTURES)
    earlier = common.earlier_results(arguments.out, settings, ours=common.is_ours)
    fits: list[dict[str, Any]] = earlier.get("fits", [])
    keys = ("shape", "measure", "contestant", "seed")
    known = {tuple(fit[key] for key in keys) for fit in fits}
    for seed in range(1 if arguments.quick else arguments.seeds):
        for name in names:
            once = arguments.quick and name != QUICK_SHAPES[0]  # K is found for one shape
            chosen = [each for each in measures if not (once and each == "found")]
            for case in cases_of(name, seed, chosen, only):
                key = (case.shape, case.measure, case.contestant, case.seed)
                if key in known:
                    continue
                fit = common.attempted(partial(case.fit, arguments.quick))
                fits.append({**dict(zip(keys, key, strict=True)), **fit})
                outcome = fit.get("failure") or f"ARI {fit['ari']:.3f}"
                if "nats_under_truth" in fit:
                    outcome += f", {fit['nats_under_truth']:.3f} nats under the truth"
                if case.measure == "found" and "k_found" in fit:
                    outcome += f", K = {fit['k_found']}"
                print(f"{case}: {outcome}, {fit['seconds']:.1f} s", flush=True)
            common.write_results(arguments, settings=settings, fits=fits)


# ----------------------------------------------------------------------------------------- page

Fits = Sequence[Mapping[str, Any]]
HEADS = {
    "given": "K given",
    "found": 'K found by `n_components="auto"`',
    "labels": f"K given, and the labels of {LABELS_A_CLASS} random rows of each class. The "
    "accuracy is then that of the classes' names",
}


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    fits: Fits = common.with_ours(document["fits"], "seed")
    n_seeds = 1 + max(fit["seed"] for fit in fits)
    lines = [
        common.source(document, "shapes"),
        "",
        f"{n_seeds} seed{'s' * (n_seeds > 1)}. ARI and accuracy are of the rows of the fit, in "
        "brackets of fresh rows. Nats under the truth, of fresh rows, and seconds are means. A "
        "failed fit has the ARI 0.",
    ]
    for measure_name in MEASURES:
        chosen = [fit for fit in fits if fit["measure"] == measure_name]
        if chosen:
            lines += _lines(measure_name, chosen)
    failures = [
        f"- {Case(*(fit[key] for key in ('shape', 'measure', 'contestant', 'seed')))}: "
        f"`{fit['failure']}`"
        for fit in fits
        if "failure" in fit
    ]
    return lines + (["", "Failed fits:", "", *failures] if failures else [])


def _lines(measure_name: str, fits: Fits) -> list[str]:
    """Return the table of one measure: a line for each shape and contestant."""
    lines = [
        "",
        f"{HEADS[measure_name]}:",
        "",
        f"| shape | contestant | ARI {ENOUGH} or more | mean ARI | worst ARI | worst accuracy "
        "| right K | nats under the truth | worst | stray samples, mean | worst | seconds |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, shape in SHAPES.items():
        for contestant in CONTESTANTS:
            own = [f for f in fits if f["shape"] == name and f["contestant"] == contestant]
            if not own:
                continue
            ari = [fit.get("ari", 0.0) for fit in own]
            fresh = [fit["fresh"] for fit in own if "fresh" in fit]
            found = [fit.get("k_found") == len(shape.counts) for fit in own]
            nats = _values(own, "nats_under_truth")
            stray = _values(own, "stray")
            cells = [
                name,
                contestant,
                f"{sum(value >= ENOUGH for value in ari)} of {len(own)}",
                _cell(mean, ari, [each["ari"] for each in fresh]),
                _cell(min, ari, [each["ari"] for each in fresh]),
                _cell(min, _values(own, "accuracy"), [each["accuracy"] for each in fresh]),
                f"{sum(found)} of {len(own)}" if measure_name == "found" else "",
                _cell(mean, nats),
                _cell(max, nats),
                f"{mean(stray):.2%}" if stray else "",
                f"{max(stray):.2%}" if stray else "",
                f"{mean(fit['seconds'] for fit in own):.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _values(fits: Fits, key: str) -> list[float]:
    return [fit[key] for fit in fits if key in fit]


def _cell(of: Callable[..., float], values: Sequence[float], fresh: Sequence[float] = ()) -> str:
    if not values:
        return ""
    return f"{of(values):.3f}" + (f" ({of(fresh):.3f})" if fresh else "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to N - 1")
    for option, metavar, choices in (
        ("--shapes", "NAME", tuple(SHAPES)),
        ("--only", "CONTESTANT", CONTESTANTS),
        ("--measures", "MEASURE", MEASURES),
    ):
        parser.add_argument(
            option,
            nargs="+",
            metavar=metavar,
            choices=choices,
            help=f"only these: {'; '.join(choices)}",
        )


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "shapes", measure, page, add=add_options)


if __name__ == "__main__":
    main()
