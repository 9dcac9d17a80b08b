"""Tests of checkpoints: damaged ones are named, and the one before them is used."""

import os
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from damaged_files import forge
from vmonf import FlowMixture, PosteriorMLP, RealNVP
from vmonf.storage import ModelFileError

QUICK = {
    "flow": RealNVP(n_layers=2, hidden=(8,)),
    "posterior": PosteriorMLP((8,)),
    "max_epochs": 3,
    "init": "kmeans",
    "random_state": 0,
}


@pytest.fixture(scope="module")
def blobs():
    return make_blobs(120, centers=3, random_state=0)


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """A checkpoint is written after every epoch."""
    monkeypatch.setattr("vmonf.checkpoint.INTERVAL", 0.0)


def checkpoints(blobs, tmp_path, **changes):
    """A fit that ended after a few epochs, with its last two checkpoints, and what it must give."""
    X, _ = blobs
    path = tmp_path / "fit.checkpoint"
    settings = QUICK | changes
    whole = FlowMixture(3, **settings, checkpoint=path).fit(X)
    return X, path, settings, whole


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(blobs, tmp_path, damage):
    X, path, settings, whole = checkpoints(blobs, tmp_path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    if damage == "removed":  # as if the machine stopped between the two names
        path.unlink()
    else:
        path.write_bytes({"flipped": content, "cut": content[:-50], "empty": b""}[damage])
    watched = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resumed = FlowMixture(3, **settings, checkpoint=path).fit(
            X, watchers=[lambda mixture: watched.append(mixture.n_epochs_)]
        )
    assert watched == [whole.n_epochs_]  # only the last epoch was trained again
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))
    said = [str(warning.message) for warning in caught]
    if damage == "removed":
        assert said == []
    else:
        assert len(said) == 1
        assert "damaged" in said[0]
        assert said[0].startswith(str(path))
        assert said[0].endswith(f"continues from the checkpoint before it, {path}.previous.")


def test_two_damaged_checkpoints_are_refused_and_left(blobs, tmp_path):
    X, path, settings, _ = checkpoints(blobs, tmp_path)
    for each in (path, path.with_name("fit.checkpoint.previous")):
        each.write_bytes(each.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="not a checkpoint file, or is damaged"):
        FlowMixture(3, **settings, checkpoint=path).fit(X)
    assert sorted(os.listdir(tmp_path)) == ["fit.checkpoint", "fit.checkpoint.previous"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, tensors: tensors.pop("average.0"), "there is no tensor average.0"),
        (lambda header, tensors: tensors.update(x=torch.ones(1)), "the tensor x is not one of"),
        (lambda header, tensors: header["document"].pop("epoch"), "missing required field `epoch`"),
        (lambda header, tensors: header["document"].update(epoch=-1), "Expected `int` >= 0"),
        (lambda header, tensors: header["document"].update(learning_rate=0), "> 0"),
        (lambda header, tensors: header["document"].update(x=1), "unknown field `x`"),
        (lambda header, tensors: header.update(version="3"), "newer vmonf"),
    ],
)
@pytest.mark.long
def test_a_forged_checkpoint_is_refused(blobs, tmp_path, change, message):
    X, path, settings, _ = checkpoints(blobs, tmp_path, max_epochs=1)
    path.write_bytes(forge(path, change))
    with pytest.raises(ModelFileError, match=message):
        FlowMixture(3, **settings, checkpoint=path).fit(X)
