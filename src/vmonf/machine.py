"""The machine of a fit: number of threads, reuse of freed memory, and name of the processor."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

#: Up to this many multiply-adds in a step, one thread is used. More threads are hardly faster, and
#: on a busy machine they are slower, since each small product waits for the slowest thread.
SMALL_STEP = 2e8
#: Just under 32 MiB, in bytes: the largest block for which glibc adapts its thresholds.
LARGEST_ADAPTIVE_BLOCK = 2**25 - 2**14


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[None]:
    """Use one thread for steps of few multiply-adds, and restore the number of threads after."""
    before = torch.get_num_threads()
    if before == 1 or multiply_adds > SMALL_STEP:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let the C library keep up to about 64 MiB of freed memory for the next step.

    glibc returns free memory at the top of its heap to the system and later requests it again,
    page by page, which can take a fifth of the time of a small step. After a large block is
    freed, glibc keeps more (mallopt(3), M_MMAP_THRESHOLD). The block is never written to, so it
    uses no memory.
    """
    torch.empty(LARGEST_ADAPTIVE_BLOCK, dtype=torch.uint8)


@cache
def make_forks_safe() -> None:
    """Let processes that are forked from this one use one thread.

    To be called before threads are used; further calls do nothing. The threads of OpenMP do not
    exist in a forked process, such as a worker of gunicorn with `preload` or of `multiprocessing`
    before Python 3.14, and its first parallel loop would wait for them forever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)  # scikit-learn and scipy have OpenMP and BLAS of their own


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
