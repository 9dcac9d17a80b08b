"""Tests of reading MNIST's files and of the conversion between bytes and logits."""

import gzip
import struct

import numpy as np
import pytest

from vmonf.data.mnist import bits_per_dimension, from_logits, load_mnist, read_idx, to_logits
from vmonf.data.tables import TableError


def idx(values):
    """Return the bytes of an IDX file."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Write small files with the names and the format of MNIST's."""
    random = np.random.default_rng(0)
    for split, n in (("train", 12), ("t10k", 5)):
        images = random.integers(256, size=(n, 28, 28))
        labels = random.integers(10, size=n)
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_a_folder_is_read_gzipped_or_not(folder, monkeypatch):
    train, test = load_mnist(folder)
    assert train.pixels.shape == (12, 784)
    assert test.digits.shape == (5,)
    monkeypatch.setenv("VMONF_MNIST", str(folder))
    again, _ = load_mnist()
    np.testing.assert_array_equal(again.pixels, train.pixels)
    low = train.of(range(5))
    assert (low.digits < 5).all()
    np.testing.assert_array_equal(low.pixels, train.pixels[train.digits < 5])


def test_what_is_wrong_with_a_file_is_said(folder, tmp_path):
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(4)))
    with pytest.raises(TableError, match="5 images and 4 labels in t10k"):
        load_mnist(folder)
    path.write_bytes(idx(np.zeros(4))[:-1])
    with pytest.raises(TableError, match="holds 3 values, but its header says 4"):
        read_idx(path)
    path.write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(TableError, match="damaged gzip"):
        read_idx(path)
    path.write_bytes(b"a text")
    with pytest.raises(TableError, match="not an IDX file"):
        read_idx(path)
    path.unlink()
    with pytest.raises(TableError, match="no t10k-labels-idx1-ubyte"):
        load_mnist(folder)


def test_every_byte_comes_back_from_its_logit():
    pixels = np.arange(256, dtype=np.uint8).repeat(50).reshape(-1, 256)
    np.testing.assert_array_equal(from_logits(to_logits(pixels, np.random.default_rng(0))), pixels)
    np.testing.assert_array_equal(from_logits(np.array([-1e4, 1e4])), [0, 255])


def test_bits_per_dimension_of_uniform_bytes_are_eight():
    # The density of logits under which each byte is equally likely, by change of variables.
    pixels = np.random.default_rng(0).integers(256, size=(6, 30)).astype(np.uint8)
    x = to_logits(pixels, np.random.default_rng(1))
    inner = 1 / (1 + np.exp(-x))
    log_prob = np.log(inner * (1 - inner) / (1 - 2e-6)).sum(axis=1)
    np.testing.assert_allclose(bits_per_dimension(log_prob, x), 8.0, rtol=1e-9)
    # Half of the levels at twice the density need one bit less.
    np.testing.assert_allclose(bits_per_dimension(log_prob + 30 * np.log(2), x), 7.0, rtol=1e-9)
