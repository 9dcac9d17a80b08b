"""The probability model, a torch module with exact densities, the ELBO and sampling."""

from vmonf.model.build import build_model
from vmonf.model.conditionals import Conditionals
from vmonf.model.domain import Domain
from vmonf.model.mixture import MixtureModel, Terms, in_parts
from vmonf.model.posterior import POSTERIORS, PosteriorMLP, PosteriorNetwork, posterior_of
from vmonf.model.sparse import SparseTerms
from vmonf.model.standardizer import Standardizer

__all__ = [
    "POSTERIORS",
    "Conditionals",
    "Domain",
    "MixtureModel",
    "PosteriorMLP",
    "PosteriorNetwork",
    "SparseTerms",
    "Standardizer",
    "Terms",
    "build_model",
    "in_parts",
    "posterior_of",
]
