"""Tables that do not fit in memory: peak memory of a fit and of scoring, and the rate of training.

    python benchmarks/streaming.py [--threads N]
    python benchmarks/streaming.py --write-page    # the page's table, from the results file

Rows of ten features, of eight curved clusters of unequal size, are written to Parquet files of a
million rows each in a temporary folder. For each number of rows, a process of its own fits
`FlowMixture` to the folder, from k-means and for few epochs, then writes the density of each row to
a Parquet file, as `vmonf score` does. Memory is the largest resident set of that process,
with all libraries. The rate of training is that of the epochs, in which held-out rows are scored.
Filling the buffer counts in proportion to the rows that are trained on. It is compared with the
same fit to a smaller table in memory, with epochs of the same number of rows, and, less subject to
the load of the machine, with the same process without the time in which it fills the buffer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import common
import numpy as np
import polars

import vmonf.stream
from vmonf import FlowMixture, Training
from vmonf.cli.score import score
from vmonf.data import open_source

FEATURES = 10
COMPONENTS = 8
ROWS = (2_000_000, 20_000_000)
MEMORY_ROWS = 200_000
FILE_ROWS = 1_000_000
EPOCHS = 4


def write_rows(folder: Path, n_rows: int) -> None:
    """Write rows of curved clusters, in random order, to files."""
    random = np.random.default_rng(0)
    centres = 4 * random.standard_normal((COMPONENTS, FEATURES))
    shares = random.dirichlet(np.full(COMPONENTS, 5.0))
    names = [f"x{column}" for column in range(FEATURES)]
    for number, start in enumerate(range(0, n_rows, FILE_ROWS)):
        n = min(FILE_ROWS, n_rows - start)
        x = random.standard_normal((n, FEATURES))
        x[:, 1::2] += 0.5 * x[:, ::2] ** 2
        x += centres[random.choice(COMPONENTS, n, p=shares)]
        path = folder / f"{number:04}.parquet"
        polars.DataFrame(x, schema=names).write_parquet(path)


def measure(folder: str, quick: bool, memory: bool) -> dict[str, float]:
    """Fit and score in this process: from files, or from memory."""
    training = Training(epoch_rows=5_000 if quick else 100_000)
    if quick:
        vmonf.stream.SAMPLE_ROWS = 5_000
    mixture = FlowMixture(
        COMPONENTS,
        init="kmeans",
        base=1,
        max_epochs=EPOCHS,
        training=training,
        device="cpu",
        random_state=0,
    )
    source = open_source(folder)
    rows: Any = polars.concat(source.in_order(source.columns)) if memory else folder
    with common.watched(vmonf.stream.Stream, "_filled") as filled:
        began = time.perf_counter()
        mixture.fit(rows)
        fitted = time.perf_counter()
    seconds = mixture.history_["seconds"]
    # The clock of the epochs begins before the pretraining, so that the first is left out.
    trained = (EPOCHS - 1) * training.epoch_rows
    per_row = (seconds[-1] - seconds[0]) / trained
    result = {"fit_seconds": fitted - began, "training_seconds_a_row": per_row}
    result["held_out_log_likelihood"] = mixture.held_out_log_likelihood_
    result["fit_peak_mebibytes"] = common.largest_resident_set()
    if memory:
        return result
    in_buffer = source.n_rows / max(1, -(-source.n_rows * FEATURES // vmonf.stream.BUFFER_VALUES))
    filling = np.mean([end - begin for begin, end in filled]) / in_buffer
    # The first filling is in the first epoch, and the next ones are after the last.
    assert len(filled) == 1 or quick
    result["filling_seconds_a_row"] = float(filling)
    result["training_seconds_a_row"] = per_row + float(filling)
    with tempfile.TemporaryDirectory() as results:
        model = Path(results, "model.vmonf")
        mixture.save(model)
        began = time.perf_counter()
        score(model, folder, Path(results, "scores.parquet"), quiet=True)
        result["score_seconds"] = time.perf_counter() - began
    result["peak_mebibytes"] = common.largest_resident_set()
    return result


def runs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure a table in memory, and every number of rows from files."""
    sizes = (10_000, 10_000, 20_000) if arguments.quick else (MEMORY_ROWS, *ROWS)
    for number, n_rows in enumerate(sizes):
        memory = number == 0
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder), n_rows)
            point = {"folder": folder, "quick": arguments.quick, "memory": memory}
            yield {
                "rows": n_rows,
                "from": "memory" if memory else "files",
                **common.in_fresh_process(arguments, point),
            }


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [
        common.source(document, "streaming"),
        "",
        "| rows | from | peak of the fit, MiB | peak with scoring, MiB | fit, s | score, s "
        "| training, rows/s | of that from memory | of that without reading |",
        "|---" * 9 + "|",
    ]
    of_memory = document["runs"][0]
    for run in document["runs"]:
        peak = f"{run['peak_mebibytes']:,.0f}" if "peak_mebibytes" in run else ""
        scored = f"{run['score_seconds']:,.0f}" if "score_seconds" in run else ""
        seconds = run["training_seconds_a_row"]
        ratio = of_memory["training_seconds_a_row"] / seconds
        without = 1 - run.get("filling_seconds_a_row", 0.0) / seconds
        lines.append(
            f"| {run['rows']:,} | {run['from']} | {run['fit_peak_mebibytes']:,.0f} | {peak} "
            f"| {run['fit_seconds']:,.0f} | {scored} | {1 / seconds:,.0f} "
            f"| {ratio:.2f} | {without:.2f} |"
        )
    return lines


def main() -> None:
    """Run, print, and write the results file after each part."""
    common.run(__doc__, "streaming", common.each("runs", runs), page, point=measure, threads=1)


if __name__ == "__main__":
    main()
