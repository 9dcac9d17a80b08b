"""The machine of a fit: number of threads, reuse of freed memory, and name of the processor."""

import os
import platform
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

#: Up to this many multiply-adds in a step, one thread is used. More threads are hardly faster, and
#: on a busy machine they are slower, since each small product waits for the slowest thread.
SMALL_STEP = 2e8
#: Up to this many features, one thread is used for products of matrices in the start.
FEW_FEATURES = 64
#: Just under 32 MiB, in bytes: the largest block for which glibc adapts its thresholds.
LARGEST_ADAPTIVE_BLOCK = 2**25 - 2**14


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[None]:
    """Use one thread of torch for steps of few multiply-adds, and as many as before after.

    Other threads of the process, and those that begin meanwhile, keep their own number.
    """
    before = torch.get_num_threads()
    if before == 1 or multiply_adds > SMALL_STEP:
        yield
        return
    try:
        _use_threads_here(1)
        yield
    finally:
        _use_threads_here(before)


def _use_threads_here(number: int) -> None:
    """Set torch's number of threads for the calling thread alone.

    torch has one number for each thread that has used it, and makes it that of all threads which
    use it later. Another thread sets the latter back.
    """
    with ThreadPoolExecutor(1) as other:
        of_others = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(number)
        other.submit(torch.set_num_threads, of_others).result()


@contextmanager
def blas_threads_kept() -> Iterator[None]:
    """Restore the number of threads of numpy's and scipy's BLAS after, also if threads overlap.

    BLAS has one number for the whole process. `one_blas_thread` changes it, and so does
    scikit-learn, for example in k-means: of two threads, the second would take the number of the
    first for that of the process, and restore it. Here the last thread that leaves restores what
    the first one found.
    """
    with _blas.held(to_one=False):
        yield


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Use one thread for products of small matrices, which more do not make faster.

    The whole process then uses one thread of BLAS, and this thread uses one of OpenMP.
    """
    torch.get_num_threads()  # makes torch's number that of OpenMP before it is changed here
    openmp = _libraries().select(user_api="openmp")
    with openmp.limit(limits=1), _blas.held(to_one=True):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of BLAS and OpenMP, which are all loaded with vmonf.

    They are looked for once: it takes 10 milliseconds or more, as long as a small start.
    """
    return ThreadpoolController()


def blas_threads_for(n_features: int) -> AbstractContextManager[None]:
    """As `one_blas_thread` for matrices of few features; otherwise nothing is changed."""
    return one_blas_thread() if n_features <= FEW_FEATURES else nullcontext()


class _Blas:
    """The number of threads of BLAS, while threads of this process hold it.

    One thread of its own sets it: threadpoolctl lets the thread that is first set the number of
    OpenBLAS, and ignores all others as long as the first one lives.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_held = 0
        self.n_to_one = 0

    @contextmanager
    def held(self, *, to_one: bool) -> Iterator[None]:
        with self.lock:
            if self.n_held == 0:
                self.setter = ThreadPoolExecutor(1)
                self.blas = _libraries().select(user_api="blas")
                self.found = self.blas.limit(limits=None)
            if to_one and self.n_to_one == 0:
                self.setter.submit(self.blas.limit, limits=1).result()
            self.n_held += 1
            self.n_to_one += to_one
        try:
            yield
        finally:
            if self is _blas:  # and not of the process from which this one was forked
                self._leave(to_one)

    def _leave(self, to_one: bool) -> None:
        with self.lock:
            self.n_held -= 1
            self.n_to_one -= to_one
            if self.n_held == 0 or (to_one and self.n_to_one == 0):
                self.setter.submit(self.found.restore_original_limits).result()
            if self.n_held == 0:
                self.setter.shutdown()


_blas = _Blas()


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
    global _blas
    _blas = _Blas()  # the lock and the thread of the other are those of the parent process
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
