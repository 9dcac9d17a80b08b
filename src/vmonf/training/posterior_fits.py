"""Fits of the posterior network with fixed flows, before and after the training."""

import math

import torch
from torch import Tensor, nn

from vmonf.model import MixtureModel, Terms, in_parts
from vmonf.rows import Rows, concatenated, unlabelled_rows
from vmonf.training.adam import AdamW
from vmonf.training.objective import Evaluation, bound_objective

WARM_UP_STEPS = 200
WARM_UP_LEARNING_RATE = 1e-2
WARM_UP_ROWS = 16_384
REFINEMENT_STEPS = 300
REFINEMENT_LEARNING_RATE = 3e-3
#: The refinement uses at most this many rows, and this many samples.
REFINEMENT_ROWS = 4096
#: There is no refinement with more features than this, since sampling may be slow: an
#: autoregressive flow takes one network pass for each feature.
REFINEMENT_MAX_FEATURES = 64
#: Lower bound of log p(x, c) relative to the largest of the row, in nats. The responsibilities of
#: lower values are negligible, but their gradients would dominate the others.
DEEPEST = 50.0
BATCH_SIZE = 512


def warm_up_posterior(model: MixtureModel, rows: Rows[Tensor], generator: torch.Generator) -> None:
    """Fit q by cross-entropy to the responsibilities of the initial flows, and to the labels."""
    chosen = torch.randperm(rows.n_rows, generator=generator)[:WARM_UP_ROWS]
    seen = rows.take(chosen.to(rows.x.device))
    target = in_parts(model.log_responsibilities, seen.x, model.rows_at_once).exp()
    known = nn.functional.one_hot(seen.component.clamp(min=0), model.n_components)
    target = known.to(target.dtype).where(seen.labelled[:, None], target)
    optimizer = _adam(model.posterior_network, WARM_UP_LEARNING_RATE)
    for _ in range(WARM_UP_STEPS):
        index = torch.randint(seen.n_rows, (min(BATCH_SIZE, seen.n_rows),), generator=generator)
        index = index.to(seen.x.device)
        log_posterior = model.log_posterior(seen.x[index], temperature=1.0)
        cross_entropy = -(target[index] * log_posterior).sum(dim=-1)
        optimizer.zero_grad(set_to_none=True)
        (cross_entropy * seen.weight[index]).mean().backward()
        optimizer.step()


def refine_posterior(model: MixtureModel, rows: Rows[Tensor], generator: torch.Generator) -> None:
    """Maximise the ELBO of rows and of samples of the model over q, with fixed flows.

    The samples fit q to the responsibilities also between and beyond the rows, where it would
    otherwise be overconfident. Nothing is done with one component, or with more than
    `REFINEMENT_MAX_FEATURES` features.
    """
    if model.n_features > REFINEMENT_MAX_FEATURES or model.n_components == 1:
        return
    device = rows.x.device
    chosen = torch.randperm(rows.n_rows, generator=generator)[:REFINEMENT_ROWS].to(device)
    seen = rows.take(chosen)
    on_device = torch.Generator(device)
    on_device.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    with torch.no_grad():
        samples, _ = model.sample(REFINEMENT_ROWS, generator=on_device)
    both = concatenated(seen, unlabelled_rows(samples))
    log_joint = in_parts(model.log_joint, both.x, model.rows_at_once)
    log_joint = log_joint.clamp(min=log_joint.amax(dim=1, keepdim=True) - DEEPEST)
    parameters = list(model.posterior_network.parameters())
    optimizer = _adam(model.posterior_network, REFINEMENT_LEARNING_RATE)
    objective = bound_objective("elbo")
    for step in range(REFINEMENT_STEPS):
        share = 0.5 * (1 + math.cos(math.pi * step / REFINEMENT_STEPS))
        for group in optimizer.param_groups:
            group["lr"] = REFINEMENT_LEARNING_RATE * share
        index = _half_and_half(seen.n_rows, both.n_rows, generator).to(device)
        batch = both.take(index)
        terms = Terms(log_joint[index], model.log_posterior(batch.x))
        temperature = float(model.temperature)
        optimizer.zero_grad(set_to_none=True)
        evaluation = Evaluation(model, batch, terms, temperature, generator)
        (-objective.value(evaluation)).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()


def _adam(network: nn.Module, learning_rate: float) -> AdamW:
    return AdamW(network.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)


def _half_and_half(n_first: int, n_all: int, generator: torch.Generator) -> Tensor:
    """Indices of a batch: half of them below `n_first`, and half from `n_first` to `n_all`."""
    half = (BATCH_SIZE // 2,)
    return torch.cat(
        [
            torch.randint(n_first, half, generator=generator),
            torch.randint(n_first, n_all, half, generator=generator),
        ]
    )
