"""K flows side by side: every transform acts on values of shape (K, B, D)."""

from vmonf.flows.base import Base, GaussianMixtureBase, StandardNormal
from vmonf.flows.bijections import Bijection
from vmonf.flows.component_flows import ComponentFlows
from vmonf.flows.families import FAMILIES, MAF, NSF, Family, RealNVP, build_flows, family_of
from vmonf.flows.transform import Transform
from vmonf.flows.whitening import Whitening

__all__ = [
    "FAMILIES",
    "MAF",
    "NSF",
    "Base",
    "Bijection",
    "ComponentFlows",
    "Family",
    "GaussianMixtureBase",
    "RealNVP",
    "StandardNormal",
    "Transform",
    "Whitening",
    "build_flows",
    "family_of",
]
