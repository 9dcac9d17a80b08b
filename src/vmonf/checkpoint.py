"""Checkpoints: files from which a training continues after a crash or Ctrl-C."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from torch import Tensor

from vmonf.plain import NonFinite, finite, numbers
from vmonf.storage import (
    ModelFileError,
    bad_document,
    previous_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from vmonf.training import Watcher

if TYPE_CHECKING:
    from vmonf.training import TrainingLoop

#: Least number of seconds between two writes, so that the writes take little time when epochs
#: are short.
INTERVAL = 30.0

_Number = float | NonFinite
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]


class _Epoch(msgspec.Struct, forbid_unknown_fields=True):
    """A record of the history; the fields are those of `vmonf.training.Epoch`."""

    epoch: _Count
    elbo: _Number
    log_likelihood: _Number
    gap: _Number
    training_objective: _Number
    temperature: _Positive
    learning_rate: Annotated[float, msgspec.Meta(ge=0)]
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    component_use: list[_Number]
    start_agreement: float | None


class _Result(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of `vmonf.training.TrainingResult`."""

    history: list[_Epoch]
    best_epoch: _Count
    converged: bool
    interrupted: bool
    out_of_time: bool
    recoveries: _Count


class _State(msgspec.Struct, forbid_unknown_fields=True):
    """The document of a checkpoint: that of `TrainingLoop.state`, and the fingerprint."""

    fingerprint: str
    n_steps: _Count
    best_score: _Number
    last_gain: _Number
    best_temperature: _Positive
    epochs_without_gain: _Count
    epoch: _Count
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    learning_rate: _Positive
    place: _Count
    result: _Result


class Checkpoint(Watcher):
    """Keeps the state of a training in a file, and the state before it in a second one.

    Parameters
    ----------
    path : path
        The second file has this name with ".previous" added.
    fingerprint : str
        Identifies the rows, settings and seed. A training continues only from a checkpoint with
        the same fingerprint.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str) -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self._written = time.monotonic()
        self._unwritten: tuple[_State, dict[str, Tensor]] | None = None

    def on_begin(self, loop: TrainingLoop) -> None:
        """Load the state if there is a file. If it is damaged, load the state before it.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file is one of other rows, settings or another seed; or if it is damaged or not
            a checkpoint, and there is no earlier one.
        """
        fault: ModelFileError | None = None
        for path in (self.path, previous_checkpoint(self.path)):
            if not path.exists():
                continue
            try:
                state, tensors = read_checkpoint(path, _State)
                is_other = state.fingerprint != self.fingerprint
                if not is_other:
                    _load(path, state, tensors, loop)
            except ModelFileError as error:
                fault = fault or error
                continue
            if is_other:
                # An earlier checkpoint of another fit does not stand for a damaged one.
                raise fault or ModelFileError(
                    f"{path} is the checkpoint of another fit (other rows, settings or "
                    "random_state): remove it, or choose another file."
                )
            if fault is not None:
                warnings.warn(
                    f"{fault} The training continues from the checkpoint before it, {path}.",
                    stacklevel=2,
                )
            return
        if fault is not None:
            raise fault

    def on_epoch(self, loop: TrainingLoop) -> None:
        """Keep the state, and write it if `INTERVAL` seconds have passed since the last write.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file cannot be written.
        """
        document, tensors = loop.state()
        document = finite(document | {"fingerprint": self.fingerprint})
        copies = {name: value.detach().clone() for name, value in tensors.items()}
        self._unwritten = msgspec.convert(document, _State), copies
        if time.monotonic() - self._written >= INTERVAL:
            self._write()

    def on_end(self, loop: TrainingLoop) -> None:
        """Write the state after the last whole epoch, also if something stopped the training.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file cannot be written.
        """
        self._write()

    def _write(self) -> None:
        if self._unwritten is not None:
            write_checkpoint(self.path, *self._unwritten)
            self._unwritten = None
            self._written = time.monotonic()


def _load(path: Path, state: _State, tensors: dict[str, Tensor], loop: TrainingLoop) -> None:
    """Give a training the state that was read.

    Raises
    ------
    ModelFileError
        If the state is not one of this training. Another state may then be loaded.
    """
    document = numbers(msgspec.to_builtins(state))
    del document["fingerprint"]
    _check_tensors(path, tensors, loop)
    try:
        loop.load_state(document, tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise bad_document(path, error) from error


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], loop: TrainingLoop) -> None:
    """Check the names, shapes and types of the tensors against those of the training.

    Raises
    ------
    ModelFileError
        If they differ.
    """
    expected = {
        name: value for name, value in loop.state()[1].items() if not name.startswith("optimizer.")
    }
    # The optimiser has no moments before its first step.
    parameters = [p for group in loop.optimizer.param_groups for p in group["params"]]
    moments: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        moments[f"optimizer.{index}.step"] = torch.zeros(())
        moments[f"optimizer.{index}.exp_avg"] = parameter
        moments[f"optimizer.{index}.exp_avg_sq"] = parameter
    indices = {name.split(".")[1] for name in tensors if name.startswith("optimizer.")}
    needed = {name for name in moments if name.split(".")[1] in indices}
    missing = sorted((set(expected) | needed) - set(tensors))
    if missing:
        raise bad_document(path, f"there is no tensor {missing[0]}")
    for name, value in tensors.items():
        own = expected.get(name, moments.get(name))
        if own is None or own.shape != value.shape or own.dtype != value.dtype:
            raise bad_document(path, f"the tensor {name} is not one of this training")
