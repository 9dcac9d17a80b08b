"""K Gaussians side by side: densities, responsibilities and moments of rows.

Arrays are (K, n): components, rows. Where components are many and features few, all of them
are one matrix product with the products of every two features; else each is work enough for
matrix products of its own. Rows are taken in blocks, so that little is held beside the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dtrtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Numbers a block holds: they stay in a core's own cache from one step to the next.
BLOCK_SIZE = 2**16
#: Products of features are taken about zero, which costs digits where a mean is far from zero
#: beside its component's width. In standardised units, no width being less than 0.001, eight
#: digits are left up to this far; components farther out are computed about their own means.
FAR = 10.0
#: Logarithm of what a responsibility is at least. Exponentials that underflow, and sums over
#: what they leave, take a processor twenty to a hundred times as long as others.
LEAST_LOG = -600.0
#: A component of fewer rows has none: it is at the mean of all.
FEWEST_ROWS = 1e-12


@dataclass(frozen=True)
class Moments:
    """What Gaussians are estimated from.

    Attributes
    ----------
    counts : array of shape (K,)
        Sums of weights.
    means : array of shape (K, D)
    scatters : array of shape (K, D, D), or (K, D) of squares
        Weighted sums of the products of deviations from the mean.
    """

    counts: Array
    means: Array
    scatters: Array


def moments_of(Z: Array, weight: Array, *, diagonal: bool) -> Moments:
    """Moments of rows in each component.

    Parameters
    ----------
    Z : array of shape (n, D)
        In standardised units.
    weight : array of shape (K, n)
        Of each row in each component; not negative.
    diagonal : bool
        Whether squares are enough.
    """
    n_components, n_features = len(weight), Z.shape[1]
    together = _together(n_components, n_features, diagonal=diagonal)
    if together:
        first, second = _pairs(n_features, diagonal=diagonal)
        totals = np.zeros((n_components, len(first) + n_features + 1))
        for block, z in _blocks(Z, len(first)):
            totals += weight[:, block] @ _terms(z, first, second).T
        products, sums, counts = np.split(totals, [len(first), -1], axis=1)
    else:
        sums, counts = weight @ Z, weight.sum(axis=1, keepdims=True)
    empty = counts < FEWEST_ROWS
    means = np.where(empty, sums.sum(axis=0) / counts.sum(), sums / np.maximum(counts, FEWEST_ROWS))
    scatters = np.zeros(means.shape if diagonal else (*means.shape, n_features))
    alone = np.arange(n_components)
    if together:
        products -= sums[:, first] * means[:, second]
        if diagonal:
            scatters = products
        else:
            scatters[:, first, second] = scatters[:, second, first] = products
        alone = np.flatnonzero(_far(means) | empty[:, 0])
        scatters[alone] = 0.0
    for block, z in _blocks(Z, n_features) if len(alone) else ():
        for c in alone:
            share = z - means[c, :, None]
            share *= np.sqrt(weight[c, block])
            # numpy sees that the product is symmetric, and does half the work.
            scatters[c] += np.square(share).sum(axis=1) if diagonal else share @ share.T
    return Moments(counts[:, 0], means, scatters)


def log_joint(Z: Array, weights: Array, means: Array, covariances: Array) -> Array:
    """Log p(z, c) of each row and component, in nats.

    Parameters
    ----------
    Z : array of shape (n, D)
        In standardised units.
    weights : array of shape (K,)
    means : array of shape (K, D)
    covariances : array of shape (K, D, D), or (K, D) where they are diagonal

    Returns
    -------
    array of shape (K, n)
    """
    n_components, n_features = means.shape
    diagonal = covariances.ndim == 2
    if diagonal:
        whitenings = scales = 1 / np.sqrt(covariances)
    else:
        factors = np.linalg.cholesky(covariances)
        whitenings = np.stack([dtrtri(factor.T)[0].T for factor in factors])
        scales = np.diagonal(whitenings, axis1=1, axis2=2)
    constants = np.log(weights) + np.log(scales).sum(axis=1)
    constants -= 0.5 * n_features * math.log(2 * math.pi)
    result = np.empty((n_components, len(Z)))
    alone = np.arange(n_components)
    if _together(n_components, n_features, diagonal=diagonal):
        first, second = _pairs(n_features, diagonal=diagonal)
        if diagonal:
            quadratic = np.square(whitenings)
            linear = quadratic * means
        else:
            precisions = whitenings.swapaxes(1, 2) @ whitenings
            # A pair of two different features stands there once, and counts twice.
            quadratic = precisions[:, first, second] * np.where(first == second, 1, 2)
            linear = (precisions @ means[:, :, None])[:, :, 0]
        at_zero = constants - 0.5 * (linear * means).sum(axis=1)
        coefficients = np.hstack([-0.5 * quadratic, linear, at_zero[:, None]])
        for block, z in _blocks(Z, len(first)):
            np.matmul(coefficients, _terms(z, first, second), out=result[:, block])
        alone = np.flatnonzero(_far(means))
    for block, z in _blocks(Z, n_features) if len(alone) else ():
        for c in alone:
            white = z - means[c, :, None]
            if diagonal:
                white *= whitenings[c, :, None]
            else:  # whitening times z, in BLAS's order of columns
                white = dtrmm(1.0, whitenings[c].T, white.T, side=1, overwrite_b=1).T
            result[c, block] = constants[c] - 0.5 * np.einsum("dn,dn->n", white, white)
    return result


def normalise(log_joint: Array, weight: Array | float = 1.0) -> tuple[Array, Array]:
    """Log p(z) of each row, and its responsibilities, which are written over `log_joint`.

    Parameters
    ----------
    log_joint : array of shape (K, n)
    weight : array of shape (n,), optional
        What each row's responsibilities sum to.

    Returns
    -------
    log_prob : array of shape (n,)
    responsibilities : array of shape (K, n)
    """
    # One exponential for both; scipy's logsumexp and softmax take one each.
    largest = log_joint.max(axis=0)
    log_joint -= largest
    np.maximum(log_joint, LEAST_LOG, out=log_joint)
    np.exp(log_joint, out=log_joint)
    total = log_joint.sum(axis=0)
    log_joint *= weight / total
    return largest + np.log(total), log_joint


def _together(n_components: int, n_features: int, *, diagonal: bool) -> bool:
    """Whether one product for all components is less work than one for each."""
    return diagonal or n_features <= n_components


def _far(means: Array) -> NDArray[np.bool_]:
    far: NDArray[np.bool_] = np.abs(means).max(axis=1) > FAR
    return far


@cache
def _pairs(n_features: int, *, diagonal: bool) -> tuple[IntArray, IntArray]:
    """The two features of each product."""
    squares = np.arange(n_features)
    return (squares, squares) if diagonal else np.tril_indices(n_features)


def _terms(z: Array, first: IntArray, second: IntArray) -> Array:
    """Products, features and ones, (D, n) to (terms, n): a log density is linear in them."""
    return np.concatenate([z[first] * z[second], z, np.ones((1, z.shape[1]))])


def _blocks(Z: Array, n_columns: int) -> Iterator[tuple[slice, Array]]:
    """Blocks of rows, each a copy of shape (D, rows)."""
    size = max(64, BLOCK_SIZE // n_columns)
    for begin in range(0, len(Z), size):
        block = slice(begin, begin + size)
        yield block, Z[block].T.copy()
