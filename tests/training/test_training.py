"""Tests of the objective, the schedules and the training loop."""

import json
import math

import pytest
import torch

from vmonf.flows import RealNVP, build_flows
from vmonf.model import MixtureModel, PosteriorNetwork, Standardizer, Terms
from vmonf.rows import Rows
from vmonf.training import Training, TrainingError, TrainingLoop, Watcher, bound_objective
from vmonf.training.loop import Summary, summarise
from vmonf.training.objective import Evaluation
from vmonf.training.schedules import Plateau, TemperatureSchedule


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def make_model(generator, n_components=2, n_features=2):
    family = RealNVP(n_layers=2, hidden=(16,))
    flows = build_flows(family, n_components, n_features, generator=generator)
    flows.whitening.set_gaussians(
        torch.randn(n_components, n_features, generator=generator),
        torch.eye(n_features).repeat(n_components, 1, 1),
    )
    return MixtureModel(
        Standardizer(torch.zeros(n_features), torch.ones(n_features)),
        flows,
        PosteriorNetwork(n_features, n_components, (16,), generator=generator),
        torch.full((n_components,), 1 / n_components),
        learn_weights=True,
    )


def make_rows(generator, n_rows=400):
    which = torch.randint(2, (n_rows,), generator=generator)
    x = torch.randn(n_rows, 2, generator=generator, dtype=torch.float64)
    x[:, 1] += 0.5 * x[:, 0] ** 2  # curved, so that Gaussians do not fit
    x[:, 0] += 6.0 * which
    return rows_of(x, torch.ones(n_rows, dtype=torch.float64)), which


def rows_of(x, weight, component=None):
    open_ = torch.full((len(x),), -1)
    return Rows(x, weight, open_ if component is None else component, open_)


def value_of(bound, terms, rows):
    return bound_objective(bound).value(Evaluation(None, rows, terms, 1.0, None))


def loop_of(model, rows, held_out, generator, *, temperature=(1.0, 1.0), decay=0, **options):
    """Make a training loop with options of `Training` and of the loop itself."""
    own = {name: options.pop(name) for name in ("watchers", "pretrain_patience") if name in options}
    max_epochs = options.pop("max_epochs", 300)
    return TrainingLoop(
        model,
        rows,
        held_out,
        bound_objective("elbo"),
        Training(**options),
        max_epochs,
        TemperatureSchedule(*temperature, decay),
        generator,
        **own,
    )


# ------------------------------------------------------------------ objective


def terms_of(n_rows=5, n_components=3):
    generator = torch.Generator().manual_seed(1)
    log_joint = torch.randn(n_rows, n_components, generator=generator, dtype=torch.float64)
    logits = torch.randn(n_rows, n_components, generator=generator, dtype=torch.float64)
    return Terms(log_joint, logits.log_softmax(-1))


def test_the_elbo_objective_is_the_papers_sum():
    terms = terms_of()
    rows = rows_of(torch.zeros(5, 1), torch.tensor([1.0, 2, 0.5, 1, 0.5]))
    expected = 0.0
    for b in range(5):
        for c in range(3):
            q = math.exp(terms.log_posterior[b, c])
            expected += (
                float(rows.weight[b]) * q * float(terms.log_joint[b, c] - terms.log_posterior[b, c])
            )
    assert float(value_of("elbo", terms, rows)) == pytest.approx(expected / 5)


def test_a_labelled_row_counts_its_joint_and_its_posterior():
    terms = terms_of()
    label = torch.tensor([2, -1, 0, -1, -1])
    rows = rows_of(torch.zeros(5, 1), torch.ones(5), label)
    for bound in ("elbo", "marginal"):
        free = value_of(bound, terms, rows_of(rows.x, rows.weight))
        per_row = (
            terms.elbo
            if bound == "elbo"
            else terms.log_prob + (terms.log_responsibilities.exp() * terms.log_posterior).sum(-1)
        )
        known = sum(
            terms.log_joint[b, label[b]] + terms.log_posterior[b, label[b]] - per_row[b]
            for b in (0, 2)
        )
        assert float(value_of(bound, terms, rows)) == pytest.approx(float(free + known / 5))


def test_the_marginal_objective_leaves_the_flows_to_the_likelihood():
    log_joint = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    rows = rows_of(torch.zeros(4, 1), torch.ones(4))
    value_of("marginal", Terms(log_joint, logits.log_softmax(-1)), rows).backward()
    torch.testing.assert_close(log_joint.grad, log_joint.detach().softmax(-1) / 4)
    expected = (log_joint.detach().softmax(-1) - logits.detach().softmax(-1)) / 4
    torch.testing.assert_close(logits.grad, expected)


# ------------------------------------------------------------------ schedules


def test_temperature_is_exponential_then_constant():
    schedule = TemperatureSchedule(16.0, 1.0, 4)
    assert [schedule(epoch) for epoch in range(6)] == pytest.approx([16, 8, 4, 2, 1, 1])


def test_the_learning_rate_falls_at_a_plateau_alone():
    plateau = Plateau(1.0, patience=2, factor=0.5)
    assert [plateau.step(n) for n in (0, 1, 2, 3, 4, 0, 0)] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


# ------------------------------------------------------------------ the loop


def train(generator, rows, held_out, **config):
    model = make_model(generator)
    settings = {"batch_size": 64, "max_epochs": 8, "averaging": 0.9} | config
    loop = loop_of(model, rows, held_out, generator, **settings)
    return model, loop, loop.run()


def test_training_raises_the_held_out_likelihood_and_keeps_the_best(generator):
    rows, _ = make_rows(generator)
    held_out, _ = make_rows(generator, 200)
    model, training, result = train(generator, rows, held_out, max_epochs=20)
    with torch.no_grad():
        score = float(model.log_prob(held_out.x).mean())
    assert score == pytest.approx(training.best_score, abs=1e-6)
    best = max(result.history, key=lambda progress: progress.log_likelihood)
    assert best.epoch == result.best_epoch
    assert best.log_likelihood == pytest.approx(training.best_score, abs=1e-6)
    assert score > result.history[0].log_likelihood + 0.1


def test_it_never_ends_below_its_start(generator):
    rows, _ = make_rows(generator, 30)
    held_out, _ = make_rows(generator, 30)
    torch.manual_seed(0)
    model, training, result = train(
        generator, rows, held_out, max_epochs=5, learning_rate=5.0, averaging=0.0
    )
    assert result.best_epoch == 0
    with torch.no_grad():
        assert float(model.log_prob(held_out.x).mean()) == pytest.approx(training.best_score)


def test_patience_stops_and_says_so(generator):
    rows, _ = make_rows(generator, 30)
    held_out, _ = make_rows(generator, 30)
    _, _, result = train(generator, rows, held_out, max_epochs=50, patience=3, learning_rate=5.0)
    assert result.converged
    assert len(result.history) == result.best_epoch + 3


def test_nothing_stops_or_is_kept_before_the_temperature_is_down(generator):
    rows, _ = make_rows(generator, 60)
    held_out, _ = make_rows(generator, 60)
    _, _, result = train(
        generator,
        rows,
        held_out,
        max_epochs=10,
        patience=1,
        temperature=(50.0, 1.0),
        decay=6,
    )
    assert len(result.history) >= 7
    assert result.best_epoch == 0 or result.best_epoch > 6


def test_without_held_out_rows_all_epochs_run_and_the_last_is_kept(generator):
    rows, _ = make_rows(generator)
    model, _, result = train(generator, rows, None, patience=1)
    assert len(result.history) == 8
    assert not result.converged
    with torch.no_grad():
        score = float(model.log_prob(rows.x).mean())
    assert score == pytest.approx(result.history[-1].log_likelihood, abs=1e-6)


def test_pretraining_sees_labelled_rows_alone(generator, monkeypatch):
    rows, which = make_rows(generator)
    component = torch.where(torch.arange(400) < 40, which, -1)
    rows = rows_of(rows.x, rows.weight, component)
    seen = []
    whole = TrainingLoop._steps

    def watched(self, batches, temperature):
        batches = list(batches)
        seen.append(sum(batch.n_rows for batch in batches))
        return whole(self, iter(batches), temperature)

    monkeypatch.setattr(TrainingLoop, "_steps", watched)
    train(generator, rows, None, pretrain_epochs=3, max_epochs=2)
    assert seen == [40, 40, 40, 400, 400]


def test_pretraining_that_overfits_ends_and_its_best_weights_are_trained(generator):
    rows, which = make_rows(generator, 60)
    held_out, _ = make_rows(generator, 200)
    rows = rows_of(rows.x, rows.weight, which)
    model = make_model(generator)
    loop = loop_of(
        model,
        rows,
        held_out,
        generator,
        batch_size=64,
        averaging=0.0,
        learning_rate=0.02,
        pretrain_epochs=400,
        pretrain_patience=3,
    )
    scores = [loop.score()]
    whole = loop._steps

    def watched(batches, temperature):
        value = whole(batches, temperature)
        scores.append(loop.score())
        return value

    loop._steps = watched
    loop.begin()
    assert 4 < len(scores) < 400
    assert max(scores) == scores[-4]
    with torch.no_grad():
        assert float(model.log_prob(held_out.x).mean()) == pytest.approx(max(scores))
    assert loop.epochs_without_gain == 0
    assert loop.best_score == pytest.approx(max(scores))
    assert loop.result.best_epoch == 0


def test_a_gain_far_below_its_error_is_kept_but_does_not_restart_the_patience(generator):
    held_out, _ = make_rows(generator, 50)
    loop = loop_of(make_model(generator), held_out, held_out, generator)
    counts = []
    for epoch, score in enumerate([-3.0, -2.9, -2.8999, -2.8998, -2.95, -2.8]):
        summary = Summary(score, score, [0.5, 0.5], None, error=0.1)
        loop._keep_if_better(epoch, summary, 1.0)
        counts.append((loop.result.best_epoch, loop.epochs_without_gain))
    assert counts == [(0, 0), (1, 0), (2, 1), (3, 2), (3, 3), (5, 0)]


def test_the_error_of_a_summary_is_that_of_a_mean(generator):
    rows, _ = make_rows(generator, 300)
    model = make_model(generator)
    with torch.no_grad():
        log_prob = model.log_prob(rows.x).double()
    expected = float(log_prob.std(correction=0)) / math.sqrt(300)
    assert summarise(model, rows, 1.0).error == pytest.approx(expected, rel=1e-6)


def test_every_row_is_seen_once_an_epoch_in_batches_of_like_size(generator, monkeypatch):
    rows, _ = make_rows(generator, 333)
    sizes, seen = [], []
    take = Rows.take

    def watched(self, index):
        sizes.append(len(index))
        seen.append(index)
        return take(self, index)

    model = make_model(generator)
    training = loop_of(model, rows, None, generator, batch_size=100)
    monkeypatch.setattr(Rows, "take", watched)
    training._steps(training.passes.take(training.n_batches), 1.0)
    assert sizes == [111, 111, 111]
    assert sorted(torch.cat(seen).tolist()) == list(range(333))


def test_values_that_are_not_numbers_end_in_an_error_that_names_the_component(generator):
    rows, _ = make_rows(generator)
    model = make_model(generator)
    with torch.no_grad():
        model.flows.whitening.mean[1] = torch.nan
    training = loop_of(model, rows, None, generator)
    with pytest.raises(TrainingError, match=r"component 1 gave log p\(x, c\) = nan for the row"):
        training.run()


def test_decay_leaves_the_place_and_width_of_components_alone(generator):
    model = make_model(generator)
    rows, _ = make_rows(generator)
    training = loop_of(model, rows, None, generator, weight_decay=0.1)
    decayed, others = training.optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert others["weight_decay"] == 0.0
    assert any(p is model.flows.whitening.mean for p in others["params"])
    assert all(p.dim() >= 2 for p in decayed["params"])


def test_the_rotation_of_the_start_is_not_trained(generator):
    rows, _ = make_rows(generator)
    model = make_model(generator)
    before = model.flows.whitening.rotation.clone()
    loop_of(model, rows, None, generator, max_epochs=2).run()
    assert torch.equal(before, model.flows.whitening.rotation)


# ------------------------------------------------------------------ state


def test_a_training_goes_on_from_its_state_as_if_nothing_had_come_between():
    settings = {"batch_size": 64, "averaging": 0.9, "patience": 3, "max_epochs": 9}

    def new(*watchers):
        generator = torch.Generator().manual_seed(3)
        rows, held_out = (make_rows(generator, n)[0] for n in (400, 100))
        rows.component[:5] = 1
        own = {"pretrain_epochs": 1, "temperature": (4.0, 1.0), "watchers": watchers}
        return loop_of(make_model(generator), rows, held_out, generator, **settings, **own)

    states = []

    class Keep(Watcher):
        def on_epoch(self, loop):
            document, tensors = loop.state()
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            states.append((json.loads(json.dumps(document)), tensors))

    whole = new(Keep())
    whole.run()
    assert len(states) == len(whole.result.history) > 4
    resumed = new()
    resumed.load_state(*states[2])
    resumed.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    ignored = {"seconds"}
    for one, other in zip(whole.result.history, resumed.result.history, strict=True):
        one, other = vars(one), vars(other)
        assert {k: v for k, v in one.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored
        }
    assert resumed.result.best_epoch == whole.result.best_epoch
    assert resumed.seconds > states[2][0]["seconds"]


def test_the_state_at_the_end_is_that_of_a_training_that_is_done():
    def new(*watchers):
        generator = torch.Generator().manual_seed(0)
        rows, _ = make_rows(generator)
        own = {"batch_size": 64, "max_epochs": 2, "watchers": watchers}
        return loop_of(make_model(generator), rows, None, generator, **own)

    states = []

    class Keep(Watcher):
        def on_epoch(self, loop):
            states.append(loop.state())

    class Fail(Watcher):
        def on_epoch(self, loop):
            pytest.fail("trained on")

    new(Keep()).run()
    again = new(Fail())
    again.load_state(*states[-1])
    assert len(again.run().history) == 2
