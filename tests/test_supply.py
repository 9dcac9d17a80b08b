"""Tests of what is installed: hashes, licences, and no network."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUPPLY = ROOT / "supply"
LOCKED = {"constraints.txt": "locked.txt", "constraints-lowest.txt": "locked-lowest.txt"}
LOCK = runpy.run_path(str(SUPPLY / "lock.py"))
LICENCES = runpy.run_path(str(SUPPLY / "licences.py"))

WITHOUT_NETWORK = """
import sys

def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        raise SystemError(f"network: {event} {arguments[1:]}")

sys.addaudithook(refuse)

import numpy as np
from vmonf import FlowMixture
from vmonf.cli import main

X = np.random.default_rng(0).normal(size=(100, 2))
FlowMixture(2, init="kmeans", max_epochs=1, random_state=0).fit(X).save("model.vmonf")
FlowMixture.load("model.vmonf").predict(X)
for verb in (
    "toy pinwheel -o wings.csv --rows-each 60",
    "fit wings.csv -o wings.vmonf -k 2 --exclude wing --max-epochs 1 --init kmeans",
    "info wings.vmonf",
    "predict wings.vmonf wings.csv -o clusters.csv",
    "score wings.vmonf wings.csv -o scores.parquet",
    "sample wings.vmonf --number 10 -o samples.npy",
    "plot wings.vmonf wings.csv -o wings.png",
):
    sys.argv = ["vmonf", *verb.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, verb
import socket
try:
    socket.create_connection(("localhost", 9))
except SystemError as error:
    print("refused", error)
"""


def test_nothing_uses_the_network(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "VMONF_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("refused network: socket.getaddrinfo")


@pytest.mark.parametrize("constraints", LOCKED)
def test_hashes_are_those_of_the_pinned_versions_of_all_that_tests_need(constraints):
    platforms, hashes = LOCK["read"](SUPPLY / LOCKED[constraints])
    locked = dict(name.split("==") for name in hashes)
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / constraints).read_text(), re.MULTILINE))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    assert platforms
    assert all(re.fullmatch(r"[0-9a-f]{64}", each) for found in hashes.values() for each in found)
    assert {name: locked[name] for name in locked if name in pins}.items() <= pins.items()
    # Only what builds vmonf has no pin.
    assert len(set(locked) - set(pins)) < 10
    if constraints == "constraints.txt":
        needed = set(LICENCES["needed"]("vmonf", ["test"])) - {"vmonf"}
        assert needed & set(pins) <= set(locked)
    text = (SUPPLY / LOCKED[constraints]).read_text()
    assert LOCK["text_of"](constraints, platforms, hashes) == text


def test_hashes_of_other_platforms_are_kept_and_those_of_other_versions_are_not(
    tmp_path, monkeypatch
):
    path = tmp_path / "locked.txt"
    main = LOCK["main"]
    monkeypatch.setattr(sys, "argv", ["lock.py", "constraints.txt", str(path)])
    for version, name, digest in [("1", "a", "0" * 64), ("1", "b", "1" * 64), ("2", "c", "2" * 64)]:
        found = {f"x=={version}": {digest}, f"{name}==1": {digest}}
        monkeypatch.setitem(main.__globals__, "resolved", lambda _, found=found: found)
        main()
        _, hashes = LOCK["read"](path)
        if version == "1":
            assert digest in hashes["x==1"]
    assert hashes["x==2"] == {"2" * 64}
    assert set(hashes) == {"x==2", "a==1", "b==1", "c==1"}


def test_no_file_names_an_index_of_packages():
    files = [*ROOT.glob("*.txt"), *ROOT.glob("*.toml"), ROOT / "Makefile", *SUPPLY.iterdir()]
    files += [ROOT / ".ci" / "run"]
    for file in files:
        if file.is_file():
            found = re.findall(r"https?://|--(?:extra-)?index-url|--find-links", file.read_text())
            assert not found, file


def test_licences_are_none_of_the_gpl():
    lines, refused = LICENCES["table"]()
    assert refused == []
    assert any(line.startswith("| torch |") for line in lines)
    page = (SUPPLY / "licences.md").read_text()
    assert "Not installed" not in page
    listed = re.findall(r"^\| ([a-z0-9-]+) \| [0-9]\S* \| (.*) \|$", page, re.MULTILINE)
    assert {name for name, text in listed if LICENCES["is_refused"](text)} == set()
    needed = LICENCES["needed"]("vmonf", ["plots", "test"])
    assert set(needed) <= {name for name, _ in listed} | OF_OTHER_VERSIONS


#: Packages that only the lowest versions need.
OF_OTHER_VERSIONS = {"click", "commonmark", "pytz", "colorama"}


@pytest.mark.parametrize(
    ("metadata", "refused"),
    [
        ({"License-Expression": "MIT"}, False),
        ({"License-Expression": "GPL-3.0-or-later"}, True),
        ({"License-Expression": "MIT OR GPL-2.0-only"}, False),
        ({"License-Expression": "MIT AND AGPL-3.0-only"}, True),
        ({"License": "GNU General Public License v3\nand its text"}, True),
        ({"License": "LGPL-2.1"}, False),
        ({}, True),
    ],
)
def test_which_licences_are_refused(metadata, refused):
    assert LICENCES["is_refused"](LICENCES["licence"](metadata)) == refused
