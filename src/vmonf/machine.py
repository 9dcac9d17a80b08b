"""What a piece of work asks of the machine: threads, and memory that stays at hand."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

#: Multiply-adds of a step under which a second thread brings little, and on a busy machine
#: stalls: small products end in waiting for the slowest thread.
SMALL_STEP = 2e8
#: Just under 32 MiB, the largest block that glibc adapts to.
LARGEST_ADAPTIVE_BLOCK = 2**25 - 2**14


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


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees, up to some 64 MiB, for the next step.

    glibc gives memory at the top of its heap back to the system, and asks for it again page by
    page, which can take a fifth of a small step. Once a large block was freed, it adapts and
    keeps more (mallopt(3), M_MMAP_THRESHOLD). The block is never touched, so it costs nothing.
    """
    torch.empty(LARGEST_ADAPTIVE_BLOCK, dtype=torch.uint8)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
