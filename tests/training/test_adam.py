"""Tests of Adam without torch's compiler."""

import copy
import subprocess
import sys

import torch

from vmonf.training.adam import AdamW

FIT = """
import sys, warnings, numpy as np
from vmonf import FlowMixture
X = np.random.default_rng(0).standard_normal((200, 2))
mixture = FlowMixture(2, random_state=0, max_epochs=2, init="kmeans").fit(X)
mixture.save(sys.argv[1])
FlowMixture.load(sys.argv[1]).score(X)
mixture.sample(5)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(3, 4, generator=generator)) for _ in range(2)]


def trained(kind, n_steps, state=None):
    own = parameters()
    optimizer = kind([{"params": own[:1], "weight_decay": 0.1}, {"params": own[1:]}], lr=0.01)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
    for step in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        sum((p.sin() * (step + 1)).square().sum() for p in own).backward()
        optimizer.step()
    return own, optimizer.state_dict()


def test_it_is_torchs_own():
    ours, state = trained(AdamW, 20)
    theirs, expected = trained(torch.optim.AdamW, 20)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    assert state["param_groups"] == expected["param_groups"]
    for a, b in zip(
        trained(AdamW, 5, state)[0], trained(torch.optim.AdamW, 5, state)[0], strict=True
    ):
        assert torch.equal(a, b)


def test_a_fit_does_not_import_the_compiler(tmp_path):
    command = [sys.executable, "-c", FIT, str(tmp_path / "model.vmonf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
