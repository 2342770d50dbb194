"""Trade ids of a day: whether one comes twice, and whether consecutive numbers lack some."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.transforms.quality.terms import Flaw, Integers, Oddity, Thresholds, clock, plural, stamps_of

_LEAST = 100
_DENSE = 0.9
_FEW = 0.01
_EMPTY = np.zeros(0, np.int64)


class Ids:
    """Duplicate ids, and numbers that are missing where ids are consecutive numbers.

    Numbers are kept as ranges, so a day of consecutive ids takes no memory to speak of; of text a 64-bit hash is kept
    (two of 20 million different texts share one in about one day of 100,000).
    """

    columns = ("timestamp", "id")

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._numbers, self._texts = _Ranges(), _Ranges()

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        ids, stamps = rows.column("id").combine_chunks(), stamps_of(rows)
        if ids.null_count:
            there = ids.is_valid()
            ids, stamps = ids.filter(there), stamps[np.asarray(there)]
        if not len(ids):
            return
        try:
            self._numbers.add(np.asarray(ids.cast(pa.int64())), stamps)
        except pa.ArrowInvalid:
            self._texts.add(hashed(ids), stamps)

    def found(self) -> Iterator[Oddity]:
        """What comes twice, what is missing."""
        numbers, texts = self._numbers.joined(), self._texts.joined()
        twice = numbers.twice + texts.twice
        if twice > self._thresholds.duplicate_ids:
            first = min(each.first_twice for each in (numbers, texts) if each.twice)
            yield Oddity(
                Flaw.DUPLICATE_IDS,
                f"{plural(twice, 'row')} of {numbers.rows + texts.rows} repeat a trade id, first at {clock(first)}",
                ("duplicate_ids",),
                "fetch the day again: volume and trade count are too large by these rows",
            )
        if not texts.rows:
            yield from self._holes(numbers)

    def _holes(self, numbers: "_Joined") -> Iterator[Oddity]:
        present = numbers.rows - numbers.twice
        holes = len(numbers.starts) - 1
        if present < _LEAST or not holes:
            return
        whole = int(numbers.stops[-1]) - int(numbers.starts[0]) + 1
        dense = holes <= _FEW * present and present >= _DENSE * whole
        if not dense or whole - present <= self._thresholds.missing_ids:
            return
        sizes = numbers.starts[1:] - numbers.stops[:-1] - 1
        largest = int(np.argmax(sizes))
        yield Oddity(
            Flaw.MISSING_IDS,
            f"{whole - present} of {whole} consecutive trade ids are missing in {plural(holes, 'hole')}, the largest "
            f"from {numbers.stops[largest] + 1} to {numbers.starts[largest + 1] - 1} before "
            f"{clock(numbers.times[largest + 1])}",
            ("missing_ids",),
            "fetch the day again: these trades are lost",
        )


class _Joined:
    """All ids of a day as ranges in rising order; what comes twice is in them once."""

    def __init__(self, starts: Integers, stops: Integers, times: Integers, rows: int, twice: int, first: int) -> None:
        self.starts, self.stops, self.times = starts, stops, times
        self.rows, self.twice, self.first_twice = rows, twice, first


class _Ranges:
    """Whole numbers as ranges of consecutive ones, each with the time at which its first came."""

    def __init__(self) -> None:
        self._pieces: list[tuple[Integers, Integers, Integers]] = []
        self._rows = self._twice = 0
        self._first = np.iinfo(np.int64).max

    def add(self, numbers: Integers, stamps: Integers) -> None:
        self._rows += len(numbers)
        steps = np.diff(numbers)
        if not np.all(steps > 0):
            order = np.argsort(numbers, kind="stable")
            numbers, stamps = numbers[order], stamps[order]
            steps = np.diff(numbers)
            again = np.r_[False, steps == 0]
            if again.any():
                self._twice += int(np.count_nonzero(again))
                self._first = min(self._first, int(stamps[again].min()))
                numbers, stamps = numbers[~again], stamps[~again]
                steps = np.diff(numbers)
        # of the difference of two hashes only equality to 1 counts: that it may overflow does no harm
        edges = np.flatnonzero(steps != 1)
        starts, stops = np.r_[0, edges + 1], np.r_[edges, len(numbers) - 1]
        self._pieces.append((numbers[starts], numbers[stops], stamps[starts]))

    def joined(self) -> _Joined:
        if not self._pieces:
            return _Joined(_EMPTY, _EMPTY, _EMPTY, 0, 0, self._first)
        starts, stops, times = (np.concatenate(parts) for parts in zip(*self._pieces, strict=True))
        order = np.argsort(starts, kind="stable")
        starts, stops, times = starts[order], stops[order], times[order]
        reach = np.maximum.accumulate(stops)
        overlap = np.minimum(stops[1:], reach[:-1]) - starts[1:] + 1
        # hashes lie at both ends of the numbers, where a difference may overflow
        overlap[starts[1:] > reach[:-1]] = 0
        twice, first = self._twice + int(overlap.sum()), self._first
        if overlap.any():
            first = min(first, int(times[1:][overlap > 0].min()))
        begins = np.r_[True, starts[1:] > reach[:-1] + 1]
        ends = np.r_[begins[1:], True]
        return _Joined(starts[begins], reach[ends], times[begins], self._rows, twice, first)


def hashed(texts: pa.StringArray) -> Integers:
    """A 64-bit hash of each text; no nulls."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    content = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    hashes = np.zeros(len(texts), np.uint64)
    for length in np.unique(lengths).tolist():
        chosen = np.flatnonzero(lengths == length)
        padded = np.zeros((len(chosen), 8 * (length // 8 + 1)), np.uint8)
        padded[:, :length] = content[offsets[chosen, None] + np.arange(length)]
        hashes[chosen] = _mixed(padded.view(np.uint64), length)
    return hashes.view(np.int64)


def _mixed(words: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.uint64]:
    """The words of each row as one, by the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = np.full(len(words), length, np.uint64)
    for word in words.T:
        mixed = (mixed ^ word) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
