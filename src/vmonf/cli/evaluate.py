"""`vmonf evaluate`: score a model on a table and compare it with Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vmonf.cli.common import (
    TABLE_ENDINGS,
    BigData,
    Columns,
    Json,
    Model,
    console,
    feature_columns_of,
    feature_rows,
    load_mixture,
    plain_table,
    print_json,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from vmonf.metrics import Contingency

    Array = NDArray[np.float64]

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
METHODS: tuple[Literal["posterior", "exact"], ...] = ("posterior", "exact")
N_FOLDS = 5


def evaluate(
    model: Model,
    data: BigData,
    label: Annotated[
        str | None,
        typer.Option(
            help="DATA's column of true labels. Rows without a label are not compared with it."
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            help=f"The table that the model was fitted to ({TABLE_ENDINGS}), for the Gaussian "
            f"mixtures. By default they are cross-validated on DATA, in {N_FOLDS} folds."
        ),
    ] = None,
    columns: Columns = None,
    seed: Annotated[int, typer.Option(min=0, help="The random seed of the Gaussian mixtures.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare a model with Gaussian mixtures.

    DATA should be whole rows that the model was not fitted to. Prints the mean log-likelihood of
    the rows in nats, the ELBO, and the mean log-likelihood of scikit-learn's Gaussian mixtures with
    the same numbers of components and starts, fitted to standardised features. With --label, it
    also prints how well the clusters agree with the labels: accuracy under the best one-to-one map,
    normalized mutual information, adjusted Rand index, and a contingency table. Parquet files with
    more than 100,000 rows are read in parts: the model scores all rows, and the rest is computed on
    100,000 of them, drawn at random.
    """
    import numpy as np
    import polars

    from vmonf.data import TableError, open_source, read_table
    from vmonf.data.tables import label_column
    from vmonf.stream import SAMPLE_ROWS

    source = open_source(data)
    train_frame = None if train is None else read_table(train)
    head = source.head()
    beside = [] if label is None else [label]
    mixture = load_mixture(model)
    features = feature_columns_of(mixture, head, columns, beside)
    # Of a table that is read in parts, all rows are scored, and some are kept for the rest.
    is_whole = source.is_in_memory or source.n_rows <= SAMPLE_ROWS
    chosen = np.arange(source.n_rows)
    if not is_whole:
        chosen = np.random.default_rng(seed).choice(source.n_rows, SAMPLE_ROWS, replace=False)
        chosen.sort()
    totals, row, taken = np.zeros(2), 0, []
    for part in source.in_order(list(dict.fromkeys([*features, *beside]))):
        low, high = np.searchsorted(chosen, [row, row + len(part)])
        taken.append(part[chosen[low:high] - row])
        if not is_whole:
            part_rows = feature_rows(mixture, part, features, row)
            totals += mixture.score_samples(part_rows).sum(), mixture.elbo(part_rows).sum()
        row += len(part)
    frame = polars.concat(taken)
    rows = feature_rows(mixture, frame, features)
    if is_whole:
        totals += mixture.score_samples(rows).sum(), mixture.elbo(rows).sum()
    log_likelihood, elbo = (totals / source.n_rows).tolist()
    labels, is_labelled = (None, None) if label is None else label_column(frame, label)
    if is_labelled is not None and not is_labelled.any():
        raise TableError(f"No row has a label in column {label!r}: evaluate without --label.")

    train_rows = None
    if train_frame is not None:
        beside = [name for name in beside if name in train_frame.columns]
        features = feature_columns_of(mixture, train_frame, columns, beside)
        train_rows = np.asarray(feature_rows(mixture, train_frame, features))

    result: dict[str, Any] = {
        "model": str(model),
        "data": str(data),
        "rows": source.n_rows,
        "sampled_rows": len(frame),
        "components": len(mixture.classes_),
        "log_likelihood": log_likelihood,
        "elbo": elbo,
        "gap": log_likelihood - elbo,
        "gaussian_mixtures_fitted_to": None if train is None else str(train),
        "gaussian_mixtures": {
            kind: gaussian_mixture_score(
                kind, len(mixture.classes_), mixture.n_init, train_rows, np.asarray(rows), seed
            )
            for kind in COVARIANCE_TYPES
        },
    }
    tables: dict[str, Contingency] = {}
    if labels is not None and is_labelled is not None:
        from vmonf.metrics import clustering_scores, contingency_table

        result["labelled_rows"] = int(is_labelled.sum())
        for method in METHODS:
            clusters = mixture.predict(rows, method)[is_labelled]
            tables[method] = contingency_table(labels[is_labelled], clusters)
            result[method] = clustering_scores(labels[is_labelled], clusters)
    if as_json:
        for name, table in tables.items():
            result[name]["contingency"] = table._asdict()
        print_json(result)
    else:
        _print(result, tables.get("posterior"), label)


def gaussian_mixture_score(
    covariance_type: str,
    n_components: int,
    n_init: int,
    train: Array | None,
    test: Array,
    seed: int,
) -> dict[str, Any]:
    """Fit scikit-learn's Gaussian mixture and score held-out rows.

    Parameters
    ----------
    covariance_type : str
        As in `sklearn.mixture.GaussianMixture`.
    n_components, n_init : int
    train : array of shape (m, D), or None
        The rows to fit to. With None, `test` is cross-validated: each fold is scored by a
        mixture fitted to the other folds.
    test : array of shape (n, D)
    seed : int

    Returns
    -------
    dict
        "log_likelihood": mean nats per row in the features' own units, or None if the fit
        failed; "converged": bool; "fault": why the fit failed, or None.
    """
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import StandardScaler

    if train is not None:
        parts = [(train, test)]
    else:
        if len(test) < 2:
            return {"log_likelihood": None, "converged": False, "fault": "there is one row only"}
        folds = KFold(min(N_FOLDS, len(test)), shuffle=True, random_state=seed)
        parts = [(test[fitted], test[scored]) for fitted, scored in folds.split(test)]
    log_probs, converged = [], True
    for fitted, scored in parts:
        # K-means, which initialises the mixture, depends on the features' units. Without
        # standardisation the Gaussian mixture would be a weaker reference.
        scaler = StandardScaler().fit(fitted)
        mixture = GaussianMixture(
            n_components, covariance_type=covariance_type, n_init=n_init, random_state=seed
        )
        try:
            # `converged` reports this once, instead of one warning for each fold.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(scaler.transform(fitted))
        except ValueError as error:
            fault = " ".join(str(error).split())
            return {"log_likelihood": None, "converged": False, "fault": fault}
        converged &= mixture.converged_
        in_own_units = mixture.score_samples(scaler.transform(scored)) - np.log(scaler.scale_).sum()
        log_probs.append(in_own_units)
    mean = float(np.concatenate(log_probs).mean())
    return {"log_likelihood": mean, "converged": bool(converged), "fault": None}


def _print(result: Mapping[str, Any], contingency: Contingency | None, label: str | None) -> None:
    """Print the result as text."""
    out = console()
    out.print(f"Log-likelihood of {result['data']}: nats per row, mean of {result['rows']} rows")
    out.print(_likelihoods(result))
    if result["sampled_rows"] < result["rows"]:
        out.print(
            f"The Gaussian mixtures and the labels were compared on {result['sampled_rows']} of "
            "these rows, drawn at random."
        )
    if result["gaussian_mixtures_fitted_to"] is None:
        out.print(
            f"The Gaussian mixtures were cross-validated on {result['data']} itself, in {N_FOLDS} "
            "folds: each row was scored by a mixture fitted to other rows. The model's value is "
            "comparable only if the model was not fitted to these rows."
        )
    else:
        out.print(f"The Gaussian mixtures were fitted to {result['gaussian_mixtures_fitted_to']}.")
    out.print(
        f"The ELBO is {result['elbo']:.4f}: the KL divergence of the posterior network from the "
        f"exact responsibilities is {result['gap']:.4f} nats per row."
    )
    if contingency is not None:
        out.print(f"\nClusters against {label}: {result['labelled_rows']} labelled rows")
        out.print(_agreement(result))
        out.print("Rows of each label (down) in each cluster (across), by the posterior")
        out.print(_contingency(contingency))


def _likelihoods(result: Mapping[str, Any]) -> Table:
    table = plain_table("", "log-likelihood")
    table.add_column("")
    name = f"{result['model']}, {result['components']} components"
    table.add_row(name, f"{result['log_likelihood']:.4f}", "")
    for kind, score in result["gaussian_mixtures"].items():
        value, fault = score["log_likelihood"], score["fault"] or ""
        if value is not None and not score["converged"]:
            fault = "not converged"
        shown = "failed" if value is None else f"{value:.4f}"
        table.add_row(f"Gaussian mixture, {kind}", shown, fault)
    return table


def _agreement(result: Mapping[str, Any]) -> Table:
    table = plain_table("clusters by", "accuracy, best map", "NMI", "ARI")
    for method in METHODS:
        scores = result[method]
        table.add_row(method, *(f"{scores[name]:.4f}" for name in ("accuracy", "nmi", "ari")))
    return table


def _contingency(contingency: Contingency) -> Table:
    table = plain_table("", *(str(cluster) for cluster in contingency.clusters))
    for name, counts in zip(contingency.labels, contingency.counts, strict=True):
        table.add_row(str(name), *(str(count) for count in counts))
    return table
