"""Importing vmonf changes nothing for the program that imports it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import vmonf

# In a process of its own, since this one has imported vmonf already. What vmonf needs is
# imported first: what that changes is not vmonf's doing.
PROGRAM = """
import json, locale, logging, os, random, signal, sys, warnings
import numpy as np, polars, rich, safetensors.torch, sklearn.base, sklearn.cluster
import sklearn.mixture, sklearn.utils.validation, torch, torch.func, typer

def state():
    return {
        "distributions validate": torch.distributions.Distribution._validate_args,
        "distributions' constraints": repr(vars(torch.distributions.Distribution)),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": repr(np.random.get_state()[1].tolist()),
        "random state": repr(random.getstate()),
        "gradients": torch.is_grad_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "flush denormals": (torch.tensor(1e-40) * 1).item() == 0,
        "warnings": repr(warnings.filters),
        "numpy errors": np.geterr(),
        "numpy printing": repr(np.get_printoptions()),
        "torch printing": repr(vars(torch._tensor_str.PRINT_OPTS)),
        "log handlers": [repr(logging.root.handlers), logging.root.level],
        "hooks": [repr(sys.excepthook), repr(sys.displayhook), repr(signal.getsignal(2))],
        "environment": dict(os.environ),
        "path": sys.path,
        "recursion": sys.getrecursionlimit(),
        "locale": locale.getlocale(),
        "sklearn": sklearn.get_config(),
    }

random.seed(0), np.random.seed(0), torch.manual_seed(0)
before = state()
import vmonf, vmonf.data, vmonf.estimator, vmonf.flows, vmonf.model, vmonf.training
vmonf.FlowMixture
after = state()
print(json.dumps([name for name in before if before[name] != after[name]]))
"""


def test_importing_vmonf_leaves_every_global_as_it_was():
    source = str(Path(vmonf.__file__).parents[1])
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == []
