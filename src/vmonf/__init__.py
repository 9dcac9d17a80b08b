"""Mixtures of normalizing flows trained by variational inference.

`FlowMixture` is the way in; `vmonf.data` has tables and toy data, `vmonf.plots` figures.
Names are imported when first used, so that `vmonf --help` need not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmonf.estimator import FlowMixture

__version__ = "0.1.0"
__all__ = ["FlowMixture", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "FlowMixture":
        from vmonf.estimator import FlowMixture

        return FlowMixture
    raise AttributeError(f"module 'vmonf' has no attribute {name!r}")
