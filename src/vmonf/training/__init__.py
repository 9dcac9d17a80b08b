"""Training of a model: the objective, the schedules and the loop. It uses no files."""

from vmonf.training.consistency import PERTURBATIONS, Consistency
from vmonf.training.loop import Epoch, TrainingError, TrainingLoop, TrainingResult
from vmonf.training.objective import BOUNDS, Objective, Term, bound_objective
from vmonf.training.posterior_fits import refine_posterior, warm_up_posterior
from vmonf.training.schedules import TemperatureSchedule
from vmonf.training.specification import BATCH_SIZE, Training
from vmonf.training.watcher import Watcher

__all__ = [
    "BATCH_SIZE",
    "BOUNDS",
    "PERTURBATIONS",
    "Consistency",
    "Epoch",
    "Objective",
    "TemperatureSchedule",
    "Term",
    "Training",
    "TrainingError",
    "TrainingLoop",
    "TrainingResult",
    "Watcher",
    "bound_objective",
    "refine_posterior",
    "warm_up_posterior",
]
