"""Clusters on public sets with known partitions: adjusted Rand index of ours and of scikit-learn.

    VMONF_CLUSTERS=FOLDER python benchmarks/clusters.py [--threads N] [--seeds N]
    python benchmarks/clusters.py --write-page    # the page's tables, from the results file

The sets are not part of vmonf. The folder has a file NAME.csv or NAME.csv.gz for each set, with a
header line. Columns label0, label1, ... are alternative partitions, in which 0 marks noise; all
other columns are features. The folder may have a file peers.json with published results:
{set: {"ari": {method: value}}}. `--quick` uses three made-up sets and needs no folder.

For each partition a contestant is fitted to all rows, with K the partition's number of clusters.
The score is the adjusted Rand index on the rows that are not noise. The figure of a set is that of
its best partition. A fit that raises an exception scores 0, and is counted.

The results file is written after each set. A run with the same settings, the same code of vmonf and
the same versions of the libraries adds what the file lacks. Otherwise the file is renamed; if only
vmonf has changed, the fits of scikit-learn are kept.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import common
import numpy as np
import polars
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from vmonf import FlowMixture
from vmonf.columns import shift_and_scale
from vmonf.rows import Rows
from vmonf.start import STARTS, Start
from vmonf.training import Training

FOLDER = "VMONF_CLUSTERS"
WHAT_TO_GIVE = (
    f"For public sets, give --folder or the environment variable {FOLDER} a folder of files "
    "NAME.csv or NAME.csv.gz with features and the columns label0, label1, ..., where 0 is noise."
)
#: The parameters of each `FlowMixture` that is a contestant. K and the seed are added.
FLOW_MIXTURES: dict[str, dict[str, Any]] = {
    "FlowMixture": {},
    "FlowMixture, K found": {"n_components": "auto"},
    "FlowMixture, without flows": {"max_epochs": 0},
}
#: Further parameters of each `FlowMixture` in a short run.
QUICK: dict[str, Any] = {
    "max_epochs": 1,
    "max_components": 4,
    "training": Training(refine_posterior=False),
}
#: The second table has a line for each set, unless there are more sets than this.
MOST_LINES = 100

Clusters = Callable[[np.ndarray, int, int], np.ndarray]


@dataclass(frozen=True)
class Contestant:
    """A method that gives each row a cluster.

    Attributes
    ----------
    clusters : callable
        ``clusters(X, K, seed)`` fits, and returns the cluster of each row.
    finds_k : bool
        Whether the method finds the number of clusters. It is then fitted once for all partitions.
    is_random : bool
        Whether the method draws random numbers. Otherwise it is fitted once for all seeds.
    """

    clusters: Clusters
    finds_k: bool = False
    is_random: bool = True


@dataclass(frozen=True)
class ClusterSet:
    """The rows of a set with their partitions.

    Attributes
    ----------
    X : array of shape (n, D)
    labels : dict of str to int array of shape (n,)
        The partitions by name. 0 marks noise.
    n_rows_of_file : int
        The number of rows before sampling.
    """

    X: np.ndarray
    labels: Mapping[str, np.ndarray]
    n_rows_of_file: int

    def n_clusters(self, partition: str) -> int:
        """Return the number of clusters of a partition."""
        return len(np.unique(self.labels[partition][self.labels[partition] != 0]))

    def score(self, partition: str, clusters: np.ndarray) -> float:
        """Return the adjusted Rand index on the rows that are not noise."""
        labels = self.labels[partition]
        return float(adjusted_rand_score(labels[labels != 0], clusters[labels != 0]))

    def sampled(self, most: int) -> ClusterSet:
        """Return at most this number of rows, drawn at random with a fixed seed."""
        if len(self.X) <= most:
            return self
        drawn = np.random.default_rng(0).choice(len(self.X), most, replace=False)
        labels = {name: values[drawn] for name, values in self.labels.items()}
        return ClusterSet(self.X[drawn], labels, self.n_rows_of_file)


# -------------------------------------------------------------------------------- contestants


def flow_mixture(X: np.ndarray, k: int, seed: int, **options: Any) -> np.ndarray:
    """Fit ours, and predict with the posterior network."""
    return FlowMixture(**{"n_components": k, "random_state": seed, **options}).fit(X).predict(X)


def kmeans(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Fit scikit-learn's k-means, the best of ten starts, on the columns as they are."""
    return KMeans(k, n_init=10, random_state=seed).fit_predict(X)


def gaussian_mixture(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Fit scikit-learn's mixture, the best of ten starts, on the columns as they are."""
    return GaussianMixture(k, n_init=10, random_state=seed).fit_predict(X)


def spectral(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Cut the graph of nearest neighbours of the columns as they are."""
    return SpectralClustering(k, affinity="nearest_neighbors", random_state=seed).fit_predict(X)


def hdbscan(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Find clusters and their number on standardised columns; noise is one more cluster."""
    return HDBSCAN(copy=True).fit_predict(StandardScaler().fit_transform(X))


def start_alone(X: np.ndarray, k: int, seed: int, *, start: Start) -> np.ndarray:
    """Return the clusters of a start on the distinct rows, weighted and standardised as in a fit.

    Rows without a cluster (-1) are one more cluster.
    """
    x, place, copies = np.unique(X, axis=0, return_inverse=True, return_counts=True)
    weight = copies / copies.mean()
    shift, scale = shift_and_scale(x, weight, [f"x{column}" for column in range(x.shape[1])])
    nowhere = np.full(len(x), -1)
    rows = Rows((x - shift) / scale, weight, nowhere, nowhere)
    return start.clusters_of(rows, k, seed).cluster[place.reshape(-1)]


def contestants(**options: Any) -> dict[str, Contestant]:
    """Return all contestants; the options are parameters of every `FlowMixture`."""
    return {
        **{
            name: Contestant(
                partial(flow_mixture, **{**parameters, **options}),
                finds_k=parameters.get("n_components") == "auto",
            )
            for name, parameters in FLOW_MIXTURES.items()
        },
        **{
            f"start: {name}": Contestant(partial(start_alone, start=start))
            for name, start in STARTS.items()
            if start.informed
        },
        "KMeans": Contestant(kmeans),
        "GaussianMixture": Contestant(gaussian_mixture),
        "SpectralClustering": Contestant(spectral),
        "HDBSCAN, K found": Contestant(hdbscan, finds_k=True, is_random=False),
    }


# --------------------------------------------------------------------------------------- sets


def made_up_sets() -> dict[str, Callable[[], ClusterSet]]:
    """Return small made-up sets: moons, circles, and blobs of uneven size with noise."""

    def as_set(X: np.ndarray, *labels: np.ndarray) -> ClusterSet:
        return ClusterSet(X, {f"label{i}": each for i, each in enumerate(labels)}, len(X))

    def moons() -> ClusterSet:
        X, y = make_moons(120, noise=0.05, random_state=0)
        return as_set(X, y + 1)

    def circles() -> ClusterSet:
        X, y = make_circles(140, noise=0.05, factor=0.4, random_state=0)
        return as_set(X, y + 1)

    def blobs() -> ClusterSet:
        X, y = make_blobs([100, 40, 20], centers=[(0, 0), (4, 0), (9, 3)], random_state=0)
        noise = np.random.default_rng(0).uniform(X.min(axis=0), X.max(axis=0), (10, 2))
        fine = np.concatenate([y + 1, np.zeros(10, dtype=int)])
        return as_set(np.concatenate([X, noise]), fine, np.minimum(fine, 2))

    return {"moons": moons, "circles": circles, "uneven blobs": blobs}


def sets_of(folder: Path) -> dict[str, Callable[[], ClusterSet]]:
    """Return a function for each set of a folder, which reads it; sets with few rows come first."""
    files = {
        path.name.removesuffix(".gz").removesuffix(".csv"): path
        for path in sorted(folder.iterdir())
        if path.name.endswith((".csv", ".csv.gz"))
    }
    if not files:
        raise SystemExit(f"{folder} has no set. {WHAT_TO_GIVE}")
    n_lines = {name: _lines(path) for name, path in files.items()}
    return {name: partial(read_set, files[name]) for name in sorted(files, key=n_lines.__getitem__)}


def read_set(path: Path) -> ClusterSet:
    """Read the features and the partitions of a set."""
    table = polars.read_csv(path, infer_schema_length=None)
    partitions = [name for name in table.columns if name.startswith("label")]
    if not partitions:
        raise SystemExit(f"{path.name} has no column label0. {WHAT_TO_GIVE}")
    X = table.drop(partitions).cast(polars.Float64).to_numpy()
    labels = {name: table[name].cast(polars.Int64).to_numpy() for name in partitions}
    return ClusterSet(X, labels, len(X))


def _lines(path: Path) -> int:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
        return sum(1 for _ in stream)


# ------------------------------------------------------------------------------------ measuring


def fit_and_score(
    contestant: Contestant, data: ClusterSet, partitions: Sequence[str], k: int | None, seed: int
) -> dict[str, Any]:
    """Fit once, and score against all partitions with this number of clusters.

    An exception is a result: its message is the "failure", and every score is 0.
    """

    def fit() -> dict[str, Any]:
        clusters = contestant.clusters(data.X, k or 0, seed)
        return {
            "clusters_found": len(np.unique(clusters)),
            "ari": {name: data.score(name, clusters) for name in partitions},
        }

    return {"ari": dict.fromkeys(partitions, 0.0), **common.attempted(fit)}


def measure_set(
    name: str,
    data: ClusterSet,
    competing: Mapping[str, Contestant],
    n_seeds: int,
    done: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the fits of a set that are not yet done."""
    known = {(fit["set"], fit["contestant"], fit["seed"], fit["clusters"]) for fit in done}
    with_k: dict[int, list[str]] = defaultdict(list)
    for partition in data.labels:
        with_k[data.n_clusters(partition)].append(partition)
    fits = []
    for contestant_name, contestant in competing.items():
        cases = [(None, list(data.labels))] if contestant.finds_k else list(with_k.items())
        for seed in range(n_seeds if contestant.is_random else 1):
            for k, partitions in cases:
                if (name, contestant_name, seed, k) in known:
                    continue
                key = {"set": name, "contestant": contestant_name, "seed": seed, "clusters": k}
                fit = {**key, **fit_and_score(contestant, data, partitions, k, seed)}
                fits.append(fit)
                outcome = fit.get("failure") or f"ARI {max(fit['ari'].values()):.3f}"
                case = f"{contestant_name}, K = {k or 'found'}, seed {seed}"
                print(f"{name}: {case}: {outcome}, {fit['seconds']:.1f} s", flush=True)
    return fits


def measure(arguments: argparse.Namespace) -> None:
    """Measure all sets, and write the results file after each of them."""
    if arguments.quick:
        print(f"These are made-up sets. {WHAT_TO_GIVE}")
        sets = made_up_sets()
    elif arguments.folder is None:
        raise SystemExit(WHAT_TO_GIVE)
    else:
        sets = sets_of(arguments.folder)
    missing = [name for name in arguments.sets or () if name not in sets]
    if missing:
        raise SystemExit(f"There is no set {', '.join(missing)}; there are {', '.join(sets)}.")
    options = QUICK if arguments.quick else {}
    competing = {
        name: contestant
        for name, contestant in contestants(**options).items()
        if name in (arguments.only or (name,))
    }
    settings = common.settings_of(arguments, max_rows=arguments.max_rows)
    earlier = common.earlier_results(arguments.out, settings, ours=common.is_ours)
    described = {each["set"]: each for each in earlier.get("sets", ())}
    fits = earlier.get("fits", [])
    published = published_results(None if arguments.quick else arguments.folder)
    for name, read in sets.items():
        if name not in (arguments.sets or (name,)):
            continue
        data = read().sampled(arguments.max_rows)
        new = measure_set(name, data, competing, arguments.seeds, fits)
        described[name] = {
            "set": name,
            "rows": len(data.X),
            "rows_of_file": data.n_rows_of_file,
            "features": data.X.shape[1],
            "clusters": [data.n_clusters(partition) for partition in data.labels],
        }
        fits += new
        common.write_results(
            arguments,
            settings=settings,
            sets=sorted(described.values(), key=lambda each: (each["rows_of_file"], each["set"])),
            published=[
                {"contestant": peer, "sets": len(common_sets), "ari": mean(common_sets.values())}
                for peer, values in published.items()
                for common_sets in [{s: v for s, v in values.items() if s in described}]
                if common_sets
            ],
            fits=fits,
        )


def published_results(folder: Path | None) -> dict[str, dict[str, float]]:
    """Return the published adjusted Rand index of each method on each set, if there are any."""
    path = None if folder is None else folder / "peers.json"
    published: dict[str, dict[str, float]] = defaultdict(dict)
    if path is not None and path.exists():
        for name, entry in json.loads(path.read_text()).items():
            for method, ari in entry["ari"].items():
                published[method][name] = ari
    return published


# ----------------------------------------------------------------------------------------- page


def figure_of(fits: Iterable[Mapping[str, Any]]) -> float:
    """Return a contestant's figure on a set: the mean over seeds of the best partition."""
    scores: dict[str, list[float]] = defaultdict(list)
    for fit in fits:
        for partition, ari in fit["ari"].items():
            scores[partition].append(ari)
    return max(mean(values) for values in scores.values())


def _of_seeds(fits_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the mean over the sets with each seed of a contestant."""
    seeds = sorted({fit["seed"] for fits in fits_of.values() for fit in fits})
    means = []
    for seed in seeds:
        chosen = [[fit for fit in fits if fit["seed"] == seed] for fits in fits_of.values()]
        means.append(f"{mean(figure_of(fits) for fits in chosen if fits):.3f}")
    return ", ".join(means)


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    compared = common.with_ours(document["fits"], "seed")
    fits_of: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for fit in compared:
        fits_of[fit["contestant"]][fit["set"]].append(fit)
    names = [name for name in contestants() if name in fits_of]
    names += [name for name in fits_of if name not in names]
    figures = {
        name: {each: figure_of(fits) for each, fits in fits_of[name].items()} for name in names
    }
    n_seeds = 1 + max(fit["seed"] for fit in compared)
    published = (
        " Lines that begin with “published” are of others, on the same sets; they were not "
        "measured in this run."
        if document["published"]
        else ""
    )
    lines = [
        common.source(document, "clusters"),
        "",
        f"Mean over the sets of the adjusted Rand index; {n_seeds} seed{'s' * (n_seeds > 1)}. "
        "For the mean of each seed, the best partition is that with this seed. "
        "A failed fit scores 0. Seconds are those of one fit." + published,
        "",
        "| contestant | mean ARI | of each seed | sets | seconds, mean | seconds, longest "
        "| failed fits |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        fits = [fit for of_set in fits_of[name].values() for fit in of_set]
        seconds = [fit["seconds"] for fit in fits]
        lines.append(
            f"| {name} | {mean(figures[name].values()):.3f} | {_of_seeds(fits_of[name])} "
            f"| {len(figures[name])} "
            f"| {mean(seconds):.2f} | {max(seconds):.1f} "
            f"| {sum('failure' in fit for fit in fits)} of {len(fits)} |"
        )
    lines += [
        f"| published: {entry['contestant']} | {entry['ari']:.3f} | | {entry['sets']} | | | |"
        for entry in document["published"]
    ]
    if len({frozenset(figures[name]) for name in names}) > 1:
        lines += [
            "",
            "Not all contestants were run on the same sets, so their means cannot be compared.",
        ]
    sampled = [each for each in document["sets"] if each["rows"] < each["rows_of_file"]]
    if sampled:
        listed = ", ".join(
            f"{each['set']} ({each['rows']:,} of {each['rows_of_file']:,} rows)" for each in sampled
        )
        lines += ["", f"All contestants were run on the same random sample of rows of: {listed}."]
    lines += _failures(compared)
    if len(document["sets"]) > MOST_LINES:
        return lines
    lines += [
        "",
        "The adjusted Rand index on each set, of the best partition:",
        "",
        "| set | rows | D | K | " + " | ".join(names) + " |",
        "|---|---:|---:|---|" + "---:|" * len(names),
    ]
    for each in document["sets"]:
        cells = [
            f"{figures[name][each['set']]:.2f}" if each["set"] in figures[name] else "not run"
            for name in names
        ]
        sizes = ", ".join(str(k) for k in dict.fromkeys(each["clusters"]))
        lines.append(
            f"| {each['set']} | {each['rows']:,} | {each['features']} | {sizes} | "
            + " | ".join(cells)
            + " |"
        )
    return lines


def _failures(fits: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a list of the failed fits, those with the same message on one line."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fit in fits:
        if "failure" in fit:
            case = f" (K = {fit['clusters'] or 'found'}, seed {fit['seed']})"
            places[fit["contestant"], fit["failure"]].append(fit["set"] + case)
    if not places:
        return []
    return [
        "",
        "Failed fits:",
        "",
        *(
            f"- {contestant}, {', '.join(where)}: `{failure}`"
            for (contestant, failure), where in places.items()
        ),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    folder = os.environ.get(FOLDER)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(folder) if folder else None,
        help=f"the folder of the sets; otherwise the environment variable {FOLDER}",
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N - 1")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="only these sets")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="CONTESTANT",
        choices=list(contestants()),
        help=f"only these: {'; '.join(contestants())}",
    )
    parser.add_argument(
        "--max-rows", type=int, default=20_000, help="sample this many rows of a larger set"
    )


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "clusters", measure, page, add=add_options)


if __name__ == "__main__":
    main()
