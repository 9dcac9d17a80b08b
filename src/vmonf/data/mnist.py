"""MNIST: read or fetch the images, and convert them to logits, which a flow can model."""

from __future__ import annotations

import gzip
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmonf.data.faults import TableError

FloatArray = NDArray[np.float64]
ByteArray = NDArray[np.uint8]

#: The environment variable that names the folder of the four IDX files.
ENVIRONMENT_VARIABLE = "VMONF_MNIST"
#: The distance from 0 and 1 before a logit is taken, as in Papamakarios et al. (2017).
MARGIN = 1e-6
LEVELS = 256
_TYPES = {0x08: np.dtype(np.uint8)}


@dataclass(frozen=True)
class Images:
    """Images and their digits.

    Attributes
    ----------
    pixels : array of shape (n, 784), uint8
    digits : array of shape (n,), int64
    """

    pixels: ByteArray
    digits: NDArray[np.int64]

    def of(self, digits: Sequence[int]) -> Images:
        """Return the images of the given digits."""
        chosen = np.isin(self.digits, digits)
        return Images(self.pixels[chosen], self.digits[chosen])


def load_mnist(folder: str | os.PathLike[str] | None = None) -> tuple[Images, Images]:
    """Load the training and the test split: 60,000 and 10,000 images.

    Parameters
    ----------
    folder : path, optional
        The folder of the four IDX files, gzipped or not. By default, the folder that the
        environment variable VMONF_MNIST names. If there is none, scikit-learn fetches the
        images from OpenML and caches them.

    Raises
    ------
    TableError
        If a file is missing or is not a valid IDX file, or OpenML cannot be reached.
    """
    folder = folder or os.environ.get(ENVIRONMENT_VARIABLE)
    if not folder:
        return _fetch()
    splits = []
    for split in ("train", "t10k"):
        pixels = read_idx(_find(Path(folder), f"{split}-images-idx3-ubyte"))
        digits = read_idx(_find(Path(folder), f"{split}-labels-idx1-ubyte"))
        if len(pixels) != len(digits):
            raise TableError(
                f"{folder} has {len(pixels)} images and {len(digits)} labels in {split}: the "
                "files do not belong together."
            )
        splits.append(Images(pixels.reshape(len(pixels), -1), digits.astype(np.int64)))
    train, test = splits
    return train, test


def read_idx(path: str | os.PathLike[str]) -> ByteArray:
    """Read an IDX file of bytes, gzipped or not.

    Raises
    ------
    TableError
        If the file is not an IDX file of bytes, or is truncated.
    """
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise TableError(f"{path} is a damaged gzip file ({error}).") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise TableError(f"{path} is not an IDX file of bytes.")
    n_axes = content[3]
    shape = struct.unpack(f">{n_axes}I", content[4 : 4 + 4 * n_axes].ljust(4 * n_axes, b"\0"))
    values = np.frombuffer(content[4 + 4 * n_axes :], dtype=_TYPES[content[2]])
    if values.size != math.prod(shape):
        raise TableError(
            f"{path} holds {values.size} values, but its header says {math.prod(shape)}."
        )
    return values.reshape(shape)


def _find(folder: Path, name: str) -> Path:
    candidates = [folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise TableError(
        f"There is no {name} or {name}.gz in {folder}: give the folder of the four IDX files."
    )


def _fetch() -> tuple[Images, Images]:
    from sklearn.datasets import fetch_openml

    try:
        pixels, digits = fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True)
    except OSError as error:
        raise TableError(
            f"MNIST cannot be fetched from OpenML ({error}): give the folder of its four IDX "
            f"files, or set {ENVIRONMENT_VARIABLE} to it."
        ) from error
    everything = Images(pixels.astype(np.uint8), digits.astype(np.int64))
    parts = slice(0, 60_000), slice(60_000, None)
    train, test = (Images(everything.pixels[p], everything.digits[p]) for p in parts)
    return train, test


def to_logits(pixels: ByteArray, random: np.random.Generator) -> FloatArray:
    """Dequantise bytes of any shape with uniform noise, and take their logits.

    x = logit(margin + (1 - 2 margin) (byte + u) / 256), u uniform on [0, 1).

    Source: Papamakarios et al., "Masked Autoregressive Flow" (2017), appendix on
    preprocessing, with its margin of 1e-6 for MNIST.
    """
    shares = (pixels + random.random(pixels.shape)) / LEVELS
    inner = MARGIN + (1 - 2 * MARGIN) * shares
    logits: FloatArray = np.log(inner) - np.log1p(-inner)
    return logits


def from_logits(x: FloatArray) -> ByteArray:
    """Invert `to_logits`; values outside the range of bytes are clipped to it."""
    with np.errstate(over="ignore"):
        inner = 1 / (1 + np.exp(-x))
    shares = (inner - MARGIN) / (1 - 2 * MARGIN)
    return np.clip(np.floor(LEVELS * shares), 0, LEVELS - 1).astype(np.uint8)


def bits_per_dimension(log_prob: FloatArray, x: FloatArray) -> FloatArray:
    """Bits per pixel of 256 levels, from log densities of logits in nats: (n,), (n, D) to (n,).

    Its mean over the noise is an upper bound on the bits of the discrete image.

    Source: Papamakarios et al., "Masked Autoregressive Flow" (2017), appendix on bits per
    pixel: - log p(x) / (D log 2) - log2(1 - 2 margin) + 8 + mean of log2 s(x) + log2 s(-x).
    """
    # log s(x) + log s(-x) = -|x| - 2 log(1 + exp(-|x|))
    size = np.abs(x)
    log_slopes = -size - 2 * np.log1p(np.exp(-size))
    n_features = x.shape[1]
    log_density = log_prob / n_features - log_slopes.mean(axis=1)  # of inner, per feature
    bits: FloatArray = -log_density / math.log(2) - math.log2(1 - 2 * MARGIN) + 8
    return bits
