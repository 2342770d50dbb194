"""Trade ids of a day: whether one comes twice, and whether consecutive numbers lack some."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.transforms.quality.terms import Flaw, Integers, Oddity, Thresholds, clock, plural, stamps_of

_LEAST = 100
_FEW = 0.01
_STEP = 512
_MILLISECOND = 1_000
_NUMBER = r"^(0|[1-9][0-9]{0,17})$"


class Ids:
    """Duplicate ids, and numbers that are missing where ids are consecutive numbers.

    A text is a number only where the number would be written just so: "007" is not "7". Numbers are kept as ranges, so
    a day of consecutive ids takes no memory to speak of; any other id takes 13 bytes. Of text a 63-bit hash is kept
    (two of 20 million different texts share one in about one day of 50,000).
    """

    columns = ("timestamp", "id")

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._numbers, self._texts = _Ranges(), _Ranges()

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        ids, stamps = rows.column("id").combine_chunks(), stamps_of(rows)
        number = pc.match_substring_regex(ids, _NUMBER)
        for keys, chosen, form in (
            (self._numbers, number, _as_numbers),
            (self._texts, pc.invert(number), hashed),
        ):
            # of an id that is missing neither is true
            if count := pc.sum(chosen).as_py():
                every = count == len(ids)
                some = ids if every else ids.filter(chosen)
                keys.add(form(some), stamps if every else stamps[np.asarray(chosen.fill_null(False))])

    def found(self) -> Iterator[Oddity]:
        """What comes twice, what is missing."""
        numbers, texts = self._numbers.counted(), self._texts.counted()
        twice = numbers.twice + texts.twice
        if twice > self._thresholds.duplicate_ids:
            first = min(numbers.first_twice, texts.first_twice)
            yield Oddity(
                Flaw.DUPLICATE_IDS,
                f"{plural(twice, 'row')} of {numbers.rows + texts.rows} repeat a trade id, first at {clock(first)}",
                ("duplicate_ids",),
                "fetch the day again: volume and trade count are too large by these rows",
            )
        present = numbers.rows - numbers.twice
        consecutive = present >= _LEAST and numbers.steps <= _FEW * present
        if consecutive and numbers.missing > self._thresholds.missing_ids:
            yield Oddity(
                Flaw.MISSING_IDS,
                f"{numbers.missing} of {numbers.missing + present} consecutive trade ids are missing in "
                f"{plural(numbers.holes, 'hole')}, the largest from {numbers.largest.start} to "
                f"{numbers.largest.stop - 1} before {clock(numbers.after_largest)}",
                ("missing_ids",),
                "fetch the day again: these trades are lost",
            )


@dataclass
class _Counts:
    """What the numbers of a day come to.

    Attributes:
        rows: how many there are.
        twice: how many of them are there before.
        first_twice: the time of the first of these; where an id comes before its turn, and in its turn again, that of
            either.
        steps: how often a number is not followed by the next one.
        holes: the steps that leave out no more numbers than there are rows; a venue that leaves out more counts anew
            from there.
        missing: the numbers that these leave out.
        largest: the largest hole.
        after_largest: the time of the number that follows it.
    """

    rows: int = 0
    twice: int = 0
    first_twice: int = np.iinfo(np.int64).max
    steps: int = 0
    holes: int = 0
    missing: int = 0
    largest: range = range(0)
    after_largest: int = 0


class _Ranges:
    """Numbers, none below 0, as ranges of consecutive ones, each with the time at which its first came."""

    def __init__(self) -> None:
        self._counts = _Counts()
        self._since = 0
        # the first number of each range, how many follow it, milliseconds since `_since`; each piece in rising order
        self._pieces: list[tuple[Integers, npt.NDArray[np.integer], npt.NDArray[np.int32]]] = []

    def add(self, numbers: Integers, stamps: Integers) -> None:
        """Takes some numbers, at least one, and their times."""
        counts = self._counts
        counts.rows += len(numbers)
        steps = np.diff(numbers)
        if not np.all(steps > 0):
            order = np.argsort(numbers, kind="stable")
            numbers, stamps = numbers[order], stamps[order]
            again = np.r_[False, np.diff(numbers) == 0]
            if again.any():
                counts.twice += int(np.count_nonzero(again))
                counts.first_twice = min(counts.first_twice, int(stamps[again].min()))
                numbers, stamps = numbers[~again], stamps[~again]
            steps = np.diff(numbers)
        edges = np.flatnonzero(steps != 1)
        starts, stops = np.r_[0, edges + 1], np.r_[edges, len(numbers) - 1]
        more = stops - starts
        if not self._pieces:
            self._since = int(stamps[0]) // _MILLISECOND * _MILLISECOND
        times = ((stamps[starts] - self._since) // _MILLISECOND).astype(np.int32)
        self._pieces.append((numbers[starts], more.astype(np.min_scalar_type(int(more.max()))), times))

    def counted(self) -> _Counts:
        """What all of them come to; asked once."""
        counts, reach = self._counts, -1
        for starts, stops, times in self._rising():
            reached = np.maximum.accumulate(np.maximum(stops, reach))
            before = np.r_[reach if reach >= 0 else starts[0] - 1, reached[:-1]]
            again = np.minimum(stops, before) - starts + 1
            if (again > 0).any():
                counts.twice += int(again[again > 0].sum())
                counts.first_twice = min(counts.first_twice, int(times[again > 0].min()))
            left_out = starts - before - 1
            counts.steps += int(np.count_nonzero(left_out > 0))
            sizes = np.where(left_out <= counts.rows, np.maximum(left_out, 0), 0)
            counts.holes += int(np.count_nonzero(sizes))
            counts.missing += int(sizes.sum())
            at = int(np.argmax(sizes))
            if sizes[at] > len(counts.largest):
                counts.largest, counts.after_largest = range(before[at] + 1, starts[at]), int(times[at])
            reach = int(reached[-1])
        return counts

    def _rising(self) -> Iterator[tuple[Integers, Integers, Integers]]:
        """First and last number and time of all ranges, by their first, about `_STEP` times `_STEP` ranges at once."""
        if not self._pieces:
            return
        edges = np.sort(np.concatenate([starts[::_STEP] for starts, _, _ in self._pieces]))[_STEP::_STEP]
        cuts = [np.r_[0, np.searchsorted(starts, edges), len(starts)] for starts, _, _ in self._pieces]
        for part in range(len(edges) + 1):
            starts, more, times = (
                np.concatenate(
                    [piece[of][cut[part] : cut[part + 1]] for piece, cut in zip(self._pieces, cuts, strict=True)]
                )
                for of in range(3)
            )
            if len(starts):
                order = np.argsort(starts, kind="stable")
                yield starts[order], (starts + more)[order], times[order].astype(np.int64) * _MILLISECOND + self._since


def _as_numbers(texts: pa.StringArray) -> Integers:
    return np.asarray(texts.cast(pa.int64()))


def hashed(texts: pa.StringArray) -> Integers:
    """A 63-bit hash of each text; no nulls."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    content = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    hashes = np.zeros(len(texts), np.uint64)
    for length in np.unique(lengths).tolist():
        chosen = np.flatnonzero(lengths == length)
        padded = np.zeros((len(chosen), 8 * (length // 8 + 1)), np.uint8)
        padded[:, :length] = content[offsets[chosen, None] + np.arange(length)]
        hashes[chosen] = _mixed(padded.view(np.uint64), length)
    return (hashes >> np.uint64(1)).view(np.int64)


def _mixed(words: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.uint64]:
    """The words of each row as one, by the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = np.zeros(len(words), np.uint64)
    for word in (*words.T, np.uint64(length)):
        mixed = (mixed ^ word) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
