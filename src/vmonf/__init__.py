"""Mixtures of normalizing flows trained by variational inference.

`FlowMixture` is the estimator. `RealNVP`, `MAF`, `NSF`, `PosteriorMLP` and `Training` hold the
settings of its parts. `vmonf.data` has tables and toy data, and `vmonf.plots` has figures. Names
are imported when they are first used, so that `vmonf --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmonf.estimator import FlowMixture
    from vmonf.flows import MAF, NSF, RealNVP
    from vmonf.model import PosteriorMLP
    from vmonf.training import Training

__version__ = "0.1.0"
__all__ = ["MAF", "NSF", "FlowMixture", "PosteriorMLP", "RealNVP", "Training", "__version__"]

_MODULES = {
    "FlowMixture": "vmonf.estimator",
    "MAF": "vmonf.flows",
    "NSF": "vmonf.flows",
    "RealNVP": "vmonf.flows",
    "PosteriorMLP": "vmonf.model",
    "Training": "vmonf.training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'vmonf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
