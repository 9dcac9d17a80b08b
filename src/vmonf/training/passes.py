"""Passes over the training rows, cut into epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from vmonf.rows import Rows


class TrainingRows(Protocol):
    """Rows that a training passes over: `Rows` of tensors in memory, or a stream of them."""

    @property
    def n_rows(self) -> int:
        """Number of rows of a pass."""

    def n_batches(self, batch_size: int) -> int:
        """Number of batches of a pass."""

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Rows[Tensor]]:
        """A pass in random order, without its first `first` batches.

        The generator is used before the first batch is returned, and not after. With a generator
        in the same state, the pass is the same. If `part` is (rank, number of ranks), a batch has
        the rows of one rank, perhaps none, and each rank gets the same number of batches.
        """


class Passes:
    """Batches of one pass after another. An epoch takes as many as it wants.

    Parameters
    ----------
    rows : TrainingRows
    batch_size : int
    generator : torch.Generator
        Draws the order of each pass, when it begins.
    part : (int, int)
        The rank and the number of ranks, if several processes share each batch.

    Attributes
    ----------
    place : int
        Number of batches taken from the present pass. It is 0 between two passes.
    begun : Tensor
        The state of the generator when the present pass began.
    """

    def __init__(
        self,
        rows: TrainingRows,
        batch_size: int,
        generator: torch.Generator,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.generator = generator
        self.part = part
        self.place = 0
        self.begun = generator.get_state()
        self._rest: Iterator[Rows[Tensor]] = iter(())

    def take(self, n_batches: int) -> Iterator[Rows[Tensor]]:
        """The next batches, from the present pass and the passes after it."""
        of_pass = self.rows.n_batches(self.batch_size)
        for _ in range(n_batches):
            batch = next(self._rest, None) if self.place else None
            if batch is None:
                self.place, self.begun = 0, self.generator.get_state()
                self._rest = self.rows.batches(self.batch_size, self.generator, part=self.part)
                batch = next(self._rest)
            self.place = (self.place + 1) % of_pass
            yield batch

    def end(self) -> None:
        """End the present pass: the next batch is the first of a new pass."""
        self.place = 0
        self._rest = iter(())

    def go_to(self, place: int, begun: Tensor) -> None:
        """Return to a place in the pass that began with a state of the generator."""
        self.end()
        self.place, self.begun = place, begun
        if place:
            generator = torch.Generator()
            generator.set_state(begun)
            self._rest = self.rows.batches(self.batch_size, generator, place, self.part)
