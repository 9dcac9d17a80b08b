"""The machine of a fit: number of threads, reuse of freed memory, and name of the processor."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

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


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
