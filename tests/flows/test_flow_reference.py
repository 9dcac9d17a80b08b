"""Flows equal a float64 loop over components, rows and features that shares no code."""

import numpy as np
import pytest
import torch


def reference(oracle, flows, rows):
    """The oracle for (K, B, D) rows: (K, B)."""
    return np.array(
        [[oracle(flows, c, row) for row in own] for c, own in enumerate(rows.double().numpy())]
    )


@pytest.mark.parametrize("deviations", [1.0, 20.0], ids=["near", "far"])
@pytest.mark.parametrize(
    ("mixing", "diagonal"), [("permutation", False), ("lu", False), ("permutation", True)]
)
def test_log_prob_equals_a_loop_in_float64(
    family, n_features, dtype, make_flows, oracle, mixing, diagonal, deviations
):
    flows = make_flows(
        family, 3, n_features, dtype=dtype, mixing=mixing, diagonal_whitening=diagonal
    )
    z = deviations * torch.randn(3, 4, n_features, dtype=dtype)
    rows, _ = flows.whitening.inverse(z)
    rows = rows.detach().requires_grad_()

    log_prob = flows.log_prob(rows)
    (gradient,) = torch.autograd.grad(log_prob.sum(), rows)

    # Rounding of the rows, of the layers' values and of the sum itself.
    sensitivity = (rows * gradient).double().abs().sum(dim=-1)
    scale = n_features + log_prob.double().abs() + sensitivity
    tolerance = 50 * torch.finfo(dtype).eps * scale.detach().numpy()
    error = np.abs(log_prob.double().detach().numpy() - reference(oracle, flows, rows.detach()))
    assert (error <= tolerance).all()


def test_an_odd_number_of_layers_and_no_hidden_layer_equal_the_loop(family, make_flows, oracle):
    for n_layers, hidden in ((1, (8,)), (3, ()), (0, (8,))):
        flows = make_flows(family, 2, 3, n_layers=n_layers, hidden=hidden)
        rows = 2 * torch.randn(2, 4, 3, dtype=torch.float64)
        with torch.no_grad():
            np.testing.assert_allclose(
                flows.log_prob(rows).numpy(), reference(oracle, flows, rows), rtol=1e-10
            )
