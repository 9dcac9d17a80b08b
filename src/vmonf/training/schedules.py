"""Schedules of the temperature and of the learning rate."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TemperatureSchedule:
    """Exponential decay from `start` to `end` over `n_epochs`, then constant.

    The temperature divides the posterior's softmax input. A high temperature makes q nearly
    uniform, so that every component is fitted to all rows. Source: Pires & Figueiredo (2020),
    section 3.
    """

    start: float
    end: float
    n_epochs: int

    def __call__(self, epoch: int) -> float:
        """Temperature at an epoch, counted from 0."""
        if epoch >= self.n_epochs:
            return self.end
        return float(self.start * (self.end / self.start) ** (epoch / self.n_epochs))


class Plateau:
    """Multiplies the learning rate by `factor` after `patience` epochs without a better score."""

    def __init__(self, learning_rate: float, patience: int, factor: float = 0.3) -> None:
        self.learning_rate = learning_rate
        self.patience = patience
        self.factor = factor

    def step(self, epochs_without_gain: int) -> float:
        """The learning rate of the next epoch."""
        if epochs_without_gain and epochs_without_gain % self.patience == 0:
            self.learning_rate *= self.factor
        return self.learning_rate
