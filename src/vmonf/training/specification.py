"""The settings of the optimiser and the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vmonf.parameters import (
    ParameterError,
    Specification,
    check_choice,
    check_flag,
    check_number,
    check_whole_number,
)
from vmonf.training.consistency import PERTURBATIONS, PerturbRows

#: Default of `batch_size` with few rows.
BATCH_SIZE = 256
#: Default of `patience`. Without a patience, the learning rate still falls after half of it.
PATIENCE = 16
SCHEDULES = ("plateau", "cosine", "constant")


@dataclass(frozen=True)
class Training(Specification):
    """Settings of the training.

    Attributes
    ----------
    learning_rate : float
        Adam's initial learning rate. It is doubled if "auto" makes batches four times as large.
    learning_rate_schedule : {"plateau", "cosine", "constant"}
        "plateau" multiplies the learning rate by 0.3 after each half of `patience` epochs, of 16 if
        it is None, without a better held-out log-likelihood. "cosine" decreases it to zero along
        half a cosine over `max_epochs`.
    weight_decay : float
        Decay of the weights of the networks, decoupled from the gradient as in AdamW. With 0 the
        optimiser is Adam.
    gradient_clip : float
        Largest norm of the gradient in a step.
    averaging : float
        Decay of the exponential moving average of the weights, which is scored and kept. It is
        smaller in the first steps. 0 turns averaging off.
    batch_size : int or "auto"
        Number of rows in a step. "auto" is 256, and 1,024 with more than 50,000 rows.
    epoch_rows : int, "auto" or None
        An epoch has about this many rows, and at most one pass over the rows. The next epoch
        continues the pass where this one ended. Schedules, patience, scores and checkpoints count
        epochs. With a number, at most 10,000 rows are held out. None is a whole pass. "auto" is
        20,000 with more than 50,000 rows, and otherwise None.
    patience : int or None
        Training stops after this many epochs without a better held-out log-likelihood. A gain of
        less than 3% of the standard error of this log-likelihood does not count here. With None
        training does not stop early.
    pretrain_epochs : int or "auto"
        Number of epochs on the labelled rows only, before all rows are used. If the start gives
        each row a cluster, clusters count as labels in these epochs. "auto" is up to 20 for
        a start whose clusters Gaussians may not represent, such as "auto" or "graph", and
        otherwise 0; it ends after 4 epochs without a better held-out log-likelihood, and training
        begins with the best weights.
    components_per_row : int, "auto" or None
        Each row of a step is evaluated with at most this many of its likeliest components under
        the posterior, and with one other component drawn at random. This saves time with many
        components and estimates the ELBO without bias; see `vmonf.model.sparse`. None evaluates
        every component. "auto" is 4 with more than 16 components and the ELBO, and otherwise
        None. Scores are exact in each case.
    refine_posterior : bool
        Whether the posterior is fitted further at the end, with the flows held fixed, to rows and
        to samples of the model. With more than 64 features it is not.
    consistency : {"noise", "features"}, callable or None
        Adds a term to the objective that makes q agree between each row and a perturbed copy of
        it, drawn anew in each step; see `vmonf.training.consistency`. "noise" adds Gaussian noise
        scaled to the distance of the row's tenth nearest neighbour. "features" gives some
        features the values of other rows. A function takes a batch of rows, a float64 tensor of
        shape (B, D) in the units of X, and a `torch.Generator` on the CPU, from which it must
        draw its random numbers if a fit is to be repeatable; it returns the perturbed rows, of
        the same shape. A model file has only the name of a function. None adds no term.
    consistency_weight : float
        Factor of the term, which is a divergence in nats for each row.
    consistency_size : float or "auto"
        With "noise", the root mean square length of the noise in distances of the tenth
        neighbour; "auto" is 1. With "features", the share of the features, up to 1; "auto" is
        0.2. A function does not use it.
    """

    learning_rate: float = 3e-3
    learning_rate_schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    weight_decay: float = 0.1
    gradient_clip: float = 5.0
    averaging: float = 0.99
    batch_size: int | Literal["auto"] = "auto"
    epoch_rows: int | Literal["auto"] | None = "auto"
    patience: int | None = PATIENCE
    pretrain_epochs: int | Literal["auto"] = "auto"
    components_per_row: int | Literal["auto"] | None = "auto"
    refine_posterior: bool = True
    consistency: str | PerturbRows | None = None
    consistency_weight: float = 1.0
    consistency_size: float | Literal["auto"] = "auto"

    def check(self) -> None:
        """Raise `ParameterError` if a value is not valid."""
        check_number("learning_rate", self.learning_rate, above=0)
        check_choice("learning_rate_schedule", self.learning_rate_schedule, SCHEDULES)
        check_number("weight_decay", self.weight_decay, at_least=0)
        check_number("gradient_clip", self.gradient_clip, above=0)
        check_number("averaging", self.averaging, at_least=0, below=1)
        if self.batch_size != "auto":
            check_whole_number("batch_size", self.batch_size, at_least=1)
        if self.epoch_rows not in ("auto", None):
            check_whole_number("epoch_rows", self.epoch_rows, at_least=1)
        if self.patience is not None:
            check_whole_number("patience", self.patience, at_least=1)
        if self.pretrain_epochs != "auto":
            check_whole_number("pretrain_epochs", self.pretrain_epochs, at_least=0)
        if self.components_per_row not in ("auto", None):
            check_whole_number("components_per_row", self.components_per_row, at_least=1)
        check_flag("refine_posterior", self.refine_posterior)
        self._check_consistency()

    def _check_consistency(self) -> None:
        name = self.consistency
        is_known = name is None or callable(name) or name in PERTURBATIONS
        if not is_known:
            raise ParameterError(
                "consistency",
                f"={name!r} is not known: choose one of {', '.join(PERTURBATIONS)}, or give a "
                "function of rows and a generator.",
            )
        check_number("consistency_weight", self.consistency_weight, at_least=0)
        if self.consistency_size != "auto":
            check_number("consistency_size", self.consistency_size, at_least=0)
            largest = PERTURBATIONS[name].largest if isinstance(name, str) else math.inf
            if self.consistency_size > largest:
                raise ParameterError(
                    "consistency_size",
                    f"={self.consistency_size!r} must be at most {largest:g} with "
                    f"consistency={name!r}.",
                )
