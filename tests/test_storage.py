"""Tests of model files."""

import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from vmonf.storage import FORMAT, ModelFileError, read_model, write_model


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "model.vmonf"
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3).mT,
        "b": torch.tensor([1.0], dtype=torch.float64),
    }
    write_model(path, {"classes": ["ä", "b"], "n": 3}, tensors)
    document, read = read_model(path, dict)
    assert document == {"classes": ["ä", "b"], "n": 3}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert read["b"].dtype == torch.float64


def test_no_pickle_is_in_the_file(tmp_path):
    path = tmp_path / "model.vmonf"
    write_model(path, {}, {"a": torch.ones(3)})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert content[8 : 8 + length].lstrip().startswith(b"{")  # JSON, followed only by numbers
    assert len(content) == 8 + length + 12
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever pickle says, it is no pickle
        pickle.loads(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no model file"),
        (lambda path: path.write_bytes(b"not a model"), "not a model file"),
        (lambda path: path.write_bytes(b""), "not a model file"),
        (lambda path: path.mkdir(), "There is no model file"),
        (lambda path: save_file({"a": torch.ones(1)}, path), "not a vmonf model"),
        (
            lambda path: save_file(
                {"a": torch.ones(1)}, path, {"format": FORMAT, "version": "99", "model": "{}"}
            ),
            "newer vmonf",
        ),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(tmp_path, make, message):
    path = tmp_path / "file"
    make(path)
    with pytest.raises(ModelFileError, match=message):
        read_model(path, dict)


def test_a_truncated_model_is_refused(tmp_path):
    path = tmp_path / "model.vmonf"
    write_model(path, {}, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelFileError, match="not a model file"):
        read_model(path, dict)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.vmonf"
    write_model(path, {"n": 1}, {"a": torch.ones(1)})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelFileError, match="No space left"):
        write_model(path, {"n": 2}, {"a": torch.ones(1)})
    monkeypatch.undo()
    assert read_model(path, dict)[0] == {"n": 1}
    assert os.listdir(tmp_path) == ["model.vmonf"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ModelFileError, match="Cannot write the model"):
        write_model(tmp_path / "nowhere" / "model.vmonf", {}, {"a": torch.ones(1)})
