"""The results file of an experiment, from which an interrupted run resumes."""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import vmonf
from vmonf.experiments.common import commit_of
from vmonf.files import written_whole
from vmonf.machine import processor


class Ledger:
    """A results file that is rewritten after each fit.

    A run with the same settings and versions resumes where an earlier one stopped. A file with
    other settings or versions is renamed.

    Parameters
    ----------
    path : Path
        The file.
    command : str
        The command that a user types.
    settings : mapping
        Everything that the results depend on, except the seeds.
    minutes : sequence of float
        Approximate minutes that each fit takes on two cores, in their order. They give the time
        left, and are scaled by the measured times of the fits.
    """

    def __init__(
        self, path: Path, command: str, settings: Mapping[str, Any], minutes: Sequence[float]
    ) -> None:
        self.path = path
        self.minutes = minutes
        self._minutes_taken = 0.0
        self._minutes_expected = 0.0
        self.document: dict[str, Any] = {
            "command": command,
            "versions": _versions(),
            "machine": processor(),
            "threads": _threads(),
            "settings": json.loads(json.dumps(settings)),
            "fits": {},
        }
        if not path.exists():
            return
        earlier = _read(path)
        if all(earlier.get(name) == self.document[name] for name in ("versions", "settings")):
            self.document["fits"] = earlier["fits"]
            _say(f"{path} holds {len(earlier['fits'])} fits of an earlier run: the run resumes.")
        else:
            aside = _unused(path)
            path.rename(aside)
            _say(
                f"{path} has other settings or versions: it is renamed to {aside.name}, and the "
                "run starts from the first fit."
            )

    def fit(
        self,
        case: str,
        seed: int,
        compute: Callable[[], Mapping[str, Any]],
        file: Path | None = None,
    ) -> dict[str, Any]:
        """Return the result of one fit: the saved one, otherwise computed and saved.

        Parameters
        ----------
        case : str
        seed : int
        compute : callable
            Fits, and returns the result.
        file : Path, optional
            A file that `compute` also writes. If it is missing, the fit is repeated.
        """
        key = f"{case}, seed {seed}"
        fits: dict[str, dict[str, Any]] = self.document["fits"]
        if file is not None and not file.exists():
            fits.pop(key, None)
        if key not in fits:
            place = len(fits)
            left = _time_left(sum(self.minutes[place:]) * self._slowness)
            _say(f"{key}: fit {place + 1} of {len(self.minutes)}, {left} left")
            began = time.monotonic()
            with warnings.catch_warnings():
                # An interrupted fit keeps its best model and only warns. It is not a result here.
                warnings.filterwarnings("error", message="Training was interrupted")
                try:
                    result = compute()
                except UserWarning as warning:
                    raise KeyboardInterrupt from warning
            fits[key] = {"case": case, "seed": seed, **result}
            self._minutes_taken += (time.monotonic() - began) / 60
            self._minutes_expected += self.minutes[place]
            self.write()
        return fits[key]

    def of(self, case: str) -> list[dict[str, Any]]:
        """Return all results of a case."""
        return [fit for fit in self.document["fits"].values() if fit["case"] == case]

    def write(self) -> None:
        """Write the file, whole or not at all."""
        with written_whole(self.path) as stream:
            stream.write(f"{json.dumps(self.document, indent=1)}\n".encode())

    @property
    def _slowness(self) -> float:
        """Ratio of measured to expected times; 1 until enough fits are done to estimate it."""
        if self._minutes_expected < 0.2:
            return 1.0
        return self._minutes_taken / self._minutes_expected


def _time_left(minutes: float) -> str:
    return f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"


def _say(text: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _read(path: Path) -> dict[str, Any]:
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return earlier if isinstance(earlier, dict) else {}


def _unused(path: Path) -> Path:
    """Return the path with the first number that no file has."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "vmonf": vmonf.__version__}
    for package in ("torch", "numpy", "scikit-learn"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    # In a clone of the repository, the commit is known too.
    commit = commit_of(Path(__file__))
    if commit is not None:
        versions["commit"] = commit
    return versions


def _threads() -> int:
    import torch

    return torch.get_num_threads()
