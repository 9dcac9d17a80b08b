"""Gradients of one batch that several processes compute in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vmonf import ranks

#: What a process adds to the gradients: its objective times its rows, its number of rows, whether
#: it failed, and whether it was interrupted.
_N_FURTHER = 4


def averaged_gradients(
    parameters: Sequence[nn.Parameter],
    compute: Callable[[], tuple[Tensor, int] | None],
    is_interrupted: Callable[[], bool],
) -> Tensor | None:
    """Compute the gradients of the mean over a batch whose rows several processes share.

    Each process computes those of its own rows. Their average, weighted by the numbers of rows, is
    that of the batch, up to rounding. It is one sum of one vector over the processes.

    Parameters
    ----------
    parameters : sequence of Parameter
    compute : callable
        Sets the gradients of the mean over the rows of this process, unless there are none. Returns
        this mean, a scalar, and the number of rows; or None, in all processes, if there is no
        further batch.
    is_interrupted : callable
        Whether Ctrl-C was pressed in this process.

    Returns
    -------
    Tensor or None
        The mean over all rows of the batch, a scalar. It is zero if no process has rows.

    Raises
    ------
    KeyboardInterrupt
        In all processes, if one was interrupted.
    Exception
        In all processes, what `compute` raised in one.
    """
    if ranks.count() == 1:
        computed = compute()
        return None if computed is None else computed[0]
    error: BaseException | None = None
    value, n_rows = 0.0, 0
    try:
        computed = compute()
        if computed is None:
            return None
        value, n_rows = float(computed[0]), computed[1]
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    first = parameters[0]
    sizes = [p.numel() for p in parameters]
    # A parameter that no process has a gradient of must have none, or it would be decayed.
    has_gradient = [p.grad is not None and n_rows > 0 for p in parameters]
    sums = first.new_zeros(sum(sizes) + len(sizes) + _N_FURTHER)
    gradients, counts, further = sums.split([sum(sizes), len(sizes), _N_FURTHER])
    for has, p, part in zip(has_gradient, parameters, gradients.split(sizes), strict=True):
        if has and p.grad is not None:
            torch.mul(p.grad.flatten(), n_rows, out=part)
    counts.copy_(torch.tensor(has_gradient))
    further.copy_(torch.tensor([value * n_rows, n_rows, error is not None, is_interrupted()]))
    ranks.add_up(sums)
    total, n_all, n_failed, n_interrupted = further.tolist()
    if n_failed:
        ranks.raise_first(error)
    if n_interrupted:
        raise KeyboardInterrupt
    gradients /= max(n_all, 1)
    for has, p, part in zip(counts.tolist(), parameters, gradients.split(sizes), strict=True):
        p.grad = part.view_as(p) if has else None
    return torch.as_tensor(total / max(n_all, 1), dtype=torch.float64, device=first.device)
