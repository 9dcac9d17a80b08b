"""Fits for `test_ranks.py`, run by torchrun in two processes: in_two_processes.py FOLDER.

Each process writes what it saw to FOLDER/RANK.json, and the first one its models.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch

import vmonf.data.source
import vmonf.stream
from vmonf import FlowMixture, Training, ranks
from vmonf.training import TrainingLoop
from vmonf.training.objective import Objective

SMALL = {"init": "kmeans", "base": 1, "random_state": 0, "device": "cpu"}


def curved(n_rows, seed=0):
    """Rows of three curved clusters."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 3, n_rows)
    x = random.standard_normal((n_rows, 2))
    x[:, 1] += x[:, 0] ** 2
    return x + np.array([[-6.0, 0], [6, 0], [0, 9]])[cluster]


def fifty_steps(**options):
    """Five epochs of ten steps, in batches that two processes cannot halve."""
    # Where a gradient is almost zero, a step amplifies its rounding in proportion to the rate.
    training = Training(batch_size=161, learning_rate=0.001, refine_posterior=False)
    mixture = FlowMixture(3, max_epochs=5, training=training, **SMALL)
    return mixture.fit(curved(2020), **options)


def to_the_end():
    """A fit with pretraining, atoms, labels and weights that ends by its patience."""
    x = curved(1000)
    label = np.where(np.arange(1000) % 10 == 0, (x[:, 0] > 3).astype(int), -1)
    weight = 0.5 + np.arange(1000) % 3
    training = Training(batch_size=200, patience=5, pretrain_epochs=2)
    parameters = SMALL | {"base": "auto", "max_epochs": 40, "training": training}
    return FlowMixture(3, **parameters).fit(x, label, weight)


def of_stream(folder, stretch, **training):
    """A fit to files that are read in parts."""
    vmonf.stream.SAMPLE_ROWS, vmonf.stream.BUFFER_VALUES = 1000, 3000
    vmonf.data.source.STRETCH_ROWS = stretch
    training = Training(epoch_rows=2000, batch_size=100, refine_posterior=False, **training)
    return FlowMixture(3, max_epochs=4, training=training, **SMALL).fit(folder)


def write_files(folder, n_files=4):
    """Files whose rows fill 41 stretches of 100, 11 in each file."""
    folder.mkdir()
    for number, x in enumerate(np.array_split(curved(4030), n_files)):
        frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1]})
        frame.write_parquet(folder / f"{number}.parquet", compression="uncompressed")


def damage(folder):
    """Overwrite the rows of a file, but not its description."""
    path = folder / "2.parquet"
    content = bytearray(path.read_bytes())
    content[10 : len(content) // 2] = bytes(len(content) // 2 - 10)
    path.write_bytes(content)


class Once:
    """Replaces a method of the process with this rank in one of its calls."""

    def __init__(self, owner, name, rank, call, then):
        self.owner, self.name, self.rank, self.call, self.then = owner, name, rank, call, then
        self.method, self.n_calls = getattr(owner, name), 0

    def __enter__(self):
        def replaced(this, *args, **kwargs):
            self.n_calls += 1
            result = self.method(this, *args, **kwargs)
            if ranks.rank() == self.rank and self.n_calls == self.call:
                return self.then(result)
            return result

        setattr(self.owner, self.name, replaced)

    def __exit__(self, *_):
        setattr(self.owner, self.name, self.method)


def error_of(function, *args, **kwargs):
    """The class and message of the error that a call raises."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        return [type(error).__name__, str(error), notes, ranks.is_told_by_first(error)]
    return None


def fail(mixture):
    """A watcher that fails after three epochs."""
    if mixture.n_epochs_ == 3:
        raise OSError("no space left")


def press_ctrl_c(result):
    os.kill(os.getpid(), signal.SIGINT)
    return result


def main(folder):
    torch.set_num_threads(1)
    found = {}
    with ranks.joined(timeout=60):
        rank = ranks.rank()
        models = {"fifty_steps": fifty_steps(), "to_the_end": to_the_end()}
        with Once(Objective, "__call__", 1, 12, lambda result: (result[0] * torch.nan, result[1])):
            models["recovered"] = fifty_steps()
        with Once(TrainingLoop, "_step", 1, 25, press_ctrl_c):
            models["interrupted"] = fifty_steps()
        sparse = FlowMixture(20, max_epochs=1, training=Training(components_per_row=3), **SMALL)
        models["sparse"] = sparse.fit(curved(800))
        found["models"] = {
            name: [float(p.double().sum()) for p in mixture.model_.parameters()]
            for name, mixture in models.items()
        }
        found["epochs"] = {name: mixture.n_epochs_ for name, mixture in models.items()}
        found["other rows"] = error_of(FlowMixture(3, **SMALL).fit, curved(500, seed=rank))
        found["first fails"] = error_of(fifty_steps, watchers=[fail])

        own = folder / f"data-{rank}"
        write_files(own)
        models["stream"] = of_stream(own, 100)
        models["one stretch"] = of_stream(own, 5000)
        found["held out"] = {name: m.held_out_log_likelihood_ for name, m in models.items()}
        if rank == 1:
            damage(own)
        found["damaged"] = error_of(of_stream, own, 100)
        if rank == 1:
            (own / "2.parquet").unlink()
        found["missing"] = error_of(of_stream, own, 100)
        if rank == 1:
            (own / "3.parquet").write_text("no table")
        found["unreadable"] = error_of(of_stream, own, 100)
    if rank == 0:
        for name, mixture in models.items():
            mixture.save(folder / f"{name}.vmonf")
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
