"""The probability model, in torch alone: log_joint, log_prob, posterior, elbo, sample."""

from vmonf.model.mixture import MixtureModel, Terms, in_parts
from vmonf.model.posterior import PosteriorNetwork
from vmonf.model.sparse import SparseTerms
from vmonf.model.standardizer import Standardizer

__all__ = [
    "MixtureModel",
    "PosteriorNetwork",
    "SparseTerms",
    "Standardizer",
    "Terms",
    "in_parts",
]
