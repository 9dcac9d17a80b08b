"""Write docs/results.md from the results files: `make results`.

    python docs/write_results.py

The files in docs/results/ are those that `vmonf reproduce` wrote, one an experiment.
"""

import json
from pathlib import Path

from vmonf.experiments.tables import FIGURES, HEADS, PAPER, table

DOCS = Path(__file__).parent
TITLES = {"pinwheel": "Pinwheel", "two-circles": "Two circles", "mnist": "MNIST, digits 0 to 4"}
HEAD = """# The paper's experiments, reproduced

Written from `docs/results/` by `make results`; no number here is typed by hand. Each section names
the command that ran, and the machine. Rows are fresh, log-likelihoods in nats per row; figures are
means over seeds with the lowest and the highest in brackets.
"""


def section(name: str) -> list[str]:
    """A title, where it comes from, and the table."""
    document = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{package} {which}" for package, which in document["versions"].items())
    figures = FIGURES[name]
    heads = ["", *(HEADS[figure] for figure in figures)]
    lines = [
        f"## {TITLES[name]}",
        "",
        f"`{document['command']}`; {versions}; {document['machine']}, "
        f"{document['threads']} threads.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "---:|" * len(figures),
    ]
    lines += [f"| {' | '.join(row)} |" for row in table(document, figures)]
    return [*lines, "", PAPER[name], ""]


def main() -> None:
    """Write the page."""
    names = [name for name in FIGURES if (DOCS / "results" / f"{name}.json").exists()]
    text = "\n".join([HEAD, *(line for name in names for line in section(name))])
    (DOCS / "results.md").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
