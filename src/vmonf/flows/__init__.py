"""K flows side by side: every transform acts on (K, B, D). torch only."""

from vmonf.flows.component_flows import ComponentFlows
from vmonf.flows.families import FAMILIES, build_flows
from vmonf.flows.transform import Transform
from vmonf.flows.whitening import Whitening

__all__ = ["FAMILIES", "ComponentFlows", "Transform", "Whitening", "build_flows"]
