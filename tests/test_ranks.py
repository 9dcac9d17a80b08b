"""Tests of fits that several processes share, under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from in_two_processes import curved, fifty_steps, of_stream, to_the_end, write_files
from vmonf import FlowMixture, ranks

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)


def torchrun(*arguments, options=(), **environment):
    """Run a script of this folder in two processes."""
    script, *rest = map(str, arguments)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options]
    return subprocess.run(
        [*command, str(Path(__file__).with_name(script)), *rest],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder with what two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    completed = torchrun("in_two_processes.py", folder)
    assert completed.returncode == 0, completed.stderr
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """What each of the two processes found."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_give_the_parameters_of_one(folder):
    one, two = fifty_steps(), FlowMixture.load(folder / "fifty_steps.vmonf")
    assert two.history_["epoch"] == [1, 2, 3, 4, 5]
    pairs = zip(one.model_.parameters(), two.model_.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in pairs)
    for name in ("elbo", "log_likelihood", "training_objective"):
        np.testing.assert_allclose(two.history_[name], one.history_[name], rtol=1e-5)
    assert two.history_["start_agreement"] == pytest.approx(one.history_["start_agreement"])


def test_two_processes_end_with_the_quality_of_one(found):
    one = to_the_end()
    held_out = one.held_out_log_likelihood_
    assert found[0]["held out"]["to_the_end"] == pytest.approx(held_out, abs=0.005)


def test_two_processes_share_a_table_that_is_read_in_parts(found, tmp_path, monkeypatch):
    for name in ("SAMPLE_ROWS", "BUFFER_VALUES"):
        monkeypatch.setattr(f"vmonf.stream.{name}", getattr(sys.modules["vmonf.stream"], name))
    monkeypatch.setattr("vmonf.data.source.STRETCH_ROWS", 100)
    write_files(tmp_path / "data")
    held_out = of_stream(tmp_path / "data", 100).held_out_log_likelihood_
    assert found[0]["held out"]["stream"] == pytest.approx(held_out, abs=0.02)
    # One process has the only stretch, and the other no rows.
    assert found[0]["held out"]["one stretch"] == pytest.approx(held_out, abs=0.02)


def test_all_processes_have_the_same_models(found):
    assert found[0]["models"] == found[1]["models"]
    assert found[0]["held out"] == found[1]["held out"]


def test_all_recover_from_what_is_not_a_number_in_one(folder, found):
    # The second epoch is undone. It counts, but is not in the history.
    assert found[0]["epochs"]["recovered"] == found[1]["epochs"]["recovered"] == 5
    assert FlowMixture.load(folder / "recovered.vmonf").history_["epoch"] == [1, 3, 4, 5]


def test_ctrl_c_in_one_ends_the_training_of_all(found):
    assert found[0]["epochs"]["interrupted"] == found[1]["epochs"]["interrupted"] == 2


@pytest.mark.parametrize(
    ("case", "message", "process"),
    [
        ("other rows", "different rows", None),
        ("first fails", "no space left", 0),
        ("damaged", "2.parquet' cannot be read", 1),
        ("missing", "every machine needs the same files", None),
        ("unreadable", "3.parquet' cannot be read", 1),
    ],
)
def test_the_error_of_one_process_is_raised_in_all(case, message, process, found):
    notes = []
    for rank in range(2):
        _, text, noted, is_told_by_first = found[rank][case]
        assert message in text
        assert is_told_by_first == (rank == 1)
        notes += noted
    if process is not None:  # the other process says where it was
        assert notes == [f"(In process {process} of 2, counted from 0.)"]


def test_a_fit_goes_on_after_a_process_was_killed(tmp_path):
    x = curved(1200)
    pl.DataFrame({"a": x[:, 0], "b": x[:, 1]}).write_csv(tmp_path / "rows.csv")
    settings = ["-k", 3, "--init", "kmeans", "--base", 1, "--max-epochs", 6, "--device", "cpu"]
    output = ["-o", tmp_path / "two.vmonf", "--checkpoint", tmp_path / "checkpoint"]
    completed = torchrun(
        "killed_once.py",
        *["fit", tmp_path / "rows.csv", *output, *settings],
        options=["--max-restarts", "1", "--monitor-interval", "0.1"],
        EPOCHS=str(tmp_path / "epochs"),
    )
    assert completed.returncode == 0, completed.stderr
    epochs = list(map(int, (tmp_path / "epochs").read_text().split()))
    assert epochs == [1, 2, 3, 4, 4, 5, 6]
    assert completed.stdout.count("Fitted 3 components") == 1
    one = FlowMixture(3, init="kmeans", base=1, max_epochs=6, random_state=0, device="cpu")
    one.fit(pl.read_csv(tmp_path / "rows.csv"))
    two = FlowMixture.load(tmp_path / "two.vmonf")
    np.testing.assert_allclose(
        two.history_["log_likelihood"], one.history_["log_likelihood"], atol=1e-4
    )
    assert two.held_out_log_likelihood_ == pytest.approx(one.held_out_log_likelihood_, abs=0.005)
    # One process can read the checkpoint of two.
    one.set_params(checkpoint=tmp_path / "checkpoint").fit(pl.read_csv(tmp_path / "rows.csv"))
    assert one.history_ == two.history_


def test_a_process_alone_does_nothing_else():
    with ranks.joined():
        assert (ranks.rank(), ranks.count()) == (0, 1)
        assert ranks.from_first(lambda: 3) == ranks.together(lambda: 3) == 3
        assert ranks.from_each(3) == [3]
        values = torch.arange(5)
        assert ranks.add_up(values) is ranks.part_of(values) or torch.equal(
            ranks.add_up(values), ranks.part_of(values)
        )
        with pytest.raises(ZeroDivisionError) as raised:
            ranks.together(lambda: 1 // 0)
    assert not ranks.is_told_by_first(raised.value)
