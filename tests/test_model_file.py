"""Tests of what a model file may hold: kept models are read, damaged and forged ones refused."""

import json
import resource
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from damaged_files import NARROW, count_outcomes, forge
from vmonf import NSF, FlowMixture, PosteriorMLP
from vmonf.model_file import _Parameters
from vmonf.storage import ModelFileError

KEPT = sorted(Path(__file__).parent.glob("kept_models/*.vmonf"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_models_are_read_and_score_as_they_did(path):
    kept = json.loads(path.with_suffix(".json").read_text())
    mixture = FlowMixture.load(path, device="cpu")
    rows = np.array(kept["rows"])
    np.testing.assert_allclose(mixture.score_samples(rows), kept["log_prob"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixture.elbo(rows), kept["elbo"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixture.weights_, kept["weights"], rtol=1e-5)
    assert mixture.predict(rows).tolist() == kept["clusters"]
    assert mixture.history_["epoch"] == [1, 2, 3, 4]


def test_there_is_a_kept_model_of_this_version():
    from vmonf.storage import FORMAT_VERSION

    assert any(path.name.startswith(f"version-{FORMAT_VERSION}-") for path in KEPT)


def test_damaged_copies_are_refused(tmp_path):
    counts = count_outcomes(240, tmp_path, seed=1)
    assert not [what for _, what in counts if what.startswith("fault")], counts
    assert counts["damaged", "refused"] == 180
    assert counts["forged", "refused"] > 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model file with centres, whose classes are 0 and 1."""
    X = np.random.default_rng(0).normal(size=(60, 2)) + np.arange(60)[:, None] % 2 * 4
    path = tmp_path_factory.mktemp("model") / "whole.vmonf"
    mixture = FlowMixture(
        2,
        flow=NSF(n_layers=2, n_bins=3, **NARROW),
        base=2,
        posterior=PosteriorMLP((6,)),
        init=[[0.0, 0.0], [4.0, 4.0]],
        weights=[0.5, 0.5],
        max_epochs=1,
        validation_fraction=0,
    )
    mixture.fit(X).save(path)
    return path


def document(**changes):
    """A change of the document: "a__b" is the key "b" of the entry "a"."""

    def change(header, tensors):
        for name, value in changes.items():
            *above, last = name.split("__")
            owner = header["document"]
            for key in above:
                owner = owner[key]
            if value is ...:
                del owner[last]
            else:
                owner[last] = value

    return change


def header(**changes):
    return lambda old, tensors: old.update(changes)


def tensor(name, change):
    def changed(header, tensors):
        tensors[name] = change(tensors[name].clone())

    return changed


FLOW = {"type": "NSF", "n_layers": 2, "hidden": [6], "mixing": "permutation", "n_bins": 3,
        "bound": 5.0, "autoregressive": False}  # fmt: skip
NAN = float("nan")

FORGED = {
    "no parameters": (document(parameters=...), "missing required field `parameters`"),
    "no verdict": (document(verdict=...), "missing required field `verdict`"),
    "no parameter": (document(parameters__n_init=...), "missing required field `n_init`"),
    "another key": (document(other=1), "unknown field `other`"),
    "another parameter": (document(parameters__other=1), "unknown field `other`"),
    "text for a number": (document(n_features="2"), "Expected `int`, got `str`"),
    "a number for a list": (document(classes=2), "Expected `array`, got `int`"),
    "no features": (document(n_features=0), "Expected `int` >= 1"),
    "fewer features": (document(n_features=-2), "Expected `int` >= 1"),
    "1e9 features": (document(n_features=10**9), "1000000000 features"),
    "three names": (document(feature_names=["a", "b", "c"]), "too many or too few names"),
    "equal classes": (document(classes=[1, 1]), "a class occurs twice"),
    "nested classes": (document(classes=[[0], [1]]), "Expected `int | str`, got `array`"),
    "three classes": (document(classes=[0, 1, 2]), "there are 3 classes"),
    "one class": (document(classes=[0]), "there are 1 classes"),
    "no classes": (document(classes=[]), "there are no classes"),
    "mixed classes": (document(classes=[0, "1"]), "whole numbers or text, not both"),
    "huge classes": (document(classes=[0, 2**70]), "int"),
    "unknown labels": (document(labelled_classes=[5]), "labelled classes"),
    "float16": (document(dtype="float16"), "Invalid enum value 'float16'"),
    "complex": (document(dtype="complex64"), "Invalid enum value 'complex64'"),
    "no dtype": (document(dtype="manual_seed"), "Invalid enum value 'manual_seed'"),
    "another dtype": (document(dtype="float64"), "torch.float64"),
    "negative weights": (document(parameters__weights=[-1.0, 2.0]), "not positive"),
    "three weights": (document(parameters__weights=[0.2, 0.3, 0.5]), "not as many as"),
    "NaN weights": (document(parameters__weights=["NaN", 0.5]), "Expected `float`, got `str`"),
    "no temperature": (document(parameters__temperature=0.0), "temperature=0.0 must be positive"),
    "three centres": (document(parameters__init=[[0.0, 1.0]] * 3), "centres"),
    "uneven centres": (document(parameters__init=[[0.0, 1.0], [1.0]]), "inhomogeneous"),
    "a broad part of NaN": (document(broad_weight="NaN"), "Expected `float`, got `str`"),
    "a broad part of 1": (document(broad_weight=1.0), "Expected `float` < 1.0"),
    "a negative seed": (document(parameters__random_state=-1), "Expected `int` >= 0"),
    "a device of no machine": (document(parameters__device="cuda:99"), "device='cuda:99'"),
    "no device": (document(parameters__device="toaster"), "device='toaster'"),
    "no family": (document(parameters__flow="glow"), "flow='glow' is not known"),
    "a class of Python": (document(parameters__flow=FLOW | {"type": "Popen"}), "it needs Popen"),
    "no class": (document(parameters__flow={"n_layers": 2}), "it needs None"),
    "more layers": (document(parameters__flow=FLOW | {"n_layers": 4}), "other tensors than"),
    "1e9 layers": (document(parameters__flow=FLOW | {"n_layers": 10**9}), "more layers than"),
    "1e9 units": (document(parameters__flow=FLOW | {"hidden": [10**9]}), "more weights than"),
    "1e9 bins": (document(parameters__flow=FLOW | {"n_bins": 10**9}), "more weights than"),
    "-1 bins": (document(parameters__flow=FLOW | {"n_bins": -1}), "flow__n_bins=-1"),
    "1e9 units of q": (
        document(parameters__posterior={"type": "PosteriorMLP", "hidden": [10**9, 10**9]}),
        "more weights than",
    ),
    "a missing setting": (document(parameters__flow={"type": "NSF"}), "NSF has other settings"),
    "another setting": (document(parameters__flow=FLOW | {"x": 1}), "NSF has other settings"),
    "a setting of text": (document(parameters__flow=FLOW | {"n_layers": "2"}), "flow__n_layers"),
    "a short history": (document(history__elbo=[]), "differ in length"),
    "uses of three": (document(history__component_use=[[0.1, 0.2, 0.7]]), "number of components"),
    "starts of no name": (document(start__names=["a"]), "table of the starts"),
    "numbers of no K": (document(number__agreement=[0.5]), "differ in length"),
    "another verdict": (document(verdict__kept="both"), "Invalid enum value 'both'"),
    "a list for the document": (header(document="[]"), "Expected `object`, got `array`"),
    "no JSON": (header(document="{"), "truncated"),
    "nesting": (header(document="[" * 10**6), "Expected `object`, got `array`"),
    "nesting inside": (
        header(document='{"parameters": {"flow": {"a": ' + "[" * 10**6),
        "recursion|too deep",
    ),
    "a version of text": (header(version="two"), "format version two"),
    "a version that is a fraction": (header(version="2.5"), "format version 2.5"),
    "a version of zero": (header(version="0"), "format version 0"),
    "a negative version": (header(version="-1"), "format version -1"),
    "a later version": (header(version="3"), "was written by a newer vmonf"),
    "a version of no end": (header(version="9" * 10**5), "was written by a newer vmonf"),
    "another format": (header(format="gpt"), "not a vmonf model"),
    "another entry": (header(extra="1"), "is damaged"),
    "a scale of zero": (tensor("standardizer.scale", torch.zeros_like), "scale is not positive"),
    "a negative scale": (tensor("standardizer.scale", torch.neg), "scale is not positive"),
    "a scale of NaN": (tensor("standardizer.scale", lambda x: x * NAN), "holds NaN or infinite"),
    "a temperature of zero": (tensor("temperature", torch.zeros_like), "temperature is not pos"),
    "an infinite weight": (tensor("log_weight_logits", lambda x: x / 0), "holds NaN or infinite"),
    "atoms of no width": (tensor("flows.base.factor", torch.zeros_like), "not positive"),
    "a tensor of doubles": (tensor("flows.base.mean", torch.Tensor.double), "torch.float64"),
    "a longer tensor": (tensor("flows.base.mean", lambda x: torch.cat([x, x])), "has the shape"),
    "a tensor more": (lambda header, tensors: tensors.update(x=torch.ones(1)), "other tensors"),
    "a tensor less": (lambda header, tensors: tensors.pop("flows.base.mean"), "other tensors"),
    "no weights": (lambda header, tensors: tensors.pop("log_weight_logits"), "weights"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_file_is_refused_in_a_sentence_soon_and_in_little_memory(whole, tmp_path, name):
    change, message = FORGED[name]
    path = tmp_path / "forged.vmonf"
    path.write_bytes(forge(whole, change))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=message) as caught:
            FlowMixture.load(path, device=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1.0
    assert peak < 100e6
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < 100e6
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 700
    assert len(str(caught.value).splitlines()) == 1


def test_an_order_that_is_none_is_refused(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    path = tmp_path / "model.vmonf"
    FlowMixture(2, flow=NSF(n_layers=4, **NARROW), init="kmeans", max_epochs=0).fit(X).save(path)
    order = next(name for name in FlowMixture.load(path).model_.state_dict() if "order" in name)
    for wrong in ([0, 0, 1], [1, 2, 3], [-1, 0, 1]):
        changed = tensor(order, lambda x, wrong=wrong: torch.tensor(wrong))
        (tmp_path / "forged").write_bytes(forge(path, changed))
        with pytest.raises(ModelFileError, match="not a permutation"):
            FlowMixture.load(tmp_path / "forged")


def test_the_schema_has_the_parameters_of_the_estimator():
    assert set(_Parameters.__struct_fields__) == set(FlowMixture().get_params(deep=False))


def test_a_model_that_could_not_be_read_is_not_written(whole, tmp_path):
    mixture = FlowMixture.load(whole)
    with torch.no_grad():
        mixture.model_.log_weight_logits.fill_(NAN)
    with pytest.raises(ModelFileError, match="log_weight_logits holds NaN or infinite values"):
        mixture.save(tmp_path / "model.vmonf")
    half = FlowMixture.load(whole)
    half.model_.half()
    with pytest.raises(ModelFileError, match="cannot be saved: Invalid enum value 'float16'"):
        half.save(tmp_path / "model.vmonf")
    assert not list(tmp_path.iterdir())


def test_what_json_lacks_comes_back(whole, tmp_path):
    mixture = FlowMixture.load(whole)
    mixture.history_["elbo"] = [-np.inf]
    mixture.shrinkage_ = mixture.shrinkage_ | {"strength": np.inf}
    mixture.save(tmp_path / "model.vmonf")
    again = FlowMixture.load(tmp_path / "model.vmonf")
    assert again.history_["elbo"] == [-np.inf]
    assert again.shrinkage_["strength"] == np.inf
    assert np.isnan(again.verdict_.log_likelihood)


def test_reading_warns_of_nothing(whole):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FlowMixture.load(whole, device="cpu")
