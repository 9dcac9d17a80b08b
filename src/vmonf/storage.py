"""Files of models and checkpoints: safetensors with a JSON document and a checksum in the header.

Loading a file runs no code from it, and a failed write leaves no partial file. A file whose bytes
have changed since it was written is refused. The format is described in docs/model-file.md.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from vmonf.files import written_whole

FORMAT = "vmonf-model"
CHECKPOINT_FORMAT = "vmonf-checkpoint"
#: The version of either format. Version 1 was never released, and had no checksum.
FORMAT_VERSION = 2

#: The entries of the header, all of them text.
ENTRIES = ("format", "version", "checksum", "document")
#: What stands for the checksum while it is computed.
NO_CHECKSUM = "0" * 64

_BYTES_AT_ONCE = 2**20

T = TypeVar("T")


class ModelFileError(ValueError):
    """A file is not a model or checkpoint that this version reads, or cannot be written."""


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """There is no model file at the given path."""


def write_model(path: str | os.PathLike[str], document: object, tensors: dict[str, Tensor]) -> None:
    """Write a model file. If this fails, no partial file is left.

    Parameters
    ----------
    path : path
    document : msgspec.Struct or dict
        Values that JSON can hold: configuration, classes, history.
    tensors : dict of str to Tensor

    Raises
    ------
    ModelFileError
        If the file cannot be written.
    """
    _write(Path(path), _MODEL, document, tensors)


def read_model(path: str | os.PathLike[str], schema: type[T]) -> tuple[T, dict[str, Tensor]]:
    """Read a model file: its document and its tensors, on the CPU.

    Parameters
    ----------
    path : path
    schema : type
        The type of the document, usually a `msgspec.Struct`.

    Raises
    ------
    ModelFileError
        If the file is not a model of vmonf, is damaged, was written by another version that this
        one does not read, or its document is not of the type `schema`.
    ModelNotFoundError
        If there is no such file. It is also a FileNotFoundError.
    """
    if not Path(path).is_file():
        raise ModelNotFoundError(
            f"There is no model file at {path}: give the path of a file that `vmonf fit` or "
            "`FlowMixture.save` wrote."
        )
    return _read(Path(path), _MODEL, schema)


def write_checkpoint(
    path: str | os.PathLike[str], document: object, tensors: dict[str, Tensor]
) -> None:
    """Write the state of a training, and keep the one before it under `previous_checkpoint`.

    If this fails, no partial file is left.

    Raises
    ------
    ModelFileError
        If the file cannot be written.
    """
    _write(Path(path), _CHECKPOINT, document, tensors, previous=previous_checkpoint(path))


def previous_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The file of the state that was written before the one at `path`."""
    path = Path(os.path.realpath(path))
    return path.with_name(f"{path.name}.previous")


def read_checkpoint(path: str | os.PathLike[str], schema: type[T]) -> tuple[T, dict[str, Tensor]]:
    """Read the state of a training: its document and its tensors, on the CPU.

    Raises
    ------
    ModelFileError
        If the file is not a checkpoint of vmonf, is damaged, was written by another version, or
        its document is not of the type `schema`.
    """
    return _read(Path(path), _CHECKPOINT, schema)


@dataclass(frozen=True)
class _Kind:
    """What a file is: its name in messages, its name in the header, and how to get another."""

    name: str
    format: str
    remedy: str


_MODEL = _Kind("model", FORMAT, "restore the file from a copy, or fit again")
_CHECKPOINT = _Kind("checkpoint", CHECKPOINT_FORMAT, "remove it to start again")


def _write(
    target: Path,
    kind: _Kind,
    document: object,
    tensors: dict[str, Tensor],
    previous: Path | None = None,
) -> None:
    header = {
        "format": kind.format,
        "version": str(FORMAT_VERSION),
        "checksum": NO_CHECKSUM,
        "document": msgspec.json.encode(document).decode(),
    }
    content = serialise(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header
    )
    try:
        with written_whole(target) as stream:
            stream.write(with_checksum(content))
            if previous is not None and target.exists():
                os.replace(os.path.realpath(target), previous)
    except OSError as error:
        raise ModelFileError(
            f"Cannot write the {kind.name} to {target}: {error.strerror or error}."
        ) from error


def with_checksum(content: bytes) -> bytes:
    """The content of a file whose header has `NO_CHECKSUM`, with its checksum in that place.

    The checksum is the SHA-256 of the whole file, in which it counts as `NO_CHECKSUM`.
    """
    return content.replace(_entry(NO_CHECKSUM), _entry(hashlib.sha256(content).hexdigest()), 1)


def _entry(checksum: str) -> bytes:
    # Within the document, quotation marks are escaped: only the entry itself has these bytes.
    return f'"checksum":"{checksum}"'.encode()


def _checksum(path: Path, stated: str) -> str:
    """The checksum of a file that states a checksum in its header."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        length = stream.read(8)
        header = stream.read(int.from_bytes(length, "little"))
        digest.update(length + header.replace(_entry(stated), _entry(NO_CHECKSUM), 1))
        while part := stream.read(_BYTES_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def _read(path: Path, kind: _Kind, schema: type[T]) -> tuple[T, dict[str, Tensor]]:
    try:
        if not path.is_file():
            raise OSError("it is not a file")
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            document = _document(path, kind, header, schema)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is not a {kind.name} file, or is damaged ({error}): give the path of a file "
            "that vmonf wrote."
        ) from error
    return document, tensors


def _document(path: Path, kind: _Kind, header: dict[str, str], schema: type[T]) -> T:
    """The document in the header, once format, version and checksum are as they should be."""
    if header.get("format") != kind.format:
        raise ModelFileError(
            f"{path} is a safetensors file, but not a vmonf {kind.name}: choose another file."
        )
    version = header.get("version", "")
    if version != str(FORMAT_VERSION):
        is_newer = version.isascii() and version.isdigit() and int(version[:9]) > FORMAT_VERSION
        raise ModelFileError(
            f"{path} was written by a newer vmonf (format {version[:9]}; this one reads "
            f"{FORMAT_VERSION}): upgrade vmonf to read it."
            if is_newer
            else f"{path} has the format version {_short(version)}, which is not one that vmonf "
            f"reads: {kind.remedy}."
        )
    if (
        sorted(header) != sorted(ENTRIES)
        or _checksum(path, header["checksum"]) != header["checksum"]
    ):
        raise ModelFileError(
            f"{path} is damaged: its bytes are not those that were written (the checksum "
            f"differs); {kind.remedy}."
        )
    try:
        return msgspec.json.decode(header["document"], type=schema)
    # RecursionError: the document is nested too deeply.
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise bad_document(path, error) from error


def bad_document(path: str | os.PathLike[str], error: Exception | str) -> ModelFileError:
    """The error for a document that does not have the form, or values, that it must have."""
    lines = str(error).splitlines() or [type(error).__name__]
    return ModelFileError(
        f"{path} holds settings or weights that do not belong together, or that this version of "
        f"vmonf does not know ({_short(lines[0])}): the file is damaged, or was written by "
        "another version."
    )


def _short(text: Any, length: int = 200) -> str:
    text = str(text)
    return text if len(text) <= length else f"{text[:length]}..."
