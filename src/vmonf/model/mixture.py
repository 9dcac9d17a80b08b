"""The probability model: K flows, mixing weights and a neural posterior."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vmonf.flows import ComponentFlows, GaussianMixtureBase, Transform
from vmonf.model.conditionals import Conditionals
from vmonf.model.sparse import SparseTerms, choose_pairs
from vmonf.model.standardizer import Standardizer
from vmonf.rows import Draws

#: How many times the gaps of a row are filled when it is scored.
N_DRAWS = 64
#: Standardised features are clamped to this magnitude, since squares of larger values overflow.
FARTHEST = 1e12
#: Least average number of samples drawn at once for each component, if that many are
#: needed. With fewer, matrix products are inefficient.
SAMPLES_AT_ONCE = 512
#: Smaller gradients of a mean over rows are set to zero. They do not change any weight, and could
#: become denormal numbers, with which arithmetic is many times slower.
SMALLEST_GRADIENT = 1e-20


def in_parts(function: Callable[[Tensor], Tensor], x: Tensor, n_rows: int) -> Tensor:
    """Evaluate a function of rows without gradient, `n_rows` at a time.

    The results are written to one tensor that is allocated first, since many small tensors would
    fragment the memory.
    """
    parts = x.split(n_rows)
    with torch.no_grad():
        result = function(parts[0])
        if len(parts) > 1:
            first, result = result, result.new_empty(len(x), *result.shape[1:])
            for place, part in zip(result.split(n_rows), parts, strict=True):
                place.copy_(first if part is parts[0] else function(part))
        return result


class Terms(NamedTuple):
    """The two log probabilities that determine all others, for B rows and K components, in nats.

    Attributes
    ----------
    log_joint : Tensor of shape (B, K)
        log p(x, c) = log p(x given c) + log p(c).
    log_posterior : Tensor of shape (B, K)
        log q(c given x).
    """

    log_joint: Tensor
    log_posterior: Tensor

    @property
    def log_prob(self) -> Tensor:
        """Log p(x), exact: shape (B,)."""
        return self.log_joint.logsumexp(dim=-1)

    @property
    def log_responsibilities(self) -> Tensor:
        """Log p(c given x), exact: shape (B, K)."""
        return self.log_joint.log_softmax(dim=-1)

    @property
    def elbo(self) -> Tensor:
        """sum_c q(c|x) [log p(x|c) + log p(c) - log q(c|x)]: shape (B,)."""
        return (self.log_posterior.exp() * (self.log_joint - self.log_posterior)).sum(dim=-1)

    def joint_with(self, component: Tensor) -> Tensor:
        """Log p(x, c) of each row with the given component: (B,) to (B,)."""
        return self.log_joint.gather(1, component[:, None])[:, 0]

    def non_finite(self) -> list[tuple[int, int, float]]:
        """Row, component and value of each log p(x, c) that is not finite."""
        row, component = (~torch.isfinite(self.log_joint)).nonzero(as_tuple=True)
        values = self.log_joint[row, component]
        return list(zip(row.tolist(), component.tolist(), values.tolist(), strict=True))

    @property
    def gap(self) -> Tensor:
        """KL(q, responsibilities) = log p(x) - ELBO, never negative: shape (B,)."""
        difference = self.log_posterior - self.log_responsibilities
        return (self.log_posterior.exp() * difference).sum(dim=-1).clamp(min=0)


class MixtureModel(nn.Module):
    """A mixture of K normalizing flows with a variational posterior.

    Source: Pires & Figueiredo, "Variational Mixture of Normalizing Flows" (ESANN 2020).

    Parameters
    ----------
    standardizer : Standardizer
        Maps rows from the user's units to standardised units.
    flows : ComponentFlows
        The component densities p(x given c), c = 0..K-1.
    posterior_network : torch module
        Maps standardised rows (B, D) to the logits (B, K) of q(c given x).
    weights : Tensor of shape (K,)
        Mixing weights p(c). They must be positive, and are normalised here.
    learn_weights : bool
        Whether the weights are parameters. Otherwise they are constant.
    conditionals : Conditionals, optional
        The distribution from which gaps of rows are drawn. None does not take rows with gaps.

    Notes
    -----
    All methods take rows in the user's units, of shape (B, D), and are differentiable in rows
    and parameters. With `conditionals` a value may be NaN, that is, missing: all results of such a
    row are then those of the marginal distribution of its other values, estimated by importance
    sampling; see `terms_of_draws`. Log densities are in nats and have the dtype of the rows. With
    float64 rows, the log-determinant of the standardisation is therefore added in full precision.
    Beyond the bounds of a feature they are -inf; there the terms of the objective, the
    responsibilities and q are those on the bound.
    """

    log_weight_logits: Tensor
    temperature: Tensor

    def __init__(
        self,
        standardizer: Standardizer,
        flows: ComponentFlows,
        posterior_network: nn.Module,
        weights: Tensor,
        *,
        learn_weights: bool = False,
        conditionals: Conditionals | None = None,
    ) -> None:
        super().__init__()
        self.standardizer = standardizer
        self.conditionals = conditionals
        self.flows = flows
        self.posterior_network = posterior_network
        if learn_weights:
            self.log_weight_logits = nn.Parameter(weights.log())
        else:
            self.register_buffer("log_weight_logits", weights.log())
        self.register_buffer("temperature", torch.tensor(1.0))

    @property
    def n_components(self) -> int:
        """K."""
        return self.flows.n_components

    @property
    def n_features(self) -> int:
        """D."""
        return self.flows.n_features

    @property
    def rows_at_once(self) -> int:
        """Number of rows that can be evaluated at once in moderate memory."""
        images = self.standardizer.images
        values_per_row = self.flows.values_per_row * (1 if images is None else len(images))
        return max(16, self.flows.values_at_once // values_per_row)

    def n_free_parameters(self, *, layers: bool = True) -> int:
        """How many numbers the density log p(x) has that can be trained.

        Parameters
        ----------
        layers : bool
            Whether to count the layers that follow the whitening; without them, the count is
            that of a Gaussian mixture.
        """
        gaussians, *others = [cast(Transform, module) for module in self.flows.chain.transforms]
        base = self.flows.base
        # Atoms have their own means and covariances, to which the whitening adds nothing.
        is_mixture = isinstance(base, GaussianMixtureBase)
        n_free = base.n_free_parameters if is_mixture else gaussians.n_free_parameters
        if layers:
            n_free += sum(transform.n_free_parameters for transform in others)
        learned = isinstance(self.log_weight_logits, nn.Parameter)
        return n_free + (self.n_components - 1 if learned else 0)

    @property
    def log_weights(self) -> Tensor:
        """Log p(c), normalised: shape (K,)."""
        return self.log_weight_logits.log_softmax(dim=-1)

    @torch.no_grad()
    def set_weights(self, weights: Tensor) -> None:
        """Set p(c) to positive weights of shape (K,), which are normalised here."""
        self.log_weight_logits.copy_(weights.log())

    def only(self, components: Tensor) -> MixtureModel:
        """A copy with some of the components alone.

        The mixing weights and q are those of this model, divided by their sums over the components
        that are kept.

        Parameters
        ----------
        components : Tensor of shape (C,), int64
            The components that are kept, in their new order.

        Raises
        ------
        TypeError
            If the posterior network has no method `only`, so that its logits cannot be cut.
        """
        cut_network = getattr(self.posterior_network, "only", None)
        if cut_network is None:
            raise TypeError(
                f"{type(self.posterior_network).__name__} has no method `only`, by which a "
                "posterior network gives a copy with the logits of some components alone."
            )
        model = MixtureModel(
            copy.deepcopy(self.standardizer),
            self.flows.only(components),
            cut_network(components),
            self.log_weights.detach()[components].exp(),
            learn_weights=isinstance(self.log_weight_logits, nn.Parameter),
            conditionals=copy.deepcopy(self.conditionals),
        )
        model.temperature = self.temperature.clone()
        return model

    def terms(self, x: Tensor, temperature: float | None = None) -> Terms:
        """All terms of the objective, from one pass over the flows and the network.

        Parameters
        ----------
        x : Tensor of shape (B, D)
        temperature : float, optional
            Divides the posterior's softmax input. None uses the temperature of the model.
        """
        if self._has_gaps(x):
            at_once = max(1, self.rows_at_once // N_DRAWS)
            parts = [self.terms_of_draws(self.draw(part), temperature) for part in x.split(at_once)]
            return Terms(*map(torch.cat, zip(*parts, strict=True)))
        standardised = self._standardised(x)
        return Terms(
            self._log_joint(standardised, x),
            self._log_posterior(standardised, temperature, x.dtype),
        )

    def draw(self, x: Tensor, uniform: Tensor | None = None) -> Draws:
        """Rows with their gaps filled, from the distribution `conditionals`.

        Parameters
        ----------
        x : Tensor of shape (B, D)
            Rows with NaN in the gaps.
        uniform : Tensor of shape (S, D + 2) or (B, S, D + 2), optional
            Numbers between 0 and 1; see `Conditionals.draw`. None is the same `N_DRAWS` points of
            a Sobol sequence for every row, so that the results of a row do not depend on others.
        """
        if self.conditionals is None:
            raise ValueError("The model was not fitted to rows with missing values.")
        if uniform is None:
            uniform = _sobol(x.shape[1] + 2).to(x.device)
        is_gap = x.isnan()
        z = self.standardizer(x)
        drawn, log_prob = self.conditionals.draw(z.masked_fill(is_gap, math.nan), uniform)
        filled = self.standardizer.inverse(drawn)
        filled = torch.where(is_gap[:, None, :], filled, x[:, None, :].double())
        log_slopes = self.standardizer.log_slopes(filled).where(is_gap[:, None, :], 0.0)
        log_prob = log_prob + log_slopes.sum(dim=-1)
        return Draws(filled.to(x.dtype), log_prob.to(x.dtype), is_gap.any(dim=-1))

    def terms_of_draws(self, draws: Draws, temperature: float | None = None) -> Terms:
        """Terms of the values that are known of each row, by importance sampling.

        For a row with the draws x_1 to x_S of its gaps, whose log density given the known values is
        log r(x_s), log p(known, c) is the log of the mean of p(x_s, c) / r(x_s), and q(c given
        known) is the mean of q(c given x_s), weighted by p(x_s) / r(x_s). The mean is unbiased, so
        that the expectation of its logarithm is a lower bound, the tighter the more draws there are
        and the closer r is to the model. If r is the model, each draw alone gives log p(known).

        Source: Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders" (2016), for the
        bound, and Mattei & Frellsen, "MIWAE" (2019), for missing values.

        Parameters
        ----------
        draws : Draws
        temperature : float, optional
            Divides the posterior's softmax input. None uses the temperature of the model.
        """
        drawn = draws.is_drawn
        n_drawn, n_draws = int(drawn.sum()), draws.x.shape[1]
        x = torch.cat([draws.x[~drawn, 0], draws.x[drawn].flatten(0, 1)])
        terms = self.terms(x, temperature)
        n_whole = len(drawn) - n_drawn
        order = torch.cat([(~drawn).nonzero(), drawn.nonzero()])[:, 0].argsort()
        n_components = terms.log_joint.shape[1]
        of_draws = (values[n_whole:].view(n_drawn, n_draws, n_components) for values in terms)
        log_joint, log_posterior = of_draws
        log_joint = log_joint - draws.log_prob[drawn][:, :, None]
        log_share = log_joint.logsumexp(dim=-1, keepdim=True).log_softmax(dim=1)
        return Terms(
            torch.cat([terms.log_joint[:n_whole], log_joint.logsumexp(dim=1) - math.log(n_draws)])[
                order
            ],
            torch.cat(
                [terms.log_posterior[:n_whole], (log_share + log_posterior).logsumexp(dim=1)]
            )[order],
        )

    def log_prob_error(self, x: Tensor) -> Tensor:
        """Standard error of `log_prob`, in nats: (B, D) to (B,). It is 0 for rows without gaps.

        That of the draws as if they were independent. Those of a Sobol sequence err less.
        """
        if not self._has_gaps(x):
            return x.new_zeros(len(x))
        errors = []
        for part in x.split(max(1, self.rows_at_once // N_DRAWS)):
            draws = self.draw(part)
            log_prob = self.terms(draws.x.flatten(0, 1)).log_prob.view_as(draws.log_prob)
            share = (log_prob - draws.log_prob).softmax(dim=1)
            variance = (N_DRAWS * share - 1).square().sum(dim=1) / (N_DRAWS - 1)
            errors.append((variance / N_DRAWS).sqrt().where(draws.is_drawn, 0.0))
        return torch.cat(errors)

    def sparse_terms(
        self,
        x: Tensor,
        known: Tensor,
        n_likely: int,
        generator: torch.Generator,
        temperature: float | None = None,
    ) -> SparseTerms:
        """Terms of the objective from a few components for each row; see `vmonf.model.sparse`.

        Parameters
        ----------
        x : Tensor of shape (B, D)
        known : Tensor of shape (B,), int64
            The component of a labelled row, which is evaluated with this component only; -1 if
            the row is not labelled.
        n_likely : int
            Each row is evaluated with at most this many components of high q(c given x), and with
            one other component.
        generator : torch.Generator
            Draws the other components. It must be on the CPU.
        temperature : float, optional
            Divides the posterior's softmax input. None uses the temperature of the model.
        """
        standardised = self._standardised(x)
        log_posterior = self._log_posterior(standardised, temperature, x.dtype)
        pairs = choose_pairs(log_posterior, known, n_likely, generator)
        images = self._images_of(standardised)
        first = torch.arange(len(images), device=x.device)[:, None] * len(x)
        log_prob = self.flows.log_prob_of_pairs(
            images.flatten(0, 1),
            (first + pairs.row).flatten(),
            pairs.component.repeat(len(images)),
        )
        log_prob = _over_images(log_prob.view(len(images), -1))
        log_joint = _without_tiny_gradients(log_prob.to(x.dtype))
        log_det = self.standardizer.log_det(x).to(x.dtype)
        log_joint = log_joint + (log_det[pairs.row] if log_det.dim() else log_det)
        log_joint = log_joint + self.log_weights.to(x.dtype)[pairs.component]
        return SparseTerms(pairs, log_joint, log_posterior)

    def component_log_prob(self, x: Tensor) -> Tensor:
        """Log p(x given c) for every component: (B, D) to (B, K)."""
        if self._has_gaps(x):
            return self.log_joint(x) - self.log_weights.to(x.dtype)
        return self._zero_outside(x, self._component_log_prob(self._standardised(x), x))

    def log_joint(self, x: Tensor) -> Tensor:
        """Log p(x given c) + log p(c) for every component: (B, D) to (B, K)."""
        if self._has_gaps(x):
            return self._zero_outside(x, self.terms(x).log_joint)
        return self._zero_outside(x, self._log_joint(self._standardised(x), x))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x), exact: (B, D) to (B,)."""
        return self.log_joint(x).logsumexp(dim=-1)

    def log_responsibilities(self, x: Tensor) -> Tensor:
        """Log p(c given x), exact, from the flows: (B, D) to (B, K)."""
        if self._has_gaps(x):
            return self.terms(x).log_responsibilities
        return self._log_joint(self._standardised(x), x).log_softmax(dim=-1)

    def log_posterior(self, x: Tensor, temperature: float | None = None) -> Tensor:
        """Log q(c given x), from the posterior network: (B, D) to (B, K).

        If the temperature is None, that of the model is used.
        """
        if self._has_gaps(x):
            return self.terms(x, temperature).log_posterior
        return self._log_posterior(self._standardised(x), temperature, x.dtype)

    def elbo(self, x: Tensor, temperature: float | None = None) -> Tensor:
        """Evidence lower bound of each row: (B, D) to (B,)."""
        return self._zero_outside(x, self.terms(x, temperature).elbo)

    def sample(
        self,
        n_samples: int,
        component: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from the mixture, or from one component.

        The component of each row is drawn first. Then as many rows as needed are drawn from each
        component, so that a row is evaluated with its own component only.

        Returns
        -------
        x : Tensor of shape (n_samples, D)
            Rows in the user's units, float64.
        component : Tensor of shape (n_samples,), int64
            The component that each row was drawn from.
        """
        device = self.log_weights.device
        if component is None and n_samples > 0:
            drawn = torch.multinomial(
                self.log_weights.exp(), n_samples, replacement=True, generator=generator
            )
        else:
            drawn = torch.full((n_samples,), component or 0, device=device)
        parts = []
        # A row takes the memory of one component only, hence the factor K.
        for part in drawn.split(max(SAMPLES_AT_ONCE, self.rows_at_once) * self.n_components):
            rows = self.flows.sample(part.bincount(minlength=self.n_components), generator)
            # The flows return rows sorted by component. This restores the order of `part`.
            parts.append(torch.empty_like(rows).index_copy(0, part.argsort(stable=True), rows))
        return self.standardizer.inverse(torch.cat(parts)), drawn

    def _has_gaps(self, x: Tensor) -> bool:
        """Whether values of these rows are missing, and the model knows how to draw them."""
        return self.conditionals is not None and bool(x.isnan().any())

    def _standardised(self, x: Tensor) -> Tensor:
        standardised: Tensor = self.standardizer(x).clamp(-FARTHEST, FARTHEST)
        return standardised.to(self.flows.whitening.mean.dtype)

    def _zero_outside(self, x: Tensor, log_density: Tensor) -> Tensor:
        """The log densities (B, ...) of rows (B, D), with -inf beyond the bounds of a feature."""
        is_outside = self.standardizer.is_outside(x)
        if is_outside is None:
            return log_density
        is_outside = is_outside if log_density.dim() == 1 else is_outside[:, None]
        return log_density.masked_fill(is_outside, -math.inf)

    def _images_of(self, standardised: Tensor) -> Tensor:
        """Standardised rows, and their images if features have a period: (B, D) to (I, B, D)."""
        images = self.standardizer.images
        if images is None:
            return standardised[None]
        return standardised + images[:, None, :].to(standardised.dtype)

    def _component_log_prob(self, standardised: Tensor, x: Tensor) -> Tensor:
        images = self._images_of(standardised)
        log_prob = self.flows.log_prob(images.flatten(0, 1)).mT.unflatten(0, images.shape[:2])
        log_prob = _without_tiny_gradients(_over_images(log_prob).to(x.dtype))
        return log_prob + self.standardizer.log_det(x).to(x.dtype)[..., None]

    def _log_joint(self, standardised: Tensor, x: Tensor) -> Tensor:
        return self._component_log_prob(standardised, x) + self.log_weights.to(x.dtype)

    def _log_posterior(
        self, standardised: Tensor, temperature: float | None, dtype: torch.dtype
    ) -> Tensor:
        logits = self.posterior_network(self.standardizer.in_circles(standardised))
        logits = _without_tiny_gradients(logits.to(dtype))
        divisor = self.temperature if temperature is None else temperature
        return (logits / divisor).log_softmax(dim=-1)


@cache
def _sobol(n_dimensions: int) -> Tensor:
    """The first `N_DRAWS` points of a scrambled Sobol sequence: (N_DRAWS, n_dimensions)."""
    sequence = torch.quasirandom.SobolEngine(n_dimensions, scramble=True, seed=0)
    return sequence.draw(N_DRAWS, dtype=torch.float64)


def _over_images(log_prob: Tensor) -> Tensor:
    """Log of the sum of densities over the images of rows: (I, ...) to (...), in nats."""
    return log_prob[0] if len(log_prob) == 1 else log_prob.logsumexp(dim=0)


def _without_tiny_gradients(values: Tensor) -> Tensor:
    """The same values. In the backward pass, gradients below `SMALLEST_GRADIENT` become zero."""
    if values.requires_grad:
        values.register_hook(lambda gradient: gradient.where(gradient.abs() > SMALLEST_GRADIENT, 0))
    return values
