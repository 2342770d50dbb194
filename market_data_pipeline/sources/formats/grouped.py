"""Grouped Tardis files (all instruments of a type in one file), split by instrument in one pass and bounded memory."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources.formats.csv_ticks import Block
from market_data_pipeline.sources.formats.spill import Codes, RowsByCode
from market_data_pipeline.sources.formats.tardis_csv import own_rows, tardis_blocks
from market_data_pipeline.sources.formats.unpack import Origin
from market_data_pipeline.sources.formats.usable import Fault, Room, Sieve, first_faults
from market_data_pipeline.sources.symbols import file_symbol

_REASONS = 5


@dataclass(frozen=True)
class Unknown:
    """A symbol of a grouped file that could not be told apart.

    Attributes:
        symbol: as the file has it; empty where rows have none.
        message: where it stands, how many rows it has, and what to do.
    """

    symbol: str
    message: str


@dataclass(frozen=True)
class _Part:
    """The rows of one symbol; the part's place in the list of parts is the rows' code."""

    symbol: str
    instrument: Instrument | None
    wanted: bool
    line: int
    why: str
    sieve: Sieve


class GroupedDay:
    """What a grouped file holds, instrument by instrument; made by `split_tardis`.

    Attributes:
        instruments: those of the selection that have rows, in order.
        unknown: the symbols that could not be told apart, in order.
        empty: whether the file has no rows at all.
    """

    def __init__(self, path: Origin, parts: Sequence[_Part], rows: RowsByCode) -> None:
        self._path, self._parts, self._rows = path, parts, rows
        self._codes: dict[Instrument, list[int]] = defaultdict(list)
        for code, part in enumerate(parts):
            if part.instrument is not None and part.wanted:
                self._codes[part.instrument].append(code)
        self.instruments = tuple(sorted(self._codes))
        self.empty = not parts
        self.unknown = tuple(
            Unknown(part.symbol, f"{path}: {part.sieve.seen} rows from line {part.line} on: {part.why}")
            for part in sorted(parts, key=lambda part: part.symbol)
            if part.instrument is None
        )

    def read(self, instrument: Instrument, rejects: Rejects) -> Iterator[pa.RecordBatch]:
        """Streams an instrument's rows, in the file's order. May be called again and from any thread.

        Args:
            instrument: one of `instruments`.
            rejects: told of what was set aside of it.

        Raises:
            SourceError: two symbols of the file mean this instrument, or none of its rows can be used.
        """
        code, *others = self._codes[instrument]
        if others:
            symbols = " and ".join(self._parts[each].symbol for each in (code, *others))
            raise SourceError(f"{self._path}: the symbols {symbols} both mean {instrument}; correct the mapping file")
        sieve = self._parts[code].sieve
        rejects.take(sieve.rejects)
        sieve.finish()
        yield from self._rows.read(code)


def split_tardis(
    path: Origin,
    dataset: Dataset,
    day: date,
    exchange: str,
    instrument_of: Callable[[str], Instrument],
    selection: Selection,
) -> GroupedDay:
    """Reads a grouped file once, sets aside what `read_tardis` would, and sorts the rows by instrument.

    Args:
        path: the file.
        dataset: which tick dataset it holds.
        day: the file's day.
        exchange: the vendor's exchange id, as in the file's name.
        instrument_of: tells the instrument of a symbol; raises InstrumentError. Asked once for each symbol.
        selection: rows of other instruments are dropped at once, and don't count.

    Raises:
        SourceError: the file is torn, a column is missing, a number is none, no row can be used, or the temporary
            folder is full.
    """
    parts = _Parts(path, instrument_of, selection)
    rows = RowsByCode(dataset.own_schema)
    try:
        for block in tardis_blocks(path, dataset):
            codes = parts.codes(block.rows.column("symbol"), block.line)
            batch, faults = own_rows(block, dataset, day, exchange)
            keep = parts.keep(codes, block, first_faults(batch.num_rows, faults))
            if not keep.all():
                batch, codes = batch.filter(pa.array(keep)), codes[keep]
            if batch.num_rows:
                rows.add(batch, codes)
        rows.finish()
    except OSError as error:
        raise SourceError(
            f"{path}: splitting it by instrument needs room in {tempfile.gettempdir()}: {error.strerror or error}; "
            "free some, or set TMPDIR to a folder that has more"
        ) from error
    return GroupedDay(path, parts.finished(), rows)


class _Parts:
    """The symbols of a file as they come up: their instruments, and how many rows of each were seen and kept."""

    def __init__(self, path: Origin, instrument_of: Callable[[str], Instrument], selection: Selection) -> None:
        self._path, self._instrument_of, self._selection = path, instrument_of, selection
        self._parts: list[_Part] = []
        self._numbers: dict[str | None, int] = {}  # as the file writes it, and as file names have it
        self._wanted = np.zeros(0, bool)
        self._seen = self._kept = np.zeros(0, np.int64)
        self._room = Room()

    def codes(self, symbols: pa.DictionaryArray, line: int) -> Codes:
        """The code of each row of a block, whose first stands on this line."""
        indices = np.asarray(symbols.indices.fill_null(-1))
        names = [*symbols.dictionary.to_pylist(), None]  # the last place is that of null (-1)
        if not symbols.null_count:
            names.pop()
        for index, name in enumerate(names):
            if name not in self._numbers:
                place = -1 if name is None else index
                self._numbers[name] = self._add(name, line + int(np.argmax(indices == place)))
        numbers = np.array([self._numbers[name] for name in names], np.int32)
        if len(self._wanted) < len(self._parts):
            new = len(self._parts) - len(self._wanted)
            self._wanted = np.array([part.wanted for part in self._parts])
            self._seen, self._kept = np.pad(self._seen, (0, new)), np.pad(self._kept, (0, new))
        codes: Codes = numbers[indices]
        return codes

    def keep(
        self,
        codes: Codes,
        block: Block,
        judged: tuple[npt.NDArray[np.bool_], list[tuple[Fault, npt.NDArray[np.bool_]]]],
    ) -> npt.NDArray[np.bool_]:
        """Which rows of a block stay; sets aside those that are wanted but have a fault, by symbol."""
        good, found = judged
        wanted = self._wanted[codes]
        for fault, bad in found:
            rows = np.flatnonzero(bad & wanted)
            for code in np.unique(codes[rows]).tolist():
                self._parts[code].sieve.set_aside(fault, rows[codes[rows] == code], block)
        keep: npt.NDArray[np.bool_] = good & wanted
        self._seen += np.bincount(codes, minlength=len(self._parts))
        self._kept += np.bincount(codes[keep], minlength=len(self._parts))
        return keep

    def finished(self) -> list[_Part]:
        """All symbols, by code.

        Raises:
            SourceError: rows are wanted, and not one can be used: the file is not what its name says.
        """
        for part, seen, kept in zip(self._parts, self._seen.tolist(), self._kept.tolist(), strict=True):
            part.sieve.seen, part.sieve.kept = seen, kept
        wanted = [part for part in self._parts if part.wanted]
        if wanted and not any(part.sieve.kept for part in wanted):
            reasons = [reason for part in wanted for reason in part.sieve.rejects.because][:_REASONS]
            rows = sum(part.sieve.seen for part in wanted)
            raise SourceError(f"{self._path}: none of its {rows} rows can be used; {'; '.join(reasons)}")
        return self._parts

    def _add(self, name: str | None, line: int) -> int:
        text = file_symbol(name or "")
        if text in self._numbers:
            return self._numbers[text]
        instrument, why = None, "they have no symbol"
        if text:
            try:
                instrument = self._instrument_of(text)
            except InstrumentError as error:
                why = str(error)
        wanted = instrument is not None and instrument in self._selection
        sieve = Sieve(self._path, Rejects(), of=text, room=self._room)
        self._parts.append(_Part(text, instrument, wanted, line, why, sieve))
        self._numbers[text] = len(self._parts) - 1
        return len(self._parts) - 1
