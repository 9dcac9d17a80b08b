"""Several processes that fit one model together, by torch.distributed.

Every process calls the same functions in the same order. With one process each of them does
nothing but what it is given to do. A process that fails takes part in the next exchange, so that
all processes raise its error. One that dies is noticed when its connections close, or after a
timeout.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from types import FrameType

T = TypeVar("T")
P = ParamSpec("P")

#: Longest time between two steps, in seconds: a process may read rows or write a checkpoint.
STEP_TIMEOUT = 600.0
#: Longest time that the other processes wait while the first one works alone, in seconds: a start
#: may take hours. A process that dies meanwhile is noticed by torchrun.
ALONE_TIMEOUT = 24 * 3600.0

#: The group that adds up numbers, within `joined`; the default group exchanges objects.
_group: dist.ProcessGroup | None = None


class LostProcessError(RuntimeError):
    """Another process of the same fit ended, or did not answer in time."""


def count() -> int:
    """Number of processes that fit together. It is 1 outside `joined`."""
    return 1 if _group is None else dist.get_world_size()


def rank() -> int:
    """The number of this process, from 0."""
    return 0 if _group is None else dist.get_rank()


def is_first() -> bool:
    """Whether this process is the one that prints and writes files."""
    return rank() == 0


def is_everywhere(error: BaseException) -> bool:
    """Whether every process has raised an error, of which this is one, after an exchange."""
    return hasattr(error, "_vmonf_rank")


def is_told_by_first(error: BaseException) -> bool:
    """Whether the first process tells of the error, and this one need not."""
    return getattr(error, "_vmonf_rank", 0) > 0


@contextmanager
def joined(timeout: float = STEP_TIMEOUT) -> Iterator[None]:
    """Fit together with the other processes that torchrun has started.

    Within it, each process calls the same methods with the same parameters, and ends with the
    same model: ``with ranks.joined(): mixture.fit("data/")``. Nothing is done in a process that is
    alone, or that torchrun has not started. If torch.distributed has a default group already, it is
    used.

    Parameters
    ----------
    timeout : float
        Longest time between two steps of the training, in seconds.

    Raises
    ------
    LostProcessError
        If the processes do not find each other, or one of them ends.
    Exception
        What another process raised.
    """
    global _group
    is_new = not (dist.is_available() and dist.is_initialized())
    n_ranks = int(os.environ.get("WORLD_SIZE", "1")) if is_new else dist.get_world_size()
    is_launched = dist.is_available() and (not is_new or dist.is_torchelastic_launched())
    if _group is not None or n_ranks == 1 or not is_launched:
        yield
        return
    try:
        if is_new:
            _begin()
        _group = dist.new_group(timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        raise LostProcessError(
            f"The {n_ranks} processes did not find each other ({_reason(error)}): check that "
            "all machines run torchrun with the same --rdzv-endpoint and --rdzv-id."
        ) from error
    is_whole = False  # the end of a group that lost a process could wait for it
    try:
        try:
            yield
        except Exception as error:
            _share(error)
            is_whole = is_everywhere(error)
            raise
        _share(None)
        is_whole = True
    finally:
        _group = None
        if is_new and is_whole:
            dist.destroy_process_group()


def together(function: Callable[[], T]) -> T:
    """Call a function in every process. If it raises in any of them, all raise this error."""
    if _group is None:
        return function()
    try:
        value = function()
    except (Exception, KeyboardInterrupt) as error:
        _share(error)
        raise
    _share(None)
    return value


def from_first(function: Callable[[], T]) -> T:
    """Call a function in the first process alone, and return its result, or its error, in all."""
    if _group is None:
        return function()
    values: list[Any] = [together(lambda: function() if is_first() else None)]
    _exchanged(dist.broadcast_object_list, values, src=0)
    value: T = values[0]
    return value


def check_same(value: object, fault: str) -> None:
    """Check that a value is the same in all processes.

    Raises
    ------
    ValueError
        With the message `fault`, in all processes, if it is not.
    """
    if _group is None:
        return
    first = from_first(lambda: value)

    def check() -> None:
        if value != first:
            raise ValueError(fault)

    together(check)


def from_each(value: T) -> list[T]:
    """The values of all processes, in their order."""
    if _group is None:
        return [value]
    values: list[Any] = [None] * count()
    _exchanged(dist.all_gather_object, values, value)
    return values


def add_up(values: Tensor) -> Tensor:
    """Replace values by their sums over the processes, which are bit for bit the same in all."""
    if _group is not None:
        _exchanged(dist.all_reduce, values, group=_group)
    return values


def part_of(index: Tensor) -> Tensor:
    """The part of an index (n,) that belongs to this process."""
    return index.tensor_split(count())[rank()]


@contextmanager
def interrupts_held() -> Iterator[Callable[[], bool]]:
    """Hold the first Ctrl-C back, so that all processes can end a training at the same step.

    Yields a function that tells whether there was one. The second is raised as always. With one
    process, or outside the main thread, none is held back.
    """
    seen = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen = True
        signal.signal(signal.SIGINT, before)

    if _group is None or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


def raise_first(error: BaseException | None) -> NoReturn:
    """Raise an error in all processes, of which at least one has one."""
    _share(error)
    raise AssertionError("no process has an error")


def _share(error: BaseException | None) -> None:
    """Exchange errors. If there are any, raise this one or that of the first process with one."""
    if isinstance(error, LostProcessError) or (error is not None and is_everywhere(error)):
        return
    errors = from_each(None if error is None else _portable(error))
    failed = [each for each, value in enumerate(errors) if value is not None]
    if failed:
        raised = error or errors[failed[0]]
        assert raised is not None
        if len(failed) < count() and raised is not error:
            raised.add_note(f"(In process {failed[0]} of {count()}, counted from 0.)")
        raised._vmonf_rank = rank()  # type: ignore[attr-defined]
        raise raised


def _portable(error: BaseException) -> BaseException:
    """The error, or one with its message if other processes could not read it."""
    try:
        copied = pickle.loads(pickle.dumps(error))
        if str(copied) == str(error):
            return error
    except Exception:  # whatever the constructor of the error raises
        pass
    kind = ValueError if isinstance(error, ValueError) else RuntimeError
    return kind(str(error) or type(error).__name__)


def _exchanged(function: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Call a function of torch.distributed.

    Raises
    ------
    LostProcessError
        If it fails.
    """
    try:
        function(*arguments, **options)
    except RuntimeError as error:
        raise LostProcessError(
            f"Another process of this fit ended or did not answer in time ({_reason(error)}): "
            "see what it printed; a fit with a checkpoint goes on when it is started again."
        ) from error


def _begin() -> None:
    """Make the default group of the processes that torchrun has started."""
    from torch.distributed.rendezvous import rendezvous  # not every torch has it

    timeout = timedelta(seconds=ALONE_TIMEOUT)
    store, own, n_ranks = next(rendezvous("env://", timeout=timedelta(seconds=STEP_TIMEOUT)))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(n_ranks):
        # torchrun keeps its store when it restarts the processes, which would then read where those
        # before them could be reached (pytorch/pytorch#135712). The number of restarts is the same
        # in all processes only if they are on one machine.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    dist.init_process_group(_backend(), store=store, rank=own, world_size=n_ranks, timeout=timeout)


def _backend() -> str:
    """Gloo on CPUs, and NCCL on GPUs if each process of this machine has one of its own."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return "gloo"
    if here > torch.cuda.device_count() or not dist.is_nccl_available():
        return "gloo"  # it also adds up numbers on a GPU that processes share
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return "cpu:gloo,cuda:nccl"


def _reason(error: BaseException) -> str:
    """The first sentence of a message of torch.distributed, without the place in its code."""
    sentence = re.sub(r"^\[\S*\]\s*", "", str(error).strip()).split(". ")[0]
    return " ".join(sentence.split()).rstrip(".") or type(error).__name__
