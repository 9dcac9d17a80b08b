"""A few components a row: the estimate is the ELBO on average, and costs what it evaluates."""

import pytest
import torch

from vmonf.model import SparseTerms
from vmonf.model.sparse import LIKELY, Pairs, choose_pairs
from vmonf.rows import Rows, unlabelled_rows
from vmonf.training import bound_objective
from vmonf.training.objective import Evaluation

K = 12


def log_posterior_of(rows, sharpness, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(rows, K, generator=generator, dtype=torch.float64)
    return logits.log_softmax(dim=-1)


def unknown(rows):
    return torch.full((rows,), -1)


class TestChosenPairs:
    @pytest.mark.parametrize("sharpness", [0.0, 1.0, 5.0, 1000.0])
    @pytest.mark.parametrize("n_likely", [1, 4])
    def test_likely_components_are_certain_and_one_other_is_drawn(self, sharpness, n_likely):
        log_posterior = log_posterior_of(50, sharpness)
        pairs = choose_pairs(log_posterior, unknown(50), n_likely, torch.Generator().manual_seed(0))
        assert len(set(zip(pairs.row.tolist(), pairs.component.tolist(), strict=True))) == len(
            pairs.row
        )
        for row in range(50):
            mine = pairs.row == row
            certain = pairs.component[mine & (pairs.chance == 1)].tolist()
            share = log_posterior[row].exp()
            ranked = share.argsort(descending=True, stable=True)[:n_likely].tolist()
            expected = [c for c in ranked if share[c] >= LIKELY] or ranked[:1]
            if sharpness:  # else all are equal
                assert sorted(certain) == sorted(expected)
            assert int((mine & (pairs.chance < 1)).sum()) == 1

    def test_chances_are_those_of_the_draw(self):
        log_posterior = log_posterior_of(1, 1.0).expand(40_000, K)
        pairs = choose_pairs(log_posterior, unknown(40_000), 2, torch.Generator().manual_seed(0))
        for component in range(K):
            mine = pairs.component == component
            if (pairs.chance[mine] == 1).any():
                assert int(mine.sum()) == 40_000
            else:
                assert float(mine.double().mean() * len(mine) / 40_000) == pytest.approx(
                    float(pairs.chance[mine][0]), abs=0.01
                )

    def test_a_component_that_q_forgot_is_still_seen(self):
        log_posterior = torch.full((4000, K), -1e4, dtype=torch.float64)
        log_posterior[:, 0] = 0
        pairs = choose_pairs(log_posterior, unknown(4000), 4, torch.Generator().manual_seed(0))
        counts = pairs.component.bincount(minlength=K)
        assert counts[0] == 4000
        assert (counts[1:] > 250).all()

    def test_a_labelled_row_meets_its_own_component_alone(self):
        known = torch.tensor([3, -1, 0, 11])
        pairs = choose_pairs(log_posterior_of(4, 3.0), known, 2, torch.Generator().manual_seed(0))
        for row, component in ((0, 3), (2, 0), (3, 11)):
            assert pairs.component[pairs.row == row].tolist() == [component]
            assert pairs.chance[pairs.row == row].tolist() == [1.0]
        assert int((pairs.row == 1).sum()) >= 2


def test_pairs_have_the_densities_of_the_whole_table(family, make_flows):
    flows = make_flows(family, 3, 2)
    x = torch.randn(40, 2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for row, component in (
        (torch.arange(40).repeat(3), torch.arange(3).repeat_interleave(40)),
        (torch.randint(40, (25,), generator=generator), torch.randint(3, (25,))),
        (torch.tensor([7, 3, 7]), torch.tensor([2, 2, 0])),
    ):
        expected = flows.log_prob(x)[component, row]
        found = flows.log_prob_of_pairs(x, row, component)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_uneven_counts_are_evaluated_in_two_groups_with_the_same_densities(make_flows, monkeypatch):
    monkeypatch.setattr("vmonf.flows.component_flows.PASS_OVERHEAD", 0)
    flows = make_flows("realnvp", 3, 2)
    x = torch.randn(90, 2, dtype=torch.float64, requires_grad=True)
    row, component = torch.arange(90), torch.tensor([1] * 80 + [0] * 3 + [2] * 7)
    expected = flows.log_prob(x)[component, row]
    found = flows.log_prob_of_pairs(x, row, component)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    parameters = [p for p in flows.parameters() if p.requires_grad]
    theirs = torch.autograd.grad(expected.sum(), parameters)
    ours = torch.autograd.grad(found.sum(), parameters)
    for gradient, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-8)


class TestEstimate:
    """Over every possible draw, weighted by its chance, the estimate is the ELBO itself."""

    @pytest.fixture
    def model(self, make_model):
        return make_model("realnvp", 6, 2)

    @pytest.fixture
    def x(self):
        return 5 * torch.randn(1, 2, dtype=torch.float64)

    def expectation(self, model, x):
        terms = model.terms(x)
        q = terms.log_posterior[0].exp()
        likely = q.topk(2).indices.tolist()
        others = [c for c in range(6) if c not in likely]
        chance = torch.rand(len(others), dtype=torch.float64)
        chance = (chance / chance.sum()).tolist()
        total = 0.0
        for other, of_draw in zip(others, chance, strict=True):
            component = torch.tensor([*likely, other])
            pairs = Pairs(
                torch.zeros(3, dtype=torch.int64),
                component,
                torch.tensor([1.0, 1.0, of_draw], dtype=torch.float64),
            )
            sparse = SparseTerms(pairs, terms.log_joint[0, component], terms.log_posterior)
            total = total + of_draw * sparse.elbo
        return total, terms.elbo

    def test_its_mean_is_the_elbo(self, model, x):
        estimate, exact = self.expectation(model, x)
        torch.testing.assert_close(estimate, exact, rtol=1e-10, atol=1e-10)

    def test_the_mean_of_its_gradient_is_the_gradient(self, model, x):
        estimate, exact = self.expectation(model, x)
        parameters = [p for p in model.parameters() if p.requires_grad]
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        ours = torch.autograd.grad(estimate.sum(), parameters, **options)
        theirs = torch.autograd.grad(exact.sum(), parameters, **options)
        assert any((gradient != 0).any() for gradient in theirs)
        for gradient, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-9)


def test_with_every_component_likely_the_estimate_is_exact(make_model):
    model = make_model("maf", 4, 2)
    x = torch.randn(30, 2, dtype=torch.float64)
    component = torch.full((30,), -1)
    component[:10] = torch.randint(4, (10,))
    rows = Rows(x, torch.ones(30, dtype=torch.float64), component, component)
    generator = torch.Generator().manual_seed(0)
    # So hot that q is even: all four are likely, and none is left to draw.
    sparse = model.sparse_terms(x, component, 4, generator, temperature=1e6)
    dense = model.terms(x, temperature=1e6)
    assert (sparse.pairs.chance == 1).all()
    objective = bound_objective("elbo")
    values = [
        objective.value(Evaluation(model, rows, terms, 1e6, generator)) for terms in (sparse, dense)
    ]
    torch.testing.assert_close(*values)


def test_the_marginal_bound_refuses_sparse_terms(make_model):
    model = make_model("realnvp", 6, 2)
    rows = unlabelled_rows(torch.randn(3, 2, dtype=torch.float64))
    with pytest.raises(TypeError, match="every component"):
        bound_objective("marginal", components_per_row=2)(model, rows, 1.0, torch.Generator())
