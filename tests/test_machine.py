"""Tests of threads in forked processes."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal
import numpy as np
import torch
torch.set_num_threads(2)
from vmonf import FlowMixture
X = np.random.default_rng(0).normal(size=(20000, 4))
mixture = FlowMixture(2, max_epochs=0, init="kmeans", base=1, random_state=0).fit(X[:2000])
scores = mixture.score_samples(X)
child = os.fork()
if child == 0:
    signal.alarm(100)
    same = np.array_equal(mixture.score_samples(X), scores)
    again = FlowMixture(2, max_epochs=0, init="kmeans", base=1, random_state=0).fit(X[:2000])
    np.testing.assert_allclose(again.score_samples(X), scores, rtol=1e-5)
    os._exit(0 if same and torch.get_num_threads() == 1 else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.long
def test_a_forked_process_scores_and_fits_as_its_parent():
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=True,
    )
    assert done.stdout.split() == ["0", "2"]
