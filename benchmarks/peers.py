"""The same mixture in other libraries, as their users would write it.

Each peer has K flows, a posterior network q, the ELBO with uniform weights, and Adam. A step
is forward, backward and update; rows are float32 arrays. Layers, hidden widths and bins are
those of the `Architecture`; `notes` lists the remaining differences. A library is imported when
its peer is built, which raises ImportError if the library is not installed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

N_BINS = 8
BOUND = 5.0
POSTERIOR_HIDDEN = (64, 64)


@dataclass(frozen=True)
class Architecture:
    """K components over D features, and the networks of each flow."""

    family: str
    components: int
    features: int
    layers: int = 5
    hidden: tuple[int, int] = (64, 64)


class Peer(ABC):
    """A mixture that can be trained step by step."""

    #: The differences from ours.
    notes: str
    #: The modules that are imported when a peer is built.
    modules: tuple[str, ...]
    n_parameters: int

    @abstractmethod
    def __init__(self, architecture: Architecture, learning_rate: float, seed: int = 0) -> None:
        pass

    @abstractmethod
    def rows(self, X: np.ndarray) -> Any:
        """Convert rows to the library's type, which numpy arrays can index."""

    @abstractmethod
    def step(self, x: Any, temperature: float = 1.0) -> None:
        """Train for one step, complete on return; the temperature divides q's logits."""

    @abstractmethod
    def log_joint(self, x: Any) -> np.ndarray:
        """Log p(x, c): shape (B, K)."""

    @abstractmethod
    def clusters(self, x: Any) -> np.ndarray:
        """Most probable component under q: shape (B,)."""

    def log_likelihood(self, x: Any) -> float:
        """Mean log p(x)."""
        return float(np.logaddexp.reduce(self.log_joint(x), axis=1).mean())


class TorchPeer(Peer):
    """A peer in torch: posterior, ELBO and optimiser.

    Subclasses build the flows and compute their densities.
    """

    modules = ("zuko",)

    def __init__(self, architecture: Architecture, learning_rate: float, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.architecture = architecture
        self.posterior = nn.Sequential(
            nn.Linear(architecture.features, POSTERIOR_HIDDEN[0]),
            nn.ReLU(),
            nn.Linear(*POSTERIOR_HIDDEN),
            nn.ReLU(),
            nn.Linear(POSTERIOR_HIDDEN[1], architecture.components),
        )
        parameters = [*self.build_flows(), *self.posterior.parameters()]
        self.n_parameters = sum(p.numel() for p in parameters)
        self.optimizer = torch.optim.Adam(parameters, learning_rate, fused=True)

    @abstractmethod
    def build_flows(self) -> list[Tensor]:
        """Build the flows and return their parameters."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x given c): shape (B, K)."""

    def rows(self, X: np.ndarray) -> Tensor:
        """Convert rows to a float32 tensor."""
        return torch.from_numpy(X).float()

    def step(self, x: Tensor, temperature: float = 1.0) -> None:
        """Do one step of Adam on the ELBO."""
        self.optimizer.zero_grad(set_to_none=True)
        log_q = (self.posterior(x) / temperature).log_softmax(dim=-1)
        elbo = (log_q.exp() * (self._log_joint(x) - log_q)).sum(dim=-1)
        (-elbo.mean()).backward()
        self.optimizer.step()

    @torch.no_grad()
    def log_joint(self, x: Tensor) -> np.ndarray:
        """Log p(x, c): shape (B, K)."""
        return self._log_joint(x).double().numpy()

    @torch.no_grad()
    def clusters(self, x: Tensor) -> np.ndarray:
        """Most probable component under q: shape (B,)."""
        return self.posterior(x).argmax(dim=-1).numpy()

    def _log_joint(self, x: Tensor) -> Tensor:
        return self.log_prob(x) - math.log(self.architecture.components)


class ZukoLoop(TorchPeer):
    """A Python loop over K flows of zuko."""

    notes = (
        "no affine start; coupling layers split odd and even features, without permutations "
        "between; splines in coupling form by `GeneralCouplingTransform`, which is less work than "
        "`NSF(passes=2)`"
    )

    def build_flows(self) -> list[Tensor]:
        """Build K flows in a list."""
        self.flows = nn.ModuleList(
            _zuko_flow(self.architecture) for _ in range(self.architecture.components)
        )
        return list(self.flows.parameters())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x given c), one flow after the other: shape (B, K)."""
        return torch.stack([flow().log_prob(x) for flow in self.flows], dim=-1)


class ZukoStacked(TorchPeer):
    """The same flows with `torch.func`: stacked parameters and `vmap`."""

    notes = "the same flows"

    def build_flow(self) -> nn.Module:
        """Build one of the flows."""
        return _zuko_flow(self.architecture)

    def build_flows(self) -> list[Tensor]:
        """Build one flow without values, and stack the values of K flows."""
        flows = [_Density(self.build_flow()) for _ in range(self.architecture.components)]
        self.values, self.buffers = torch.func.stack_module_state(flows)
        self.empty = deepcopy(flows[0]).to("meta")
        return list(self.values.values())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x given c), all flows at once: shape (B, K)."""

        def of_one(values: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(self.empty, (values, buffers), (x,))

        return torch.vmap(of_one, out_dims=-1)(self.values, self.buffers)


class ZukoStackedMasked(ZukoStacked):
    """`ZukoStacked` with zuko's couplings as masked networks, which `vmap` supports."""

    notes = "zuko's `passes=2`: coupling layers are masked networks, of up to twice the weights"

    def build_flow(self) -> nn.Module:
        """Build one of the flows."""
        if self.architecture.family == "maf":
            raise ValueError("maf is masked already")
        return _zuko_flow(self.architecture, masked=True)


class _Density(nn.Module):
    """A flow of zuko as a module whose forward is its log density."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x)


def _zuko_flow(architecture: Architecture, *, masked: bool = False) -> nn.Module:
    import zuko

    options = {"transforms": architecture.layers, "hidden_features": architecture.hidden}
    if architecture.family == "nsf":
        options["univariate"] = partial(zuko.transforms.MonotonicRQSTransform, bound=BOUND)
        options["shapes"] = [(N_BINS,), (N_BINS,), (N_BINS - 1,)]
    if masked:
        return zuko.flows.MAF(architecture.features, passes=2, **options)
    if architecture.family == "maf":
        return zuko.flows.MAF(architecture.features, **options)
    return zuko.flows.RealNVP(architecture.features, **options)


class Flowjax(Peer):
    """K flows of flowjax with `equinox.filter_vmap`; the whole step is compiled."""

    notes = (
        "no affine start; a random permutation after every layer; splines have trained "
        "slopes at their ends, 25 parameters a feature instead of 23"
    )
    modules = ("equinox", "flowjax.flows", "jax", "optax", "paramax")

    def __init__(self, architecture: Architecture, learning_rate: float, seed: int = 0) -> None:
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        import optax
        import paramax

        self._jnp = jnp
        jax.clear_caches()  # so that no peer reuses what was compiled for another
        flow_key, posterior_key = jax.random.split(jax.random.key(seed))
        keys = jax.random.split(flow_key, architecture.components)
        # Not under jit, although it is faster, because flowjax's constructors store values.
        flows = eqx.filter_vmap(partial(_flowjax_flow, architecture))(keys)
        posterior = eqx.nn.MLP(
            architecture.features,
            architecture.components,
            POSTERIOR_HIDDEN[0],
            depth=len(POSTERIOR_HIDDEN),
            key=posterior_key,
        )
        self._parameters, static = eqx.partition(
            (flows, posterior),
            eqx.is_inexact_array,
            is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
        )
        self.n_parameters = sum(leaf.size for leaf in jax.tree.leaves(self._parameters))
        optimizer = optax.adam(learning_rate)
        self._state = eqx.filter_jit(optimizer.init)(self._parameters)

        def terms(parameters: Any, x: Any) -> tuple[Any, Any]:
            flows, posterior = eqx.combine(parameters, static)
            of_one = eqx.filter_vmap(lambda flow: jax.vmap(flow.log_prob)(x), out_axes=1)
            return of_one(flows) - jnp.log(architecture.components), jax.vmap(posterior)(x)

        def loss(parameters: Any, x: Any, temperature: Any) -> Any:
            log_joint, logits = terms(parameters, x)
            log_q = jax.nn.log_softmax(logits / temperature)
            return -(jnp.exp(log_q) * (log_joint - log_q)).sum(axis=-1).mean()

        @eqx.filter_jit(donate="all-except-first")
        def step(rows: tuple[Any, Any], parameters: Any, state: Any) -> tuple[Any, Any]:
            _, gradient = eqx.filter_value_and_grad(loss)(parameters, *rows)
            updates, state = optimizer.update(gradient, state, parameters)
            return eqx.apply_updates(parameters, updates), state

        self._step: Callable[..., tuple[Any, Any]] = step
        self._terms = eqx.filter_jit(terms)
        self._wait = jax.block_until_ready

    def rows(self, X: np.ndarray) -> Any:
        """Convert rows to a float32 array of jax."""
        return self._jnp.asarray(X, dtype=np.float32)

    def step(self, x: Any, temperature: float = 1.0) -> None:
        """Do one step of Adam on the ELBO; the first step compiles."""
        rows = x, self._jnp.float32(temperature)
        stepped = self._step(rows, self._parameters, self._state)
        self._parameters, self._state = self._wait(stepped)

    def log_joint(self, x: Any) -> np.ndarray:
        """Log p(x, c): shape (B, K)."""
        return np.asarray(self._terms(self._parameters, x)[0], dtype=np.float64)

    def clusters(self, x: Any) -> np.ndarray:
        """Most probable component under q: shape (B,)."""
        return np.asarray(self._terms(self._parameters, x)[1]).argmax(axis=1)


def _flowjax_flow(architecture: Architecture, key: Any) -> Any:
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import StandardNormal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow

    make = masked_autoregressive_flow if architecture.family == "maf" else coupling_flow
    spline = None
    if architecture.family == "nsf":
        # A spline has one more bin than inner knots.
        spline = RationalQuadraticSpline(knots=N_BINS - 1, interval=BOUND)
    return make(
        key,
        base_dist=StandardNormal((architecture.features,)),
        transformer=spline,  # None is affine
        flow_layers=architecture.layers,
        nn_width=architecture.hidden[0],
        nn_depth=len(architecture.hidden),
    )


#: The peers by name; each is built from an architecture, a learning rate and a seed.
PEERS: dict[str, type[Peer]] = {
    "zuko_loop": ZukoLoop,
    "zuko_vmap": ZukoStacked,
    "zuko_vmap_masked": ZukoStackedMasked,
    "flowjax": Flowjax,
}
