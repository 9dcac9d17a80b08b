"""Computations with K Gaussians: log densities, responsibilities and moments.

Arrays have shape (K, n), for K components and n rows. With many components and few features, one
matrix product with the pairwise products of the features serves all components. Otherwise each
component has its own matrix products. Rows are processed in blocks, to limit the memory.
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

#: Number of values in a block, small enough for the cache of one core.
BLOCK_SIZE = 2**16
#: Products of features are computed about zero, which loses digits if a mean is much larger than
#: the width of its component. Widths are at least 0.001 in standardised units, so that about eight
#: digits remain for means up to this size. Other components are computed about their own means.
FAR = 10.0
#: Lower bound of the logarithm of a responsibility. Exponentials that underflow, and arithmetic
#: with denormal numbers, are twenty to a hundred times slower.
LEAST_LOG = -600.0
#: A component with a smaller weight than this counts as empty. Its mean is that of all rows.
FEWEST_ROWS = 1e-12


@dataclass(frozen=True)
class Moments:
    """The moments from which Gaussians are estimated.

    Attributes
    ----------
    counts : array of shape (K,)
        Sums of weights.
    means : array of shape (K, D)
    scatters : array of shape (K, D, D), or (K, D) if only the diagonals are needed
        Weighted sums of the products of deviations from the mean.
    """

    counts: Array
    means: Array
    scatters: Array


def moments_of(Z: Array, weight: Array, *, diagonal: bool) -> Moments:
    """Moments of the rows in each component.

    Parameters
    ----------
    Z : array of shape (n, D)
        Rows in standardised units.
    weight : array of shape (K, n)
        Non-negative weight of each row in each component.
    diagonal : bool
        Whether only the diagonals of the scatters are computed.
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
            # numpy detects a product of the form A A^T and computes only half of it.
            scatters[c] += np.square(share).sum(axis=1) if diagonal else share @ share.T
    return Moments(counts[:, 0], means, scatters)


def log_joint(Z: Array, weights: Array, means: Array, covariances: Array) -> Array:
    """Log p(z, c) of each row and component, in nats.

    Parameters
    ----------
    Z : array of shape (n, D)
        Rows in standardised units.
    weights : array of shape (K,)
    means : array of shape (K, D)
    covariances : array of shape (K, D, D), or (K, D) if they are diagonal

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
            # Each pair of different features is stored once but occurs twice in the quadratic form.
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
            else:  # whitening @ white, with BLAS's column-major order
                white = dtrmm(1.0, whitenings[c].T, white.T, side=1, overwrite_b=1).T
            result[c, block] = constants[c] - 0.5 * np.einsum("dn,dn->n", white, white)
    return result


def normalise(log_joint: Array, weight: Array | float = 1.0) -> tuple[Array, Array]:
    """Log p(z) of each row, and its responsibilities, which overwrite `log_joint`.

    Parameters
    ----------
    log_joint : array of shape (K, n)
        Log p(z, c), in nats.
    weight : array of shape (n,), optional
        The sum of the responsibilities of each row.

    Returns
    -------
    log_prob : array of shape (n,)
        Log p(z), in nats.
    responsibilities : array of shape (K, n)
    """
    # Both results share one exponential, whereas scipy's logsumexp and softmax take one each.
    largest = log_joint.max(axis=0)
    log_joint -= largest
    np.maximum(log_joint, LEAST_LOG, out=log_joint)
    np.exp(log_joint, out=log_joint)
    total = log_joint.sum(axis=0)
    log_joint *= weight / total
    return largest + np.log(total), log_joint


def _together(n_components: int, n_features: int, *, diagonal: bool) -> bool:
    """Whether one matrix product for all components is faster than one for each."""
    return diagonal or n_features <= n_components


def _far(means: Array) -> NDArray[np.bool_]:
    far: NDArray[np.bool_] = np.abs(means).max(axis=1) > FAR
    return far


@cache
def _pairs(n_features: int, *, diagonal: bool) -> tuple[IntArray, IntArray]:
    """Indices of the two features in each product."""
    squares = np.arange(n_features)
    return (squares, squares) if diagonal else np.tril_indices(n_features)


def _terms(z: Array, first: IntArray, second: IntArray) -> Array:
    """The terms in which log densities are linear: products, features, ones. (D, n) to (T, n)."""
    return np.concatenate([z[first] * z[second], z, np.ones((1, z.shape[1]))])


def _blocks(Z: Array, n_columns: int) -> Iterator[tuple[slice, Array]]:
    """Blocks of rows, each a copy of shape (D, rows)."""
    size = max(64, BLOCK_SIZE // n_columns)
    for begin in range(0, len(Z), size):
        block = slice(begin, begin + size)
        yield block, Z[block].T.copy()
