"""How many threads torch uses for a piece of work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Multiply-adds of a step under which a second thread brings little, and on a busy machine
#: stalls: small products end in waiting for the slowest thread.
SMALL_STEP = 2e8


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[None]:
    """Use one thread for steps of few multiply-adds; torch's own number is put back after."""
    before = torch.get_num_threads()
    if before == 1 or multiply_adds > SMALL_STEP:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
