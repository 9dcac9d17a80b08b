"""Rows that do not fit in memory: one look at all of them, and passes over them for a training.

What is drawn from the rows depends on their values alone, through a hash: a sample of all distinct
rows, and the held-out rows, of which no equal row may be trained on. It is the same in any order
of the rows and any division into files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vmonf.columns import Moments
from vmonf.data.faults import TableError
from vmonf.data.source import Source
from vmonf.data.tables import label_column, to_matrix
from vmonf.rows import Rows, row_keys

if TYPE_CHECKING:
    import polars
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Keys = NDArray[np.uint64]

#: Number of distinct rows in the sample of a stream, which serves the start and the held-out rows,
#: and of values in it. With a column of labels, half of them may have labels.
SAMPLE_ROWS = 100_000
SAMPLE_VALUES = 2**23
#: Number of values in the buffer in which rows are shuffled: 128 MiB.
BUFFER_VALUES = 2**24


@dataclass(frozen=True)
class StreamedTable:
    """A source, and what its columns are.

    Attributes
    ----------
    source : Source
    features : sequence of str
        The columns that are fitted.
    label, weight : str or None
        The columns of labels and of weights.
    with_gaps : bool
        Whether features may be missing, and are then NaN.
    """

    source: Source
    features: Sequence[str]
    label: str | None = None
    weight: str | None = None
    with_gaps: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        named = [self.label, self.weight]
        return list(dict.fromkeys([*self.features, *(name for name in named if name is not None)]))

    def features_of(self, frame: polars.DataFrame, first_row: int) -> tuple[Array, Array]:
        """Features (n, D) and weights (n,) of rows that begin with row `first_row`.

        Raises
        ------
        TableError
            If a value is not finite, or missing unless `with_gaps`, or a weight is negative.
        """
        x = (
            to_matrix(frame, self.features, first_row, with_gaps=self.with_gaps) + 0.0
        )  # -0.0 becomes 0.0
        if self.weight is None:
            return x, np.ones(len(x))
        weight = to_matrix(frame, [self.weight], first_row)[:, 0]
        if (weight < 0).any():
            row = first_row + int((weight < 0).argmax()) + 1
            raise TableError(
                f"The weight in column {self.weight!r}, row {row} is negative: give weights of "
                "zero or more."
            )
        return x, weight

    def labels_of(self, frame: polars.DataFrame) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """As `label_column`. Without a column of labels no row has one."""
        if self.label is None:
            return np.full(len(frame), -1), np.zeros(len(frame), dtype=bool)
        return label_column(frame, self.label)


@dataclass(frozen=True)
class Survey:
    """What one look at all rows of a stream finds.

    Attributes
    ----------
    x : array of shape (m, D)
        A uniform sample of the distinct rows, or all of them. With a column of labels, rows with
        a label and those without are sampled apart, since there may be few labels.
    weight : array of shape (m,)
        The summed weight of all rows that are equal to each of these, times a factor with which
        all rows that have labels, or none, stand for their share of the whole.
    label : int array of shape (m,)
        The index in `labels` of the label of each row, or -1.
    labels : list
        The labels that occur, in any order: int or str.
    is_whole : bool
        Whether the sample has all distinct rows of positive weight.
    moments : Moments
        Of all rows of positive weight.
    counts : int array of shape (S,)
        Number of rows of positive weight in each stretch of the source.
    n_labelled : int
        Number of rows of positive weight that have a label.
    """

    x: Array
    weight: Array
    label: IntArray
    labels: list[Any]
    is_whole: bool
    moments: Moments
    counts: IntArray
    n_labelled: int


def survey(table: StreamedTable, seed: int) -> Survey:
    """Read all rows once.

    Parameters
    ----------
    table : StreamedTable
    seed : int
        Chooses the sample, together with the values of the rows.

    Raises
    ------
    TableError
        If the table cannot be read, a value is missing or not finite, a weight is negative, or no
        row has a positive weight.
    """
    source = table.source
    ends = np.cumsum(source.stretches)
    counts = np.zeros(len(ends), dtype=np.int64)
    moments = Moments()
    most = max(2, min(SAMPLE_ROWS, SAMPLE_VALUES // len(table.features)))
    # Without labels and with them.
    samples = [_Sample(most if table.label is None else most // 2, seed) for _ in range(2)]
    codes: dict[Any, int] = {}
    n_labelled = row = 0
    for frame in source.in_order(table.columns):
        x, weight = table.features_of(frame, row)
        labels, is_labelled = table.labels_of(frame)
        kept = np.flatnonzero(weight > 0)
        stretch = np.searchsorted(ends, row + kept, side="right")
        counts += np.bincount(stretch, minlength=len(ends))
        row += len(frame)
        if len(kept) == 0:
            continue
        x, weight = x[kept], weight[kept]
        for label in np.unique(labels[kept][is_labelled[kept]]).tolist():
            codes.setdefault(label, len(codes))
        code = _coded(labels[kept], is_labelled[kept], codes)
        n_labelled += int((code >= 0).sum())
        moments.add(x, weight)
        for sample, chosen in zip(samples, (code < 0, code >= 0), strict=True):
            if chosen.any():
                sample.add(x[chosen], weight[chosen], code[chosen])
    if moments.n_rows == 0:
        raise TableError(
            f"The weight in column {table.weight!r} is zero for every row: give some row a "
            "positive weight."
        )
    taken = [sample.taken() for sample in samples if sample.parts]
    x, weight, label = (np.concatenate(part) for part in zip(*taken, strict=True))
    is_whole = all(sample.is_whole for sample in samples)
    return Survey(x, weight, label, list(codes), is_whole, moments, counts, n_labelled)


@dataclass(frozen=True)
class Stream:
    """The training rows of a fit, as `vmonf.training.passes.TrainingRows`.

    A pass takes the stretches of the source in a new random order. It fills a buffer with the rows
    of as many stretches as it holds, shuffles them, and gives them in batches; then it fills it
    again.

    Attributes
    ----------
    table : StreamedTable
    component_of : mapping
        The component of each label.
    counts : int array of shape (S,)
        Number of rows of positive weight in each stretch.
    mean_weight : float
        The mean weight of these rows, by which weights are divided.
    device : torch.device
    held_out : uint64 array, sorted
        Keys of the rows that are left out, and so are all rows that are equal to them.
    """

    table: StreamedTable
    component_of: Mapping[Any, int]
    counts: IntArray
    mean_weight: float
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    held_out: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def n_rows(self) -> int:
        """About the number of rows of a pass."""
        return max(1, int(self.counts.sum()) - len(self.held_out))

    def without(self, x: Array, device: torch.device) -> Stream:
        """The stream without rows that are equal to those of x, shape (n, D), on a device."""
        return dataclasses.replace(self, held_out=np.unique(row_keys(x)), device=device)

    def n_batches(self, batch_size: int) -> int:
        """Number of batches of a pass."""
        return max(1, self.n_rows // batch_size)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Rows[Tensor]]:
        """A pass in random order, without its first `first` batches.

        If `part` is (rank, number of ranks), the stretches are dealt out to the ranks, anew in each
        pass. Each spreads the rows of its own over as many batches as there are in a pass of all,
        so that some batches may have no rows.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        return self._pass(self.n_batches(batch_size), seed, first, part)

    def _pass(
        self, n_batches: int, seed: int, first: int, part: tuple[int, int]
    ) -> Iterator[Rows[Tensor]]:
        ends, fillings = 0, self._fillings(np.random.default_rng(seed), part)
        total = sum(int(self.counts[filling].sum()) for filling in fillings)
        if total == 0:
            nothing = self._filled(np.zeros(0, dtype=np.int64)).to(self.device)
            yield from [nothing] * (n_batches - first)
        seen = 0
        for number, filling in enumerate(fillings):
            seen += int(self.counts[filling].sum())
            begins, ends = ends, round(n_batches * seen / total)
            if ends <= max(begins, first):
                continue
            rows = self._filled(filling)
            order = np.random.default_rng([seed, number]).permutation(rows.n_rows)
            for index in np.array_split(order, ends - begins)[max(0, first - begins) :]:
                # All rows of the buffer may be equal to one that is held out.
                if len(index) or part[1] > 1:
                    yield rows.take(torch.from_numpy(index)).to(self.device)

    def _fillings(self, random: np.random.Generator, part: tuple[int, int]) -> list[IntArray]:
        """The stretches of each filling of the buffer of a rank, in random order."""
        rank, n_ranks = part
        order = random.permutation(np.flatnonzero(self.counts))[rank::n_ranks]
        counts = self.counts[order]
        n_fillings = -(-int(counts.sum()) * len(self.table.features) // BUFFER_VALUES)
        # The middle of each stretch decides, so that the fillings are of about the same size.
        middle = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
        filling = (middle * n_fillings).astype(np.int64)
        return [order[filling == each] for each in np.unique(filling)]

    def _filled(self, stretches: IntArray) -> Rows[Tensor]:
        """The rows of some stretches, without those that are held out."""
        source, starts = self.table.source, self.table.source.starts
        n_rows = int(self.counts[stretches].sum())
        x = np.empty((n_rows, len(self.table.features)))
        weight = np.empty(n_rows)
        component = np.full(n_rows, -1)
        end = 0
        for stretch in np.sort(stretches):
            frame = source.stretch(int(stretch), self.table.columns)
            values, weights = self.table.features_of(frame, int(starts[stretch]))
            labels, is_labelled = self.table.labels_of(frame)
            kept = np.flatnonzero((weights > 0) & ~self._is_held_out(values))
            begin, end = end, end + len(kept)
            x[begin:end], weight[begin:end] = values[kept], weights[kept] / self.mean_weight
            if self.table.label is not None:
                code = _coded(labels[kept], is_labelled[kept], self.component_of)
                component[begin:end] = code
        nowhere = np.full(end, -1)
        rows = Rows(x[:end], weight[:end], component[:end], nowhere)
        return rows.to_tensors(torch.device("cpu"))

    def _is_held_out(self, x: Array) -> NDArray[np.bool_]:
        if len(self.held_out) == 0:
            return np.zeros(len(x), dtype=bool)
        keys = row_keys(x)
        place = np.searchsorted(self.held_out, keys).clip(max=len(self.held_out) - 1)
        is_held_out: NDArray[np.bool_] = self.held_out[place] == keys
        return is_held_out


class _Sample:
    """The distinct rows with the smallest of the numbers that a hash gives them.

    Equal rows have the same number, so that a sampled row is counted with all its equals, and each
    distinct row is as likely to be in the sample.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most = most
        self.seed = _scrambled(np.array([seed], np.uint64))
        self.is_whole = True
        self.total = 0.0
        self.bound = np.uint64(2**64 - 1)
        self.parts: list[tuple[Keys, Array, Array, IntArray]] = []
        self.n_pending = 0

    def add(self, x: Array, weight: Array, code: IntArray) -> None:
        """Add rows with their weights and the codes of their labels."""
        number = _scrambled(row_keys(x) ^ self.seed)
        kept = np.flatnonzero(number <= self.bound)
        self.parts.append((number[kept], x[kept], weight[kept], code[kept]))
        self.n_pending += len(kept)
        self.total += float(weight.sum())
        if self.n_pending > 2 * self.most:
            self._merge()

    def taken(self) -> tuple[Array, Array, IntArray]:
        """The sampled rows, with their weights, which add up to that of all, and their codes."""
        self._merge()
        _, x, weight, code = self.parts[0]
        return x, weight if self.is_whole else weight * (self.total / weight.sum()), code

    def _merge(self) -> None:
        """Merge equal rows, and leave out those with the largest numbers."""
        number, x, weight, code = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        order = np.lexsort((code, number))
        number, code, weight = number[order], code[order], weight[order]
        is_new = np.append(True, (number[1:] != number[:-1]) | (code[1:] != code[:-1]))
        starts = np.flatnonzero(is_new)
        weight = np.add.reduceat(weight, starts)
        number, code, x = number[starts], code[starts], x[order[starts]]
        if len(number) > self.most:
            self.is_whole = False
            self.bound = number[self.most - 1]
        n = int(np.searchsorted(number, self.bound, side="right"))
        self.parts = [(number[:n], x[:n], weight[:n], code[:n])]
        self.n_pending = 0


def _scrambled(number: Keys) -> Keys:
    """A bijection of 64-bit numbers after which they look random.

    Source: the finaliser of SplitMix64: Steele, Lea & Flood, "Fast splittable pseudorandom number
    generators" (2014).
    """
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


def _coded(
    labels: NDArray[Any], is_labelled: NDArray[np.bool_], codes: Mapping[Any, int]
) -> IntArray:
    """The code of each label, or -1."""
    code = np.full(len(labels), -1, dtype=np.int64)
    found, inverse = np.unique(labels[is_labelled], return_inverse=True)
    code[is_labelled] = np.array([codes[label] for label in found.tolist()], np.int64)[inverse]
    return code
