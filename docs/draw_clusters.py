"""Draw the pictures of docs/clusters.md: `make figures`.

    python docs/draw_clusters.py

Each picture is drawn from a fit with the defaults and a fixed seed.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.datasets import make_moons
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture
from vmonf.data import Pinwheel, TwoCircles
from vmonf.flows import GaussianMixtureBase
from vmonf.metrics import clustering_accuracy, match
from vmonf.plots import plot
from vmonf.plots.style import INK, OKABE_ITO, figure_style, new_figure, set_title

IMAGES = Path(__file__).parent / "images"


def made_up() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return rows and labels of four sets in the plane."""
    random = np.random.default_rng(0)
    sizes = np.repeat([0, 1, 2], [1940, 40, 20])
    blobs = np.array([[0, 0], [6, 0], [0, 6]])[sizes] + random.normal(size=(2000, 2))
    return {
        "moons": make_moons(600, noise=0.07, random_state=0),
        "circles": TwoCircles(noise_std=0.03).sample(300, random_state=0),
        "pinwheel": Pinwheel().sample(200, random_state=0),
        "blobs of unequal size": (blobs, sizes),
    }


def draw_shapes() -> Figure:
    """Draw the clusters of k-means, of a Gaussian mixture and of the defaults."""
    sets = made_up()
    figure = new_figure(11, 8.4)
    axes = figure.subplots(3, len(sets))
    for column, (name, (X, y)) in enumerate(sets.items()):
        k = len(np.unique(y))
        found = {
            "k-means": KMeans(k, n_init=10, random_state=0).fit_predict(X),
            "GaussianMixture": GaussianMixture(k, n_init=10, random_state=0).fit_predict(X),
            "FlowMixture": FlowMixture(k, random_state=0).fit(X).predict(X),
        }
        for row, (method, clusters) in enumerate(found.items()):
            ax = axes[row, column]
            counts = np.zeros((k, k))
            np.add.at(counts, (clusters, y), 1)
            _, name_of = match(counts)
            colours = np.array(OKABE_ITO)[name_of[clusters]]
            ax.scatter(*X.T, c=colours, s=4, linewidths=0)
            ax.set(xticks=[], yticks=[], aspect="equal")
            accuracy = clustering_accuracy(y, clusters)
            ax.set_xlabel(f"accuracy {accuracy:.2f}", color=INK)
            if row == 0:
                ax.set_title(f"{name}, K = {k}", color=INK)
            if column == 0:
                ax.set_ylabel(method, color=INK)
    set_title(figure, "The same rows, clustered by three methods; K is given")
    return figure


def draw_atoms() -> Figure:
    """Draw the atoms of the moons' two components, and the density that they give."""
    X, _ = make_moons(600, noise=0.07, random_state=0)
    mixture = FlowMixture(2, max_epochs=0, random_state=0).fit(X)
    model = mixture.model_
    base = model.flows.base
    assert isinstance(base, GaussianMixtureBase)
    figure = new_figure(8, 4.6)
    ax = figure.subplots()
    clusters = mixture.predict(X)
    ax.scatter(*X.T, c=np.array(OKABE_ITO)[clusters], s=5, linewidths=0, alpha=0.6)
    circle = torch.linspace(0, 2 * torch.pi, 100)
    unit = 2 * torch.stack([circle.cos(), circle.sin()], dim=1)
    with torch.no_grad():
        matrix, offset, _ = base._maps()
        for c in range(2):
            for atom in range(matrix.shape[1]):
                if base.logits[c].softmax(dim=0)[atom] < 1e-6:
                    continue
                z = torch.linalg.solve(matrix[c, atom], (unit + offset[c, atom]).mT).mT
                rows, _ = model.flows.from_base(z.expand(2, -1, -1))
                outline = model.standardizer.inverse(rows[c]).numpy()
                ax.plot(*outline.T, color=OKABE_ITO[c], linewidth=1.2)
    ax.set(aspect="equal")
    numbers = " and ".join(str(int((of > -1e3).sum())) for of in base.logits)
    set_title(figure, f"Two components of {numbers} atoms: ellipses of two standard deviations")
    return figure


def draw_metric() -> Figure:
    """Draw clusters that a common size hides, and the rows in the metric within clusters."""
    random = np.random.default_rng(0)
    y = np.arange(600) % 4
    size = 4 * random.normal(size=(600, 1))
    X = size * [1, 1] + y[:, None] * [0.6, -0.6] + 0.12 * random.normal(size=(600, 2))
    standardised = (X - X.mean(axis=0)) / X.std(axis=0)
    mixture = FlowMixture(4, random_state=0).fit(X)
    found = mixture.predict(X)
    deviations = X - np.array([X[found == c].mean(axis=0) for c in range(4)])[found]
    root = np.linalg.cholesky(np.cov(deviations.T))
    by_kmeans = KMeans(4, n_init=10, random_state=0).fit_predict(standardised)
    panels = [
        (standardised, by_kmeans, "k-means, standardised columns"),
        (standardised, found, "FlowMixture, standardised columns"),
        (np.linalg.solve(root, X.T).T, found, "FlowMixture, metric within clusters"),
    ]
    figure = new_figure(11, 3.9)
    for ax, (rows, clusters, title) in zip(figure.subplots(1, 3), panels, strict=True):
        ax.scatter(*rows.T, c=np.array(OKABE_ITO)[clusters], s=4, linewidths=0)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, color=INK)
        ax.set_xlabel(f"accuracy {clustering_accuracy(y, clusters):.2f}", color=INK)
    set_title(figure, "Four clusters that differ less than their common size")
    return figure


def draw_number() -> Figure:
    """Draw the choice of K for the pinwheel."""
    X, _ = Pinwheel().sample(200, random_state=0)
    mixture = FlowMixture(n_components="auto", max_epochs=0, random_state=0).fit(X)
    return plot(mixture, kind="number")


def main() -> None:
    """Draw all pictures."""
    with figure_style():
        drawn = {
            "clusters-shapes": draw_shapes(),
            "clusters-atoms": draw_atoms(),
            "clusters-metric": draw_metric(),
        }
        for name, figure in drawn.items():
            figure.savefig(IMAGES / f"{name}.png")
    draw_number().savefig(IMAGES / "clusters-number.png")


if __name__ == "__main__":
    main()
