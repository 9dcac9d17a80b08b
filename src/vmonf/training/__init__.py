"""Training of a model: the objective, the schedules, the loop. Knows nothing of files."""

from vmonf.training.config import TrainingConfig
from vmonf.training.loop import (
    Progress,
    Training,
    TrainingError,
    TrainingResult,
    warm_up_posterior,
)
from vmonf.training.objective import Objective, Rows

__all__ = [
    "Objective",
    "Progress",
    "Rows",
    "Training",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "warm_up_posterior",
]
