"""The training loop: batches, optimiser, schedules, early stopping, best weights."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vmonf.model import MixtureModel, SparseTerms, Terms
from vmonf.training.config import TrainingConfig
from vmonf.training.objective import Objective, Rows
from vmonf.training.schedule import Plateau, TemperatureSchedule

#: How often a training that meets a value that is not a number goes back to its best
#: weights, at a tenth of the learning rate, before it gives up.
MAX_RECOVERIES = 3


#: Of a training's state, what are plain numbers.
_COUNTERS = (
    "n_steps",
    "best_score",
    "best_temperature",
    "epochs_without_gain",
    "epoch",
    "seconds",
)


class TrainingError(RuntimeError):
    """Training met values that are not numbers, and could not recover."""


@dataclass
class Progress:
    """What is known at the end of an epoch; a history is a list of these.

    Attributes
    ----------
    epoch : int
        From 1; pretraining's epochs are not counted.
    elbo : float
        Mean over held-out rows (over training rows, where none are held out), in nats.
    log_likelihood : float
        Mean exact log p(x) of the same rows, in nats.
    gap : float
        log_likelihood - elbo: how far q is from the responsibilities, in nats.
    training_objective : float
        Mean of the objective over the epoch's batches, in nats.
    temperature, learning_rate, seconds : float
        In use during the epoch; seconds since training began.
    component_use : list of float
        Mean of q(c|x) over the rows scored: how much each component is used.
    """

    epoch: int
    elbo: float
    log_likelihood: float
    gap: float
    training_objective: float
    temperature: float
    learning_rate: float
    seconds: float
    component_use: list[float]


@dataclass
class TrainingResult:
    """What a training came to.

    Attributes
    ----------
    history : list of Progress
    best_epoch : int
        Whose weights the model has; 0 is the start.
    converged : bool
        Whether it stopped by itself, for want of gain.
    interrupted : bool
        Whether Ctrl-C stopped it.
    recoveries : int
        How often it went back to its best weights because of values that were not numbers.
    """

    history: list[Progress] = field(default_factory=list)
    best_epoch: int = 0
    converged: bool = False
    interrupted: bool = False
    recoveries: int = 0


class Training:
    """One training of one model. All that changes while it runs stands in `__init__`.

    Parameters
    ----------
    model : MixtureModel
        Trained in place.
    rows : Rows
        To train on.
    held_out : Rows or None
        To score after each epoch; without them the rows themselves are scored, and neither
        early stopping nor best weights are used.
    objective : Objective
    config : TrainingConfig
    generator : torch.Generator
        Draws the batches.
    pretraining : Rows, optional
        Rows for the epochs before the first: those of `rows` with a label, unless given.
    """

    def __init__(
        self,
        model: MixtureModel,
        rows: Rows,
        held_out: Rows | None,
        objective: Objective,
        config: TrainingConfig,
        generator: torch.Generator,
        pretraining: Rows | None = None,
    ) -> None:
        self.model = model
        self.rows = rows
        self.held_out = held_out
        self.pretraining = rows if pretraining is None else pretraining
        self.objective = objective
        self.config = config
        self.generator = generator
        self.temperature = TemperatureSchedule(*config.temperature, config.temperature_epochs)
        self.plateau = Plateau(config.learning_rate, max(1, (config.patience or 30) // 2))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = self._new_optimizer(config.learning_rate)
        self.average = [p.detach().clone() for p in self.parameters]
        self.n_steps = 0
        self.best_weights = [p.clone() for p in self.average]
        self.best_score = -math.inf
        self.best_temperature = config.temperature[0]
        self.epochs_without_gain = 0
        self.epoch = 0
        self.seconds = 0.0
        self.result = TrainingResult()

    def run(
        self,
        on_epoch: Callable[[Progress], None] | None = None,
        on_start: Callable[[], None] | None = None,
    ) -> TrainingResult:
        """Train until done, and leave the model with the best weights.

        A training whose state was loaded goes on from there.

        Parameters
        ----------
        on_epoch : callable, optional
            Called after each epoch with its `Progress`.
        on_start : callable, optional
            Called before the first epoch, after pretraining; not where a state was loaded.

        Raises
        ------
        TrainingError
            If the objective is not a number again and again; the model then has the best
            weights so far.
        """
        began = time.perf_counter() - self.seconds
        try:
            if self.epoch == 0:
                score = -math.inf
                if self.held_out is not None:
                    _, score, _ = summarise(self.model, self.held_out, temperature=1.0)
                self._keep_if_better(0, score, temperature=1.0)
                self._pretrain()
                if on_start is not None:
                    on_start()
            while self.epoch < self.config.max_epochs and not self.result.converged:
                self.epoch += 1
                progress = self._epoch(self.epoch, began)
                if progress is None:
                    continue
                self.seconds = progress.seconds
                self.result.history.append(progress)
                self.result.converged = self._is_done(self.epoch)
                if on_epoch is not None:
                    on_epoch(progress)
        except KeyboardInterrupt:
            self.result.interrupted = True
        finally:
            self._restore()
        return self.result

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All that `load_state` needs to go on after an epoch as if nothing had come between.

        Returns
        -------
        document : dict
            What JSON can hold.
        tensors : dict of str to Tensor
        """
        document = {name: getattr(self, name) for name in _COUNTERS}
        document["learning_rate"] = self.plateau.learning_rate
        document["result"] = asdict(self.result)
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for kind in ("average", "best_weights"):
            for index, value in enumerate(getattr(self, kind)):
                tensors[f"{kind}.{index}"] = value
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimizer.{index}.{name}"] = value
        tensors["generator"] = self.generator.get_state()
        return document, tensors

    def load_state(self, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Go back to what `state` gave of a training of the same model, rows and settings."""
        for name in _COUNTERS:
            setattr(self, name, document[name])
        self.plateau.learning_rate = document["learning_rate"]
        result = dict(document["result"])
        history = [Progress(**progress) for progress in result.pop("history")]
        self.result = TrainingResult(history=history, **result)
        self.generator.set_state(tensors["generator"].cpu())

        def of(kind: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(f"{kind}."): value
                for name, value in tensors.items()
                if name.startswith(f"{kind}.")
            }

        self.model.load_state_dict(of("model"))
        for kind in ("average", "best_weights"):
            saved = of(kind)
            own = [saved[str(i)].to(p.device) for i, p in enumerate(self.parameters)]
            setattr(self, kind, own)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in of("optimizer").items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _epoch(self, epoch: int, began: float) -> Progress | None:
        """One pass over the rows; None if it had to be undone."""
        temperature = self.temperature(epoch - 1)
        learning_rate = self._learning_rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        try:
            objective = self._pass(self.rows, temperature)
        except FloatingPointError as error:
            self._recover(error)
            return None
        scored = self.held_out if self.held_out is not None else self.rows
        with self.averaged():
            elbo, log_likelihood, use = summarise(self.model, scored, temperature)
        if epoch > self.config.temperature_epochs or self.held_out is None:
            self._keep_if_better(epoch, log_likelihood, temperature)
        return Progress(
            epoch=epoch,
            elbo=elbo,
            log_likelihood=log_likelihood,
            gap=log_likelihood - elbo,
            training_objective=objective,
            temperature=temperature,
            learning_rate=learning_rate,
            seconds=time.perf_counter() - began,
            component_use=use,
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have what is scored and kept: averaged weights, this temperature."""
        live = [p.detach().clone() for p in self.parameters]
        temperature = float(self.model.temperature)
        self._load(self.average)
        self.model.temperature.fill_(self.temperature(max(0, self.epoch - 1)))
        try:
            yield
        finally:
            self._load(live)
            self.model.temperature.fill_(temperature)

    def _pass(self, rows: Rows, temperature: float) -> float:
        """One optimiser step a batch; the mean objective."""
        batch_size = min(self.config.batch_size, rows.n_rows)
        n_batches = max(1, rows.n_rows // batch_size)
        order = torch.randperm(rows.n_rows, generator=self.generator).to(rows.x.device)
        total = torch.zeros((), dtype=torch.float64, device=rows.x.device)
        # The rows left over by whole batches are spread over them, so that no small batch
        # takes a step as large as a whole one.
        for index in order.tensor_split(n_batches):
            batch = rows.take(index)
            terms = self._terms(batch, temperature)
            value = self.objective(terms, batch)
            self.optimizer.zero_grad(set_to_none=True)
            (-value).backward()
            norm = nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
            if not bool(torch.isfinite(value) & torch.isfinite(norm)):
                raise FloatingPointError(_describe_non_finite(terms, batch.x))
            self.optimizer.step()
            self.n_steps += 1
            forgotten = 1 - min(self.config.averaging, self.n_steps / (self.n_steps + 10))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], forgotten)
            total += value.detach()
        return float(total) / n_batches

    def _terms(self, batch: Rows, temperature: float) -> Terms | SparseTerms:
        n_likely = self.config.components_per_row
        if n_likely is None or n_likely + 1 >= self.model.n_components:
            return self.model.terms(batch.x, temperature)
        return self.model.sparse_terms(
            batch.x, batch.component, n_likely, self.generator, temperature
        )

    def _pretrain(self) -> None:
        labelled = self.pretraining.take(self.pretraining.component >= 0)
        if labelled.n_rows == 0:
            return
        for _ in range(self.config.pretrain_epochs):
            try:
                self._pass(labelled, self.config.temperature[1])
            except FloatingPointError as error:
                self._recover(error)
                return
        if self.config.pretrain_epochs:
            self._restart_average()

    def _learning_rate(self, epoch: int) -> float:
        schedule = self.config.learning_rate_schedule
        if schedule == "cosine":
            share = (epoch - 1) / self.config.max_epochs
            return self.plateau.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
        if schedule == "plateau" and self.held_out is not None:
            return self.plateau.step(self.epochs_without_gain)
        return self.plateau.learning_rate

    def _keep_if_better(self, epoch: int, score: float, temperature: float) -> None:
        if score > self.best_score or self.held_out is None:
            self.best_score = score
            self.best_temperature = temperature
            self.best_weights = [p.clone() for p in self.average]
            self.result.best_epoch = epoch
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1

    def _is_done(self, epoch: int) -> bool:
        return (
            self.config.patience is not None
            and self.held_out is not None
            and epoch > self.config.temperature_epochs
            and self.epochs_without_gain >= self.config.patience
        )

    def _recover(self, error: FloatingPointError) -> None:
        self.result.recoveries += 1
        if self.result.recoveries > MAX_RECOVERIES:
            raise TrainingError(
                f"Training met values that are not numbers {self.result.recoveries} times and "
                f"gave up: {error} Try a smaller learning_rate or fewer n_components."
            ) from error
        self.plateau.learning_rate *= 0.1
        self._restore()
        self.optimizer = self._new_optimizer(self.plateau.learning_rate)
        self._restart_average()

    def _new_optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        # Decay draws the networks' weights, and so each flow, to the identity; it has no
        # business with where a component is and how wide.
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        decayed = [p for name, p in named if name.endswith(".weight")]
        others = [p for name, p in named if not name.endswith(".weight")]
        return torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            fused=True,
        )

    @torch.no_grad()
    def _load(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def _restore(self) -> None:
        self._load(self.best_weights)
        self.model.temperature.fill_(self.best_temperature)

    def _restart_average(self) -> None:
        self.average = [p.detach().clone() for p in self.parameters]
        self.n_steps = 0


@torch.no_grad()
def summarise(
    model: MixtureModel, rows: Rows, temperature: float
) -> tuple[float, float, list[float]]:
    """Weighted means over rows: ELBO, log-likelihood and each component's use."""
    sums = torch.zeros(2 + model.n_components, dtype=torch.float64, device=rows.x.device)
    for index in torch.arange(rows.n_rows, device=rows.x.device).split(model.rows_at_once):
        part = rows.take(index)
        terms = model.terms(part.x, temperature)
        columns = (terms.elbo[:, None], terms.log_prob[:, None], terms.log_posterior.exp())
        sums += part.weight @ torch.cat(columns, dim=1)
    elbo, log_likelihood, *use = (sums / rows.weight.sum()).tolist()
    return elbo, log_likelihood, use


def _describe_non_finite(terms: Terms | SparseTerms, x: Tensor) -> str:
    """Name the component of the first bad value, and show its row."""
    log_joint = terms.log_joint() if isinstance(terms, SparseTerms) else terms.log_joint
    log_joint = log_joint.detach()
    bad = ~torch.isfinite(log_joint)
    if bad.any():
        row, component = (int(i) for i in bad.nonzero()[0])
        values = ", ".join(f"{value:.6g}" for value in x[row, :6].tolist())
        more = ", ..." if x.shape[1] > 6 else ""
        return (
            f"component {component} gave log p(x, c) = {float(log_joint[row, component])} for "
            f"the row [{values}{more}], one of {int(bad.sum())} such values in the batch."
        )
    if not torch.isfinite(terms.log_posterior).all():
        return "the posterior network gave values that are not numbers."
    return "the gradient was not a number."
