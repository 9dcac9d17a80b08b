"""Rows with gaps: the distribution of the missing values given the others, under a mixture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor

from vmonf.model.in_double import InDouble

#: Uniform numbers are kept this far from 0 and 1, whose quantiles are infinite.
LEAST_UNIFORM = 1e-12
#: Added to the variances of conditional distributions, relative to those of all rows.
JITTER = 1e-9


class _Observed(NamedTuple):
    """The rows with one pattern of gaps: n rows, o observed and m missing features, A atoms.

    Attributes
    ----------
    rows : Tensor of shape (n,)
        Their indices.
    is_gap : Tensor of shape (D,)
    log_joint : Tensor of shape (A, n)
        Log density of the observed values and the atom, in nats.
    white : Tensor of shape (A, o, n)
        The whitened observed values: their squares add up to the Mahalanobis distance.
    factor : Tensor of shape (A, o, o)
        The lower Cholesky factor of the covariance of the observed values.
    """

    rows: Tensor
    is_gap: Tensor
    log_joint: Tensor
    white: Tensor
    factor: Tensor


class Conditionals(InDouble):
    """A mixture of A Gaussian and Student-t distributions of standardised rows, the atoms.

    The marginal distribution of some features, and the conditional distribution of the others given
    these, are mixtures of the same kind, with known parameters. From the conditional distribution
    the gaps of a row are drawn.

    Source: Murphy, "Probabilistic Machine Learning: An Introduction" (2022), section 3.2.3, for
    Gaussians; Ding, "On the conditional distribution of the multivariate t distribution" (2016).

    Parameters
    ----------
    weights : Tensor of shape (A,)
    means : Tensor of shape (A, D)
    covariances : Tensor of shape (A, D, D)
        The scale matrices of the Student-t distributions.
    degrees : Tensor of shape (A,)
        Degrees of freedom: infinite for a Gaussian.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    degrees: Tensor

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, degrees: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("weights", weights.double())
        self.register_buffer("means", means.double())
        self.register_buffer("covariances", covariances.double())
        self.register_buffer("degrees", degrees.double())

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the values that are not NaN, in nats: (n, D) to (n,)."""
        result = torch.empty(len(z), dtype=torch.float64, device=z.device)
        for observed in self._patterns(z.double()):
            result[observed.rows] = observed.log_joint.logsumexp(dim=0)
        return result

    def draw(self, z: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the values that are NaN from their distribution given the others.

        Parameters
        ----------
        z : Tensor of shape (n, D)
            Standardised rows, with NaN in the gaps.
        uniform : Tensor of shape (S, D + 2) or (n, S, D + 2)
            Numbers between 0 and 1, the same for all rows or other ones for each: for the choice
            of the atom, for the width of a Student-t distribution, and for each feature.

        Returns
        -------
        draws : Tensor of shape (n, S, D)
            The rows with their gaps filled.
        log_prob : Tensor of shape (n, S)
            Log density of the drawn values given the others, in nats: 0 without gaps.
        """
        z = z.double()
        uniform = uniform.double().clamp(LEAST_UNIFORM, 1 - LEAST_UNIFORM)
        uniform = uniform.expand(len(z), *uniform.shape[-2:])
        n_draws = uniform.shape[1]
        draws = z[:, None, :].repeat(1, n_draws, 1)
        log_prob = torch.zeros(len(z), n_draws, dtype=torch.float64, device=z.device)
        for observed in self._patterns(z):
            if bool(observed.is_gap.any()):
                rows, is_gap = observed.rows, observed.is_gap
                drawn = self._drawn(observed, uniform[rows])
                filled = draws[rows]
                filled[:, :, is_gap] = drawn
                draws[rows] = filled
                whole = self.log_prob(filled.flatten(0, 1)).view(len(rows), n_draws)
                log_prob[rows] = whole - observed.log_joint.logsumexp(dim=0)[:, None]
        return draws, log_prob

    def _patterns(self, z: Tensor) -> Iterator[_Observed]:
        """The rows with each pattern of gaps."""
        is_gap = z.isnan()
        patterns, place = is_gap.unique(dim=0, return_inverse=True)
        order = place.argsort(stable=True)
        for pattern, rows in zip(
            patterns, order.split(place.bincount(minlength=len(patterns)).tolist()), strict=True
        ):
            yield self._observed(z, rows, pattern)

    def _observed(self, z: Tensor, rows: Tensor, is_gap: Tensor) -> _Observed:
        known = (~is_gap).nonzero().flatten()
        factor = torch.linalg.cholesky(self.covariances[:, known[:, None], known])
        apart = z[rows][:, known].T - self.means[:, known, None]
        white = torch.linalg.solve_triangular(factor, apart, upper=False)
        distance = white.square().sum(dim=1)
        n_known = len(known)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        degrees = self.degrees[:, None]
        of_gaussian = -0.5 * (distance + n_known * math.log(2 * math.pi))
        finite = degrees.where(degrees.isfinite(), 1.0)
        half = 0.5 * (finite + n_known)
        constant = half.lgamma() - (0.5 * finite).lgamma()
        constant = constant - 0.5 * n_known * (finite * math.pi).log()
        of_t = constant - half * (distance / finite).log1p()
        log_density = of_gaussian.where(degrees.isinf(), of_t)
        log_joint = log_density + (self.weights.log() - log_det)[:, None]
        return _Observed(rows, is_gap, log_joint, white, factor)

    def _drawn(self, observed: _Observed, uniform: Tensor) -> Tensor:
        """Missing values of n rows: uniform numbers (n, S, D + 2) to (n, S, m)."""
        is_gap, factor, white = observed.is_gap, observed.factor, observed.white
        missing, known = is_gap.nonzero().flatten(), (~is_gap).nonzero().flatten()
        slope = torch.linalg.solve_triangular(
            factor, self.covariances[:, known[:, None], missing], upper=False
        )
        mean = self.means[:, missing, None] + slope.mT @ white
        rest = self.covariances[:, missing[:, None], missing] - slope.mT @ slope
        jitter = JITTER * torch.eye(len(missing), dtype=rest.dtype, device=rest.device)
        scale = torch.linalg.cholesky(rest + jitter)

        reached = observed.log_joint.softmax(dim=0).cumsum(dim=0).T.contiguous()
        atom = torch.searchsorted(reached, (uniform[:, :, 0] * reached[:, -1:]).contiguous())
        atom = atom.clamp(max=len(self.weights) - 1)
        row = torch.arange(len(atom), device=atom.device)[:, None].expand_as(atom)
        normal = torch.special.ndtri(uniform[:, :, 2:][:, :, missing])
        deviation = torch.einsum("nsij,nsj->nsi", scale[atom], normal)
        if bool(self.degrees.isfinite().any()):
            # A Student-t variable is a normal one over the root of a chi-square variable.
            distance = white.square().sum(dim=1)[atom, row]
            degrees = self.degrees[atom]
            finite = degrees.where(degrees.isfinite(), 1.0)
            half = 0.5 * (finite + len(known))
            gamma = gammaincinv(half.cpu().numpy(), uniform[:, :, 1].cpu().numpy())
            gamma = torch.from_numpy(np.maximum(gamma, LEAST_UNIFORM)).to(half.device)
            width = ((finite + distance) / (2 * gamma)).sqrt()
            deviation = deviation * width.where(degrees.isfinite(), 1.0)[:, :, None]
        drawn: Tensor = mean[atom, :, row] + deviation
        return drawn
