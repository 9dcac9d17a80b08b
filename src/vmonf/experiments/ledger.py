"""Results of an experiment, kept as they come: what is done is not done again."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean
from typing import Any

import vmonf
from vmonf.machine import processor


class Ledger:
    """A results file that grows by one fit at a time.

    A run of the same command, settings and version goes on where an earlier one stopped.

    Parameters
    ----------
    path : Path
        The file.
    command : str
        What a user types.
    settings : mapping
        All that the results depend on, but for the seeds.
    n_fits : int
        How many fits the run takes in all, so that the time left can be told.
    """

    def __init__(self, path: Path, command: str, settings: Mapping[str, Any], n_fits: int) -> None:
        self.path = path
        self.n_fits = n_fits
        self._began = time.monotonic()
        self._seconds: list[float] = []
        self.document: dict[str, Any] = {
            "command": command,
            "versions": _versions(),
            "machine": processor(),
            "threads": _threads(),
            "settings": json.loads(json.dumps(settings)),
            "fits": {},
        }
        earlier = _read(path)
        same = ("versions", "settings")
        if all(earlier.get(name) == self.document[name] for name in same):
            self.document["fits"] = earlier["fits"]
            done = len(self.document["fits"])
            if done:
                _say(f"{path} holds {done} fits of an earlier run: going on from there.")

    def fit(self, case: str, seed: int, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The result of one fit: as written, or else computed and written."""
        key = f"{case}, seed {seed}"
        fits: dict[str, dict[str, Any]] = self.document["fits"]
        if key not in fits:
            _say(f"{key}: fit {len(fits) + 1} of {self.n_fits}{self._time_left()}")
            began = time.monotonic()
            with warnings.catch_warnings():
                # A fit that is interrupted keeps what it has, which is no result here.
                warnings.filterwarnings("error", message="Training was interrupted")
                try:
                    result = compute()
                except UserWarning as warning:
                    raise KeyboardInterrupt from warning
            fits[key] = {"case": case, "seed": seed, **result}
            self._seconds.append(time.monotonic() - began)
            self.write()
        return fits[key]

    def of(self, case: str) -> list[dict[str, Any]]:
        """All results of a case."""
        return [fit for fit in self.document["fits"].values() if fit["case"] == case]

    def write(self) -> None:
        """Write the file, whole or not at all."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)

    def _time_left(self) -> str:
        if not self._seconds:
            return ""
        minutes = mean(self._seconds) * (self.n_fits - len(self.document["fits"])) / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"


def _say(text: str) -> None:
    """Progress goes to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _read(path: Path) -> dict[str, Any]:
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return earlier


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "vmonf": vmonf.__version__}
    for package in ("torch", "numpy", "scikit-learn"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    # From a clone, the commit too.
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if described.returncode == 0:
        versions["commit"] = described.stdout.strip()
    return versions


def _threads() -> int:
    import torch

    return torch.get_num_threads()
