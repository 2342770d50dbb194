"""The vendor files of one day and data type as DayRows: each instrument once, whatever files it comes in."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow as pa

from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects, unreadable
from market_data_pipeline.sources.contents import content_of
from market_data_pipeline.sources.files.file_names import Vendor, VendorFile
from market_data_pipeline.sources.files.mapping import Mapping
from market_data_pipeline.sources.formats.binance_csv import Market, market_by_columns, read_binance_trades
from market_data_pipeline.sources.formats.grouped import split_tardis
from market_data_pipeline.sources.formats.tardis_csv import read_tardis
from market_data_pipeline.sources.selecting import may_be_meant
from market_data_pipeline.sources.symbols import GROUPED


@dataclass
class _Day:
    """One day of a data type, sorted by what each file is, and what has been given out of it.

    Attributes:
        own: files of one instrument, with their venue.
        groups: grouped files, by venue and group.
        unknown: what could not be told, with the venues that it can be of.
        found: the instruments of the selection that there is a file for.
    """

    dataset: Dataset
    day: date
    selection: Selection
    mapping: Mapping
    own: dict[Instrument, list[tuple[VendorFile, str]]] = field(default_factory=lambda: defaultdict(list))
    groups: dict[tuple[str, str], list[Path]] = field(default_factory=lambda: defaultdict(list))
    unknown: list[tuple[tuple[str, ...], DayRows]] = field(default_factory=list)
    found: set[Instrument] = field(default_factory=set)


def day_rows(
    files: Iterable[VendorFile], dataset: Dataset, day: date, selection: Selection, mapping: Mapping
) -> Iterator[DayRows]:
    """What some files hold of a selection, one DayRows an instrument.

    Grouped files come first; each is split when the iterator reaches it. Without an instrument come files and symbols
    that cannot be told apart, unless the selection cannot mean them, and grouped files that are broken. An instrument
    that lies in two files comes as one. Reading any of these raises the SourceError that says what to do.

    Args:
        files: of this dataset and day.
        dataset: the tick dataset.
        day: the files' day.
        selection: the instruments that are asked for.
        mapping: tells the instrument of a symbol.
    """
    asked = _Day(dataset, day, selection, mapping)
    for file in files:
        _sort_in(asked, file)
    for venue, group in sorted(asked.groups):
        yield from _split(asked, venue, GROUPED[group], asked.groups[venue, group])
    for instrument in sorted(asked.own):
        yield _own_file(day, instrument, asked.own[instrument])
    for venues, rows in asked.unknown:
        if any(_may_lack(asked, venue) for venue in venues):
            yield rows


def _sort_in(asked: _Day, file: VendorFile) -> None:
    if file.venue and file.group:
        if asked.selection.may_hold(f"{file.venue}:{GROUPED[file.group]}:"):
            asked.groups[file.venue, file.group].append(file.path)
        return
    try:
        venue, instrument = _identify(file, asked.mapping)
    except SourceError as error:
        venues = (file.venue,) if file.venue else tuple(market.value for market in Market)
        asked.unknown.append((venues, unreadable(asked.day, None, str(file.path), str(error))))
        return
    if instrument in asked.selection:
        asked.own[instrument].append((file, venue))
        asked.found.add(instrument)


def _may_lack(asked: _Day, venue: str) -> bool:
    """Whether something unknown of a venue can be an instrument that is asked for and was not found."""
    exact = asked.selection.exact
    if exact is None:
        return asked.selection.may_hold(f"{venue}:")
    return any(instrument.venue == venue and instrument not in asked.found for instrument in exact)


def _identify(file: VendorFile, mapping: Mapping) -> tuple[str, Instrument]:
    """The venue and the instrument of a file; the file is opened only where its path does not tell the venue."""
    venue = file.venue or _binance_venue(file, mapping)
    try:
        return venue, mapping.instrument(venue, file.symbol)
    except InstrumentError as error:
        raise SourceError(f"{file.path}: {error}") from None


def _binance_venue(file: VendorFile, mapping: Mapping) -> str:
    market = market_by_columns(file.path)
    if market is not None:
        return market.value
    declared = [venue.value for venue in Market if (venue.value, file.symbol) in mapping.instruments]
    if len(declared) == 1:
        return declared[0]
    raise SourceError(
        f"{file.path}: neither path nor columns tell Binance's market; put the file under spot/, um/ or cm/, or "
        + mapping.advice(Market.SPOT.value, file.symbol)
    )


def _split(asked: _Day, venue: str, kind: InstrumentType, paths: Sequence[Path]) -> Iterator[DayRows]:
    day, origin = asked.day, " and ".join(str(path) for path in paths)
    if len(paths) > 1:
        message = f"{len(paths)} grouped files hold the same, {origin}; keep one of them"
        yield unreadable(day, None, origin, message)
        return
    try:
        instrument_of = partial(asked.mapping.instrument, venue)
        held = split_tardis(paths[0], asked.dataset, day, venue, instrument_of, asked.selection)
    except SourceError as error:
        yield unreadable(day, None, origin, str(error))
        return
    for instrument in held.instruments:
        if instrument in asked.own:
            files = [str(file.path) for file, _ in asked.own.pop(instrument)]
            yield _doubled(day, instrument, [*files, origin])
        elif instrument in asked.found:
            # it was given out already, so only this can tell of it
            message = f"{origin}: {instrument} lies in another grouped file, too; correct the mapping file, or keep one"
            yield unreadable(day, None, origin, message)
        else:
            yield DayRows(day, instrument, origin, partial(held.read, instrument))
        asked.found.add(instrument)
    asked.unknown += [
        ((venue,), unreadable(day, None, f"{origin} {unknown.symbol}".strip(), unknown.message))
        for unknown in held.unknown
        if may_be_meant(asked.selection, venue, kind, unknown.symbol)
    ]
    if held.empty:
        yield DayRows(day, None, origin, lambda _: iter(()))


def _own_file(day: date, instrument: Instrument, files: list[tuple[VendorFile, str]]) -> DayRows:
    if len(files) > 1:
        return _doubled(day, instrument, [str(file.path) for file, _ in files])
    file, venue = files[0]
    read_as = f"{file.vendor} {file.data_type} of {venue} {file.symbol} on {day}"
    return DayRows(day, instrument, str(file.path), partial(_read, file, venue), content_of(file.path, read_as))


def _read(file: VendorFile, venue: str, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    if file.vendor is Vendor.BINANCE:
        return read_binance_trades(file.path, Market(venue), file.day, rejects)
    return read_tardis(file.path, DATASETS[file.data_type], file.day, venue, file.symbol, rejects)


def _doubled(day: date, instrument: Instrument, paths: Sequence[str]) -> DayRows:
    origin = " and ".join(paths)
    return unreadable(
        day, instrument, origin, f"{instrument} on {day}: {len(paths)} files hold it, {origin}; keep one of them"
    )
