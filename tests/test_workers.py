"""Tests of fits in threads and worker processes, and of what a fit leaves as it was."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from threadpoolctl import ThreadpoolController, threadpool_info

from vmonf import FlowMixture, PosteriorMLP, RealNVP
from vmonf.machine import blas_threads_kept, one_blas_thread

QUICK = {
    "flow": RealNVP(n_layers=2, hidden=(16,)),
    "posterior": PosteriorMLP(hidden=(16,)),
    "max_epochs": 3,
    "validation_fraction": 0,
    "random_state": 0,
}
SCRIPT = Path(__file__).with_name("in_workers.py")
KINDS = ["loky", "threading", "spawn", *(["fork"] if hasattr(os, "fork") else [])]


@pytest.fixture(scope="module")
def rows():
    X, _ = make_blobs(300, centers=[[-5, 0], [5, 0], [0, 6]], random_state=0)
    return X


def in_new_thread(function):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


@pytest.fixture
def two_threads():
    """Two threads of torch, BLAS and OpenMP, so that a change to one is seen."""
    libraries = ThreadpoolController()
    blas = libraries.select(user_api="blas")
    # No other thread could set the number of BLAS as long as the one that set it lives.
    before = in_new_thread(lambda: blas.limit(limits=2))
    torch.set_num_threads(2)
    with libraries.select(user_api="openmp").limit(limits=2):
        yield
    torch.set_num_threads(1)
    in_new_thread(before.restore_original_limits)


def threads_of_blas():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def global_state():
    """Settings of the process, as the calling thread and a new one see them."""
    return {
        "threads": torch.get_num_threads(),
        "threads of new threads": in_new_thread(torch.get_num_threads),
        "threads of OpenMP": [
            each["num_threads"] for each in threadpool_info() if each["user_api"] == "openmp"
        ],
        "between operations": torch.get_num_interop_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": str(np.random.get_state()),
        "generator": random.getstate(),
        "warnings": list(warnings.filters),
        "shown by": warnings.showwarning,
        "errors of numbers": np.geterr(),
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "collector": (gc.isenabled(), gc.get_threshold()),
    }


@pytest.mark.usefixtures("two_threads")
def test_a_fit_in_a_thread_changes_nothing_that_other_threads_see(rows):
    FlowMixture(3, **QUICK).fit(rows)  # loads what libraries load late
    before, of_blas = global_state(), threads_of_blas()
    seen, ends = [], []

    def look(_):
        seen.append((torch.get_num_threads(), observer.submit(global_state).result()))

    def fit():
        ends.append(global_state())
        FlowMixture(3, **QUICK).fit(rows, watchers=[look]).sample(10)
        ends.append(global_state())

    with ThreadPoolExecutor(1) as observer, ThreadPoolExecutor(1) as worker:
        # OpenMP has a number for each thread, which begins as that of the environment.
        of_observer = observer.submit(global_state).result()
        worker.submit(fit).result()
    assert len(seen) == 1 + QUICK["max_epochs"]
    for of_fit, of_others in seen:
        assert of_fit == 1  # the fit itself uses one
        assert of_others == of_observer
    assert ends[0] == ends[1]
    assert global_state() == before
    assert of_observer["threads of new threads"] == 2
    assert threads_of_blas() == of_blas


@pytest.mark.usefixtures("two_threads")
def test_threads_of_blas_are_restored_in_any_order_of_the_ends():
    before = threads_of_blas()
    assert set(before) == {2}
    ends = {name: threading.Event() for name in ("first", "second")}
    begun = {name: threading.Event() for name in ends}

    def use(name):
        with blas_threads_kept(), one_blas_thread():
            begun[name].set()
            assert ends[name].wait(60)

    with ThreadPoolExecutor(2) as pool:
        futures = {}
        for name in ends:
            futures[name] = pool.submit(use, name)
            assert begun[name].wait(60)
        ends["first"].set()
        futures["first"].result()
        assert set(threads_of_blas()) == {1}
        ends["second"].set()
        futures["second"].result()
    assert threads_of_blas() == before


@pytest.mark.usefixtures("two_threads")
def test_fits_that_overlap_leave_the_threads_as_they_were(rows, monkeypatch):
    before = threads_of_blas()
    both = threading.Barrier(2, timeout=60)
    fit = KMeans.fit

    def overlapping(self, *args, **kwargs):
        """Begin and end k-means in turn, which is the order that loses the number."""
        limited = ThreadpoolController().limit(limits=1, user_api="blas")
        both.wait()
        limited.restore_original_limits()
        both.wait()
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(KMeans, "fit", overlapping)
    with ThreadPoolExecutor(2) as pool:
        mixtures = [FlowMixture(2, init="kmeans", base=1, **QUICK) for _ in range(2)]
        one, two = pool.map(lambda mixture: mixture.fit(rows), mixtures)
    assert threads_of_blas() == before
    np.testing.assert_array_equal(one.score_samples(rows), two.score_samples(rows))


def test_threads_that_share_a_mixture_get_the_numbers_of_one(rows):
    mixture = FlowMixture(3, **QUICK).fit(rows)
    calls = [
        lambda: mixture.sample(200, random_state=1)[0],
        lambda: mixture.score_samples(rows),
        lambda: mixture.sample(50, component=1, random_state=2)[0],
        lambda: mixture.predict_proba(rows, method="exact"),
        lambda: mixture.predict_proba(rows),
    ]
    alone = [call() for call in calls]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda call: call(), calls * 40))
    for index, values in enumerate(found):
        np.testing.assert_array_equal(values, alone[index % len(calls)])


def test_workers_of_each_kind_get_the_numbers_of_one_process():
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, *KINDS],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines() == [f"{kind} same" for kind in KINDS], done.stderr
