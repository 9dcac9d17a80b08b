"""Files of models and checkpoints: safetensors with a JSON document in the header.

Loading a file runs no code from it, and a failed write leaves no partial file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from vmonf.files import written_whole

FORMAT = "vmonf-model"
FORMAT_VERSION = 1
CHECKPOINT_FORMAT = "vmonf-checkpoint"
CHECKPOINT_VERSION = 1


class ModelFileError(ValueError):
    """A file is not a model or checkpoint that this version reads, or cannot be written."""


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """There is no model file at the given path."""


def write_model(
    path: str | os.PathLike[str], document: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write a model file. If this fails, no partial file is left.

    Parameters
    ----------
    path : path
    document : dict
        Values that JSON can hold: configuration, classes, history.
    tensors : dict of str to Tensor

    Raises
    ------
    ModelFileError
        If the file cannot be written.
    """
    header = {"format": FORMAT, "version": str(FORMAT_VERSION), "model": json.dumps(document)}
    _write(Path(path), "model", header, tensors)


def write_checkpoint(
    path: str | os.PathLike[str], document: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write the state of a training. If this fails, no partial file is left.

    Raises
    ------
    ModelFileError
        If the file cannot be written.
    """
    header = {
        "format": CHECKPOINT_FORMAT,
        "version": str(CHECKPOINT_VERSION),
        "training": json.dumps(document),
    }
    _write(Path(path), "checkpoint", header, tensors)


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the state of a training: its document and its tensors, on the CPU.

    Raises
    ------
    ModelFileError
        If the file is not a checkpoint of vmonf, or was written by another version.
    """
    header, tensors = _read(Path(path), "checkpoint")
    if header.get("format") != CHECKPOINT_FORMAT:
        raise ModelFileError(
            f"{path} is a safetensors file, but not a checkpoint of vmonf: choose another file."
        )
    if header.get("version") != str(CHECKPOINT_VERSION):
        raise ModelFileError(
            f"{path} was written by another version of vmonf: remove it to start again."
        )
    document: dict[str, Any] = json.loads(header["training"])
    return document, tensors


def _write(target: Path, what: str, header: dict[str, str], tensors: dict[str, Tensor]) -> None:
    content = serialise(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header
    )
    try:
        with written_whole(target) as stream:
            stream.write(content)
    except OSError as error:
        raise ModelFileError(
            f"Cannot write the {what} to {target}: {error.strerror or error}."
        ) from error


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model file: its document and its tensors, on the CPU.

    Raises
    ------
    ModelFileError
        If the file is not a model of vmonf, or was written by a newer version.
    ModelNotFoundError
        If there is no such file. It is also a FileNotFoundError.
    """
    if not Path(path).is_file():
        raise ModelNotFoundError(
            f"There is no model file at {path}: give the path of a file that `vmonf fit` or "
            "`FlowMixture.save` wrote."
        )
    header, tensors = _read(Path(path), "model")
    if header.get("format") != FORMAT:
        raise ModelFileError(
            f"{path} is a safetensors file, but not a vmonf model: choose another file."
        )
    if int(header.get("version", 0)) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was written by a newer vmonf (format {header['version']}; this one reads "
            f"up to {FORMAT_VERSION}): upgrade vmonf to load it."
        )
    document: dict[str, Any] = json.loads(header["model"])
    return document, tensors


def _read(path: Path, what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is not a {what} file, or is damaged ({error}): give the path of a file that "
            "vmonf wrote."
        ) from error
    return header, tensors
