"""How to train: one typed value."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the loop.

    Attributes
    ----------
    learning_rate : float
        At the start.
    learning_rate_schedule : {"plateau", "cosine", "constant"}
        Cut by 0.3 after each half of `patience` without gain; or a half cosine to zero
        over `max_epochs`; or neither.
    weight_decay : float
        Of the networks' weights, decoupled, as in AdamW (0 is Adam).
    batch_size, max_epochs : int
    patience : int or None
        Stop after so many epochs without a better held-out log-likelihood; None: never.
    gradient_clip : float
        Largest norm of a step's gradient.
    temperature : (float, float)
        Of the posterior, from first to last.
    temperature_epochs : int
        How many epochs the decay takes; nothing is kept as best, and nothing stops, before.
    pretrain_epochs : int
        Epochs on the labelled rows alone, first.
    components_per_row : int or None
        Evaluate each row of a step with at most so many likely components, and one other;
        None: with all. See `vmonf.model.sparse`.
    averaging : float
        Held-out scores and the weights kept are of a moving average of the weights, which
        keeps this share of itself at a step, less at the first ones; 0: no average.
    """

    learning_rate: float = 3e-3
    learning_rate_schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    weight_decay: float = 0.1
    batch_size: int = 256
    max_epochs: int = 300
    patience: int | None = 30
    gradient_clip: float = 5.0
    temperature: tuple[float, float] = (1.0, 1.0)
    temperature_epochs: int = 0
    pretrain_epochs: int = 0
    components_per_row: int | None = None
    averaging: float = 0.99
