"""The training loop: optimiser steps, schedules, early stopping and the choice of the weights."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vmonf import ranks
from vmonf.metrics import adjusted_rand_index
from vmonf.model import MixtureModel, SparseTerms, Terms
from vmonf.rows import Rows
from vmonf.training.adam import AdamW
from vmonf.training.gradients import averaged_gradients
from vmonf.training.interrupt import is_second
from vmonf.training.objective import Objective, terms_of
from vmonf.training.passes import Passes, TrainingRows
from vmonf.training.schedules import Plateau, TemperatureSchedule
from vmonf.training.specification import BATCH_SIZE, PATIENCE, Training
from vmonf.training.watcher import Watcher

#: After a value that is not a number, a training returns to its best weights and continues at a
#: tenth of the learning rate. It does so at most this many times, and then fails.
MAX_RECOVERIES = 3
#: A score restarts the patience only if it exceeds the last score that did so by more than this
#: share of its standard error. Smaller gains cost epochs, and cannot be told from chance.
SHARE_OF_ERROR = 0.03


#: The parts of the state of a training that are plain numbers.
_COUNTERS = (
    "n_steps",
    "best_score",
    "last_gain",
    "best_temperature",
    "epochs_without_gain",
    "epoch",
    "seconds",
)


class TrainingError(RuntimeError):
    """Training met values that are not numbers and did not recover."""


@dataclass
class Epoch:
    """The record of an epoch. A history is a list of these.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 1. Epochs of pretraining are not counted.
    elbo : float
        Mean ELBO of the held-out rows, or of the training rows if none are held out, in nats.
    log_likelihood : float
        Mean exact log p(x) of the same rows, in nats.
    gap : float
        log_likelihood - elbo, the mean divergence of q from the responsibilities, in nats.
    training_objective : float
        Mean of the objective over the batches of the epoch, in nats.
    temperature, learning_rate : float
        Values used in the epoch.
    seconds : float
        Time since the training began.
    component_use : list of float
        Mean of q(c|x) over the same rows, for each component.
    start_agreement : float
        Adjusted Rand index, on the same rows, between the clusters of q and those of the start. It
        is None if the start gave these rows no clusters.
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
    start_agreement: float | None = None


class Summary(NamedTuple):
    """Means over rows; all fields but `error` are those of `Epoch`."""

    elbo: float
    log_likelihood: float
    component_use: list[float]
    start_agreement: float | None
    #: Standard error of `log_likelihood`, in nats.
    error: float


@dataclass
class TrainingResult:
    """The result of a training.

    Attributes
    ----------
    history : list of Epoch
    best_epoch : int
        The epoch whose weights the model has. 0 stands for the initial weights.
    converged : bool
        Whether training stopped after `patience` epochs without a better held-out
        log-likelihood.
    interrupted : bool
        Whether Ctrl-C stopped the training.
    out_of_time : bool
        Whether the time of the training was over.
    recoveries : int
        How many times training met values that are not numbers.
    """

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    converged: bool = False
    interrupted: bool = False
    out_of_time: bool = False
    recoveries: int = 0

    @property
    def n_epochs(self) -> int:
        """Number of epochs trained, with those that were undone, unless they were the last."""
        return self.history[-1].epoch if self.history else 0


class TrainingLoop:
    """One training of one model. `__init__` sets every attribute that changes during the training.

    Several processes (`vmonf.ranks`) may run the same training. They begin with the state of the
    first one and share each batch and the rows that are scored. Their gradients and scores are
    added up, so that all of them have the same weights and take the same decisions.

    Parameters
    ----------
    model : MixtureModel
        The model, which is trained in place.
    rows : TrainingRows
        The training rows: `Rows`, or a stream of them.
    held_out : Rows or None
        Rows that are scored after each epoch. With None training rows are scored, there is no
        early stopping, and the last weights are kept.
    objective : Objective
    training : Training
    max_epochs : int
    temperature : TemperatureSchedule
        Temperature of the posterior. With held-out rows, no epoch's weights are kept and training
        does not stop until the decay has ended.
    generator : torch.Generator
        Draws the batches.
    sample : Rows, optional
        Training rows in memory: all of them, or a sample of a stream. Pretraining uses the
        labelled ones, and they are scored if no rows are held out. None uses `rows`.
    watchers : sequence of Watcher
        With several processes, those of the first one.
    deadline : float, optional
        When the training ends, by `time.monotonic`. The learning rate falls until then.
    pretrain_patience : int, optional
        Pretraining ends after this many epochs without a better held-out log-likelihood, and the
        training begins with its best weights. With None or without held-out rows it does not end
        early.
    """

    def __init__(
        self,
        model: MixtureModel,
        rows: TrainingRows,
        held_out: Rows[Tensor] | None,
        objective: Objective,
        training: Training,
        max_epochs: int,
        temperature: TemperatureSchedule,
        generator: torch.Generator,
        sample: Rows[Tensor] | None = None,
        watchers: Sequence[Watcher] = (),
        deadline: float | None = None,
        pretrain_patience: int | None = None,
    ) -> None:
        self.model = model
        if sample is None:
            assert isinstance(rows, Rows)
            sample = rows
        # "auto" depends on the table, of which the loop knows nothing; settings resolve it.
        self.batch_size = BATCH_SIZE if training.batch_size == "auto" else training.batch_size
        self.passes = Passes(rows, self.batch_size, generator, (ranks.rank(), ranks.count()))
        self.held_out = held_out
        self.sample = sample
        # "auto" depends on the start, of which the loop knows nothing; settings resolve it.
        epochs = training.pretrain_epochs
        self.pretrain_epochs = 0 if epochs == "auto" else epochs
        self.pretrain_patience = None if held_out is None else pretrain_patience
        self.objective = objective
        self.training = training
        self.max_epochs = max_epochs
        self.temperature = temperature
        self.generator = generator
        self.watchers = watchers
        self.created = time.monotonic()
        self.deadline = deadline
        #: Share of the time that is left.
        self.time_left = 1.0
        self.plateau = Plateau(training.learning_rate, max(1, (training.patience or PATIENCE) // 2))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.learning_rate = training.learning_rate
        self.optimizer = self._new_optimizer(training.learning_rate)
        self.average = [p.detach().clone() for p in self.parameters]
        self.n_steps = 0
        self.best_weights = [p.clone() for p in self.average]
        self.best_score = -math.inf
        #: The score of the last epoch whose gain restarted the patience.
        self.last_gain = -math.inf
        self.best_temperature = temperature.start
        self.epochs_without_gain = 0
        self.epoch = 0
        self.seconds = 0.0
        self.begun = False
        self.is_interrupted: Callable[[], bool] = lambda: False
        self.result = TrainingResult()

    def begin(self) -> None:
        """Score the initial weights, then pretrain, unless this was done before.

        Ctrl-C ends it, and the training; a second within two seconds is raised.
        """
        if self.begun or self.result.interrupted:
            return
        self.begun = True
        began = time.perf_counter()
        with self._until_interrupted():
            self._follow_first()
            temperature = float(self.model.temperature)
            summary = None if self.held_out is None else self._summary(temperature)
            self._keep_if_better(0, summary, temperature)
            self._pretrain(temperature)
        self.seconds = time.perf_counter() - began

    @property
    def scored(self) -> Rows[Tensor]:
        """The held-out rows, or training rows if none are held out."""
        return self.sample if self.held_out is None else self.held_out

    @property
    def n_batches(self) -> int:
        """Number of batches of an epoch."""
        epoch_rows = self.training.epoch_rows
        of_pass = self.passes.rows.n_batches(self.batch_size)
        if epoch_rows is None or epoch_rows == "auto":
            return of_pass
        return min(of_pass, max(1, epoch_rows // self.batch_size))

    def score(self) -> float:
        """Log-likelihood of the held-out rows, or of the training rows, in nats per row."""
        return self._summary(float(self.model.temperature)).log_likelihood

    def run(self) -> TrainingResult:
        """Train to the end, and set the model to the best weights.

        If a state was loaded, training continues from it. Ctrl-C ends it early; a second within
        two seconds is raised.

        Raises
        ------
        TrainingError
            If training repeatedly meets values that are not numbers. The model then has the best
            weights so far.
        """
        try:
            with self._until_interrupted():
                self._notify(lambda watcher: watcher.on_begin(self))
                self._follow_first()
            if self.epoch == 0:
                self.begin()
            if not self.result.interrupted:
                with self._until_interrupted():
                    self._epochs()
        finally:
            self._restore()
            for watcher in self.watchers:
                watcher.on_end(self)
        return self.result

    def _epochs(self) -> None:
        """Train until there are no more epochs, no more gains, or no more time."""
        began = time.perf_counter() - self.seconds
        if self.epoch == 0:
            self._notify(lambda watcher: watcher.on_start(self))
        while self.epoch < self.max_epochs and not self.result.converged:
            self._look_at_clock()
            if self.result.out_of_time:
                break
            self.epoch += 1
            record = self._epoch(self.epoch, began)
            if record is None:
                continue
            self.seconds = record.seconds
            self.result.history.append(record)
            self.result.converged = self._is_done(self.epoch)
            self._notify(lambda watcher: watcher.on_epoch(self))

    @contextmanager
    def _until_interrupted(self) -> Iterator[None]:
        """Ctrl-C ends the block, and is noted. A second within two seconds is raised."""
        try:
            with ranks.interrupts_held() as self.is_interrupted:
                yield
        except KeyboardInterrupt:
            if is_second():
                raise
            self.result.interrupted = True

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state after an epoch, from which `load_state` continues the training exactly.

        Returns
        -------
        document : dict
            Values that JSON can hold.
        tensors : dict of str to Tensor
        """
        document = {name: getattr(self, name) for name in _COUNTERS}
        document["learning_rate"] = self.plateau.learning_rate
        document["result"] = asdict(self.result)
        document["place"] = self.passes.place
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for kind in ("average", "best_weights"):
            for index, value in enumerate(getattr(self, kind)):
                tensors[f"{kind}.{index}"] = value
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimizer.{index}.{name}"] = value
        tensors["generator"] = self.generator.get_state()
        tensors["pass"] = self.passes.begun
        return document, tensors

    def load_state(self, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Restore a `state` of a training with the same model, rows and settings."""
        for name in _COUNTERS:
            setattr(self, name, document[name])
        self.plateau.learning_rate = document["learning_rate"]
        result = dict(document["result"])
        history = [Epoch(**record) for record in result.pop("history")]
        result["out_of_time"] = False  # a training that continues has its own time
        self.result = TrainingResult(history=history, **result)
        self.generator.set_state(tensors["generator"].cpu())
        self.passes.go_to(document["place"], tensors["pass"].cpu())

        self.model.load_state_dict(_named(tensors, "model"))
        for kind in ("average", "best_weights"):
            saved = _named(tensors, kind)
            own = [saved[str(i)].to(p.device) for i, p in enumerate(self.parameters)]
            setattr(self, kind, own)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _named(tensors, "optimizer").items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _notify(self, event: Callable[[Watcher], None]) -> None:
        """Tell each watcher of an event. If one fails, all processes raise its error."""

        def tell() -> None:
            for watcher in self.watchers:
                event(watcher)

        ranks.together(tell)

    def _follow_first(self) -> None:
        """Take the state of the first process, which alone may have read a checkpoint."""
        if ranks.count() > 1:
            document, tensors = ranks.from_first(self.state)
            if not ranks.is_first():
                self.load_state(document, tensors)

    def _epoch(self, epoch: int, began: float) -> Epoch | None:
        """Train for one epoch and score the model. Returns None if the epoch was undone."""
        temperature = self.temperature(epoch - 1)
        self.learning_rate = self._learning_rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        try:
            objective = self._steps(self.passes.take(self.n_batches), temperature)
        except FloatingPointError as error:
            self._recover(error)
            return None
        summary = self._summary(temperature)
        elbo, log_likelihood = summary.elbo, summary.log_likelihood
        if math.isnan(log_likelihood):
            self._recover(FloatingPointError("a log-likelihood was not a number"))
            return None
        if epoch > self.temperature.n_epochs or self.held_out is None:
            self._keep_if_better(epoch, summary, temperature)
        return Epoch(
            epoch=epoch,
            elbo=elbo,
            log_likelihood=log_likelihood,
            gap=log_likelihood - elbo,
            training_objective=objective,
            temperature=temperature,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=time.perf_counter() - began,
            component_use=summary.component_use,
            start_agreement=summary.start_agreement,
        )

    def _summary(self, temperature: float) -> Summary:
        """Means over the rows that are scored, with the averaged weights."""
        with self.averaged():
            return summarise(self.model, self.scored, temperature)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the averaged weights and the current temperature, which are scored."""
        live = [p.detach().clone() for p in self.parameters]
        temperature = float(self.model.temperature)
        self._load(self.average)
        self.model.temperature.fill_(self.temperature(max(0, self.epoch - 1)))
        try:
            yield
        finally:
            self._load(live)
            self.model.temperature.fill_(temperature)

    def _steps(self, batches: Iterator[Rows[Tensor]], temperature: float) -> float:
        """One optimiser step for each batch. Returns the mean objective, in nats."""
        total = torch.zeros((), dtype=torch.float64, device=self.scored.x.device)
        n_batches = 0
        while True:
            if self.deadline is not None:
                if ranks.count() == 1:  # several processes look at the clock between epochs
                    self._look_at_clock()
                if self.result.out_of_time:
                    break
                self._anneal()
            value = self._step(batches, temperature)
            if value is None:
                break
            total += value
            n_batches += 1
        return float(total) / max(1, n_batches)

    def _look_at_clock(self) -> None:
        """Note how much of the time is left, by the clock of the first process."""
        deadline = self.deadline
        if deadline is None:
            return

        def share_left() -> float:
            left = deadline - time.monotonic()
            return max(0.0, left / max(deadline - self.created, left, 1e-9))

        self.time_left = ranks.from_first(share_left)
        self.result.out_of_time = self.time_left == 0

    def _anneal(self) -> None:
        """Set the learning rate to its part at this share of the time, along half a cosine."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * 0.5 * (1 - math.cos(math.pi * self.time_left))

    def _step(self, batches: Iterator[Rows[Tensor]], temperature: float) -> Tensor | None:
        """One optimiser step that increases the objective of the next batch.

        Returns its value, or None if there is no further batch.
        """
        evaluated: list[tuple[Terms | SparseTerms, Tensor]] = []

        def compute() -> tuple[Tensor, int] | None:
            batch = next(batches, None)
            self.optimizer.zero_grad(set_to_none=True)
            if batch is None:
                return None
            if batch.n_rows == 0:
                return batch.weight.sum(), 0
            value, terms = self.objective(self.model, batch, temperature, self._for_terms())
            evaluated.append((terms, batch.x))
            (-value).backward()
            return value.detach(), batch.n_rows

        value = averaged_gradients(self.parameters, compute, self.is_interrupted)
        if value is None:
            return None
        norm = nn.utils.clip_grad_norm_(self.parameters, self.training.gradient_clip)
        if not bool(torch.isfinite(value) & torch.isfinite(norm)):
            own = _non_finite(*evaluated[0]) if evaluated else None
            found = [fault for fault in ranks.from_each(own) if fault is not None]
            raise FloatingPointError(found[0] if found else "the gradient was not a number")
        self.optimizer.step()
        self.n_steps += 1
        kept = min(self.training.averaging, self.n_steps / (self.n_steps + 10))
        get_ema_multi_avg_fn(kept)(self.average, self.parameters, None)
        return value

    def _for_terms(self) -> torch.Generator:
        """The generator of the terms of the objective.

        With several processes each has its own, since their batches may use different amounts of
        random numbers, and the generator that orders the rows must stay the same in all.
        """
        if ranks.count() == 1:
            return self.generator
        entropy = [self.generator.initial_seed(), self.epoch, self.n_steps, ranks.rank()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1
        return torch.Generator().manual_seed(seed)

    def _pretrain(self, temperature: float) -> None:
        labelled = self.sample.take(self.sample.labelled)
        if labelled.n_rows == 0:
            return
        for _ in range(self.pretrain_epochs):
            try:
                batches = labelled.batches(self.batch_size, self.generator, part=self.passes.part)
                self._steps(islice(batches, self.n_batches), self.temperature.end)
            except FloatingPointError as error:
                self._recover(error)
                return
            if self.pretrain_patience is not None:
                self._keep_if_better(0, self._summary(temperature), temperature)
                if self.epochs_without_gain >= self.pretrain_patience:
                    break
        if self.pretrain_patience is not None:
            self._load(self.best_weights)
            self.epochs_without_gain = 0
        if self.pretrain_epochs:
            self._restart_average()

    def _learning_rate(self, epoch: int) -> float:
        schedule = self.training.learning_rate_schedule
        if schedule == "cosine":
            share = (epoch - 1) / self.max_epochs
            return self.plateau.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
        if schedule == "plateau" and self.held_out is not None:
            return self.plateau.step(self.epochs_without_gain)
        return self.plateau.learning_rate

    def _keep_if_better(self, epoch: int, summary: Summary | None, temperature: float) -> None:
        """Keep the averaged weights if they are the best, and count epochs without a gain.

        Without held-out rows the last weights count as the best.
        """
        score = -math.inf if summary is None else summary.log_likelihood
        if score > self.best_score or self.held_out is None:
            self.best_score = score
            self.best_temperature = temperature
            self.best_weights = [p.clone() for p in self.average]
            self.result.best_epoch = epoch
        least = self.last_gain + (0.0 if summary is None else SHARE_OF_ERROR * summary.error)
        if score > least or self.held_out is None:
            self.last_gain = score
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1

    def _is_done(self, epoch: int) -> bool:
        return (
            self.training.patience is not None
            and self.held_out is not None
            and epoch > self.temperature.n_epochs
            and self.epochs_without_gain >= self.training.patience
        )

    def _recover(self, error: FloatingPointError) -> None:
        self.result.recoveries += 1
        if self.result.recoveries > MAX_RECOVERIES:
            raise TrainingError(
                f"Training met values that are not numbers {self.result.recoveries} times "
                f"({error}): try a smaller learning_rate or fewer n_components."
            ) from error
        self.plateau.learning_rate *= 0.1
        self._restore()
        self.passes.end()
        self.optimizer = self._new_optimizer(self.plateau.learning_rate)
        self._restart_average()

    def _new_optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        # Weight decay moves each flow towards the identity. It does not act on biases or on the
        # means and covariances of the components.
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        decayed = [p for name, p in named if name.endswith(".weight")]
        others = [p for name, p in named if not name.endswith(".weight")]
        return AdamW(
            [
                {"params": decayed, "weight_decay": self.training.weight_decay},
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
def summarise(model: MixtureModel, rows: Rows[Tensor], temperature: float) -> Summary:
    """Weighted means over rows of the ELBO, log p(x) (both in nats) and q(c|x) of each c.

    Several processes have the same rows, and score a part each.
    """
    sums = torch.zeros(3 + model.n_components, dtype=torch.float64, device=rows.x.device)
    own = ranks.part_of(torch.arange(rows.n_rows, device=rows.x.device))
    clusters = torch.zeros_like(rows.cluster)
    n_draws = 1 if rows.draws is None else rows.draws.x.shape[1]
    for index in own.split(max(1, model.rows_at_once // n_draws)):
        part = rows.take(index)
        terms = terms_of(model, part, temperature)
        log_prob = terms.log_prob[:, None]
        columns = (terms.elbo[:, None], log_prob, log_prob.square(), terms.log_posterior.exp())
        sums += part.weight @ torch.cat(columns, dim=1)
        clusters[index] = terms.log_posterior.argmax(dim=1)
    ranks.add_up(sums)
    share = rows.weight / rows.weight.sum()
    elbo, log_likelihood, mean_square, *use = (sums / rows.weight.sum()).tolist()
    variance = max(0.0, mean_square - log_likelihood**2) * float(share @ share)
    known = rows.cluster >= 0
    agreement: float | None = None
    if bool(known.any()):
        ranks.add_up(clusters)
        agreement = adjusted_rand_index(
            *(values[known].cpu().numpy() for values in (clusters, rows.cluster, rows.weight))
        )
    return Summary(elbo, log_likelihood, use, agreement, math.sqrt(variance))


def _named(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `kind` and a dot, with this prefix removed."""
    return {
        name.removeprefix(f"{kind}."): value
        for name, value in tensors.items()
        if name.startswith(f"{kind}.")
    }


def _non_finite(terms: Terms | SparseTerms, x: Tensor) -> str | None:
    """Describe the first value that is not finite: its component and row, or the posterior."""
    bad = terms.non_finite()
    if bad:
        row, component, bad_value = min(bad, key=lambda entry: entry[:2])
        values = ", ".join(f"{value:.6g}" for value in x[row, :6].tolist())
        more = ", ..." if x.shape[1] > 6 else ""
        return (
            f"component {component} gave log p(x, c) = {bad_value} for "
            f"the row [{values}{more}], one of {len(bad)} such values in the batch"
        )
    if not torch.isfinite(terms.log_posterior).all():
        return "the posterior network gave values that are not numbers"
    return None
