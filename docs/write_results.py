"""Write docs/results.md and the README's results table from the results files: `make results`.

    python docs/write_results.py

`vmonf reproduce` wrote the files in docs/results/, one for each experiment.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from vmonf.experiments.tables import HEADS, PAPER, cell, parts_of, table, write_between_marks

DOCS = Path(__file__).parent
CONTINGENCIES = {"mnist": ("paper's settings", "ours, no labels")}
EPOCHS = {"mnist": ("ours, no labels",)}
IMAGES = {
    "pinwheel": (
        ("The paper's settings, seed 0 (its figures 1a and 1b)", "pinwheel-papers-settings.png"),
        ("Ours, deeper, seed 0", "pinwheel-ours-deeper.png"),
    ),
    "two-circles": (
        ("The paper's settings, seed 0 (its figure 2)", "two-circles-papers-settings.png"),
        ("From the graph, splines, seed 0", "two-circles-from-the-graph-splines.png"),
    ),
    "components": (
        (
            "Ten components, the paper's start, seed 0",
            "components-number-K-10-the-papers-start.png",
        ),
        (
            "Ten components, the paper's start, learned weights, seed 0",
            "components-number-K-10-the-papers-start-learned-weights.png",
        ),
        ("Ten components, our start, seed 0", "components-number-K-10-our-start.png"),
    ),
    "mnist": (
        ("Ours, no labels, seed 0", "mnist-ours-no-labels.png"),
        ("The paper's settings, seed 0", "mnist-papers-settings.png"),
    ),
}
#: The sections of the page, in their order.
TITLES = {
    "pinwheel": "Pinwheel",
    "two-circles": "Two circles",
    "mnist": "MNIST, digits 0 to 4",
    "components": "Questions that the paper leaves open",
}
#: Rows of the README's table: title, experiment, our case, the paper's case, and measured value.
README = (
    ("Pinwheel, no labels: accuracy", "pinwheel", "ours, deeper", "paper's settings", "accuracy"),
    (
        "Pinwheel: nats below the true density",
        "pinwheel",
        "ours, deeper",
        "paper's settings",
        "below_truth",
    ),
    *(
        (
            f"Two circles, {words}: {head}",
            "two-circles",
            f"from the graph, splines: {rows}",
            f"paper's settings: {rows}",
            figure,
        )
        for rows, words in (
            ("0 labels + 1024", "no labels"),
            ("11 labels + 1024", "11 labels"),
            ("64 labels + 1024", "64 labels"),
        )
        for figure, head in (("accuracy", "accuracy"), ("stray", "share of stray samples"))
    ),
    (
        "MNIST 0 to 4, no labels: accuracy",
        "mnist",
        "ours, no labels",
        "paper's settings",
        "accuracy",
    ),
    ("MNIST 0 to 4, 100 labels: accuracy", "mnist", "ours, 100 labels", None, "accuracy"),
)
HEAD = """# The paper's experiments, reproduced

`make results` writes this page from `docs/results/`; no number is typed by hand. Each section gives
the command and the machine. Results are on fresh rows, and log-likelihoods are in nats per row.
Values are means over seeds, with the lowest and the highest in brackets. The paper does not give
its temperatures: with its settings, ours are used, from 10 to 1 over the first half of the epochs.
"""


def section(name: str) -> list[str]:
    """Return the lines of an experiment's section."""
    document = read(name)
    versions = ", ".join(f"{package} {which}" for package, which in document["versions"].items())
    lines = [
        f"## {TITLES[name]}",
        "",
        f"`{document['command']}`; {versions}; {document['machine']}, "
        f"{document['threads']} thread{'s' * (document['threads'] > 1)}.",
        "",
    ]
    for part in parts_of(name):
        heads = ["", *(HEADS[figure] for figure in part.figures)]
        lines += [f"### {part.title}", ""] if part.title else []
        lines += [f"| {' | '.join(heads)} |", "|---|" + "---:|" * len(part.figures)]
        rows = table(document, part.figures, part.prefix)
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += [PAPER[name], ""]
    for case in CONTINGENCIES.get(name, ()):
        lines += contingency(document, case)
    for case in EPOCHS.get(name, ()):
        lines += epochs(document, case)
    for caption, file in IMAGES[name]:
        lines += [f"{caption}:", "", f"![{caption}](images/{file})", ""]
    return lines


def contingency(document: dict[str, Any], case: str) -> list[str]:
    """Return a table of the shares of each digit's images in each cluster, for the first seed."""
    fit = document["fits"][f"{case}, seed 0"]
    n_clusters = len(fit["contingency"][0])
    both = zip(fit["train_contingency"], fit["contingency"], strict=True)
    lines = [
        f"Share of each digit's images in each cluster (training, test), {case}, seed 0:",
        "",
        "| digit | " + " | ".join(f"cluster {c}" for c in range(n_clusters)) + " |",
        "|---|" + "---:|" * n_clusters,
    ]
    for digit, (train, test) in enumerate(both):
        cells = (
            f"{a / sum(train):.2f}, {b / sum(test):.2f}" for a, b in zip(train, test, strict=True)
        )
        lines.append(f"| {digit} | {' | '.join(cells)} |")
    return [*lines, ""]


def epochs(document: dict[str, Any], case: str) -> list[str]:
    """Return a table of the test results after each epoch, for the first seed."""
    fit = document["fits"][f"{case}, seed 0"]
    lines = [
        f"Results on the test images after each epoch, {case}, seed 0. The start's clusters have "
        f"an accuracy of {fit['start_accuracy']:.3f} on the training images. Epoch 0 is after "
        f"pretraining on these clusters. Epoch {fit['best_epoch']} has the highest likelihood of "
        "held-out training images and was kept.",
        "",
        "| epoch | accuracy of q | accuracy, exact | log-likelihood |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {epoch['epoch']} | {epoch['accuracy']:.3f} | {epoch['accuracy_exact']:.3f} | "
        f"{epoch['log_likelihood']:.1f} |"
        for epoch in fit["epochs"]
    ]
    return [*lines, ""]


def readme_table() -> list[str]:
    """Return the table of results with our settings and with the paper's."""
    lines = [
        "Results of the paper's experiments on fresh rows or test images, with our settings for "
        "each and with the paper's, both run with vmonf: mean [lowest, highest] over seeds, or the "
        "value of a single seed. Written by `make results`; all results and figures are in "
        "[docs/results.md](docs/results.md).",
        "",
        "| | ours | the paper's settings |",
        "|---|---:|---:|",
    ]
    for words, name, ours, paper, figure in README:
        document = read(name)
        cells = cell(document, ours, figure), cell(document, paper, figure) if paper else ""
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


@cache
def read(name: str) -> dict[str, Any]:
    """Return the content of an experiment's results file."""
    document: dict[str, Any] = json.loads(path_of(name).read_text(encoding="utf-8"))
    return document


def path_of(name: str) -> Path:
    """Return the results file of an experiment. An experiment without one has no section."""
    return DOCS / "results" / f"{name}.json"


def main() -> None:
    """Write the page and the table in the README."""
    text = "\n".join(
        [HEAD, *(line for name in TITLES if path_of(name).exists() for line in section(name))]
    )
    (DOCS / "results.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    write_between_marks(DOCS.parent / "README.md", "results", readme_table())


if __name__ == "__main__":
    main()
