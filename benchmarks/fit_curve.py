"""One fit in a process of its own: the quality on test rows against the seconds of the fit.

`time_to_quality.py` starts this script with a folder, which has the rows as X.npy, X_test.npy and,
if there are classes, labels.npy, and with a point: the contestant, and what it needs. The script
prints a line of JSON for each reading: seconds, mean log-likelihood of the test rows in nats, and
cluster accuracy. The clock excludes imports and the time of the readings. The process ends with
the fit, when a reading reaches the level `until`, after `cap` seconds, or on SIGTERM, which ends a
long fit by hand without losing its readings.

Seconds are processor time. With one thread that is the time on a machine that does nothing else,
and does not grow when other programs run.

Of vmonf it uses nothing that old versions lack, so that PYTHONPATH says which version is fitted.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import PEERS, Architecture
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture
from vmonf.metrics import clustering_accuracy

LEARNING_RATE = 1e-3
#: Seconds of training between two readings of a peer.
SECONDS_A_READING = 0.5
#: The peers' batches: larger for large tables, as ours are.
MANY_ROWS, BATCH_SIZE, LARGE_BATCH_SIZE = 50_000, 256, 1024
#: The initial temperature of a peer with decay falls to one over this many epochs. The exponential
#: form is the paper's. Of temperatures 3, 5 and 20 and of 20, 60 and 150 epochs, 5 and 60 gave the
#: peers their best results.
TEMPERATURE_EPOCHS = 60


class Readings:
    """The clock of a fit, which stands still while the test rows are scored.

    Parameters
    ----------
    X_test : array of shape (n, D)
    labels : int array of shape (n,) or None
    until : float or None
        The process ends when a reading is at least this, in nats.
    cap : float
        The process ends after this many seconds of the fit.
    """

    def __init__(
        self, X_test: np.ndarray, labels: np.ndarray | None, until: float | None, cap: float
    ) -> None:
        self.X_test = X_test
        self.labels = labels
        self.until = until
        self.cap = cap
        self.seconds = 0.0
        self.resumed = 0.0

    def begin(self) -> None:
        """Start the clock."""
        for name in (signal.SIGPROF, signal.SIGTERM):
            signal.signal(name, lambda *_: self._stopped())
        self._resume()

    def take(
        self,
        score: Callable[[np.ndarray], float],
        clusters: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Score the test rows, and print a reading."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seconds += time.process_time() - self.resumed
        reading = {"seconds": self.seconds, "log_likelihood": float(score(self.X_test))}
        if clusters is not None and self.labels is not None:
            reading["accuracy"] = float(clustering_accuracy(self.labels, clusters(self.X_test)))
        print(json.dumps(reading), flush=True)
        if self.until is not None and reading["log_likelihood"] >= self.until:
            os._exit(0)
        self._resume()

    def _resume(self) -> None:
        self.resumed = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, max(1e-6, self.cap - self.seconds))

    def _stopped(self) -> None:
        """End the process, wherever it is: a fit is not left in an orderly way."""
        self.seconds += time.process_time() - self.resumed
        print(json.dumps({"stopped": self.seconds}), flush=True)
        os._exit(0)


def flow_mixture(
    X: np.ndarray, components: int, seed: int, readings: Readings, **settings: Any
) -> None:
    """Fit ours, with a reading after each epoch and one of the final mixture."""

    def read(mixture: FlowMixture) -> None:
        readings.take(mixture.score, mixture.predict)

    mixture = FlowMixture(components, random_state=seed).set_params(**settings)
    has_watchers = "watchers" in inspect.signature(FlowMixture.fit).parameters
    watching: dict[str, Any] = {"watchers": [read]} if has_watchers else {"on_epoch": read}
    readings.begin()
    mixture.fit(X, **watching)
    read(mixture)


def peer(
    X: np.ndarray,
    components: int,
    seed: int,
    readings: Readings,
    name: str,
    layers: int,
    hidden: tuple[int, int],
    temperature: float,
) -> None:
    """Train K flows of another library on standardised rows, in random batches, without end."""
    for module in PEERS[name].modules:
        import_module(module)
    readings.begin()
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    architecture = Architecture("realnvp", components, X.shape[1], layers, tuple(hidden))
    trained = PEERS[name](architecture, LEARNING_RATE, seed)
    x = trained.rows((X - mean) / deviation)
    x_test = trained.rows((readings.X_test - mean) / deviation)
    log_det = -float(np.log(deviation).sum())
    random = np.random.default_rng(seed)
    batch_size = LARGE_BATCH_SIZE if len(X) > MANY_ROWS else min(BATCH_SIZE, len(X))
    epoch, next_reading = 0, readings.resumed + SECONDS_A_READING
    while True:
        order = random.permutation(len(X))
        decayed = temperature ** max(0.0, 1 - epoch / TEMPERATURE_EPOCHS)
        # The rows beyond whole batches are left out, since a new shape would be compiled again.
        for first in range(0, len(X) - batch_size + 1, batch_size):
            trained.step(x[order[first : first + batch_size]], decayed)
            if time.process_time() >= next_reading:
                readings.take(
                    lambda _: trained.log_likelihood(x_test) + log_det,
                    lambda _: trained.clusters(x_test),
                )
                next_reading = readings.resumed + SECONDS_A_READING
        epoch += 1


def gaussian_mixture(
    X: np.ndarray, components: int, seed: int, readings: Readings, times: int
) -> None:
    """Fit scikit-learn's mixture of full Gaussians, of `times` as many as there are clusters."""
    readings.begin()
    mixture = GaussianMixture(times * components, random_state=seed).fit(X)
    readings.take(mixture.score, mixture.predict if times == 1 else None)


def eight_gaussian_mixtures(X: np.ndarray, components: int, seed: int, readings: Readings) -> None:
    """Fit scikit-learn's mixtures of all types, raw and standardised; the best is scored."""
    from quality import gaussian_mixtures  # it needs a vmonf that is not old

    readings.begin()
    scores = gaussian_mixtures(X, readings.X_test, components, seed)
    readings.take(lambda _: max(scores.values()))


CONTESTANTS: dict[str, Callable[..., None]] = {
    each.__name__: each for each in (flow_mixture, peer, gaussian_mixture, eight_gaussian_mixtures)
}


def run(folder: Path, point: dict[str, Any]) -> None:
    """Run the contestant of a point on the rows of a folder."""
    torch.set_num_threads(point.pop("threads"))
    labels = folder / "labels.npy"
    readings = Readings(
        np.load(folder / "X_test.npy"),
        np.load(labels) if labels.exists() else None,
        point.pop("until"),
        point.pop("cap"),
    )
    contestant = CONTESTANTS[point.pop("contestant")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contestant(np.load(folder / "X.npy"), readings=readings, **point)


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]))
