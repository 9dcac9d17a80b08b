"""Training of a model: the objective, the schedules, the loop. Knows nothing of files."""

from vmonf.training.config import TrainingConfig
from vmonf.training.loop import (
    Progress,
    Training,
    TrainingError,
    TrainingResult,
)
from vmonf.training.objective import Objective, Rows
from vmonf.training.posterior import refine_posterior, warm_up_posterior

__all__ = [
    "Objective",
    "Progress",
    "Rows",
    "Training",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "refine_posterior",
    "warm_up_posterior",
]
