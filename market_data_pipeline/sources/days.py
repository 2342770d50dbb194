"""What a source has for some days, and what it should have and has not; the same for every source."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date

from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import NoData, NotGiven, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, unreadable
from market_data_pipeline.sources.contract import Source

_TRADES = DATASETS["trades"]


def rows_of_days(source: Source, dataset: Dataset, days: Iterable[date], selection: Selection) -> Iterator[DayRows]:
    """What a source has for some days; what it should have and has not comes as rows that cannot be read.

    That is a day without anything, and a day without trades of an instrument that the selection names by its id. Of the
    other types of ticks nobody knows which instruments should have them: what a selection lacks is NotGiven.
    """
    for day in days:
        found: set[Instrument | None] = set()
        for file in source.files(dataset.name, day, selection):
            found.add(file.instrument)
            yield file
        for instrument in _missed(source, day, selection.named, found):
            found.add(instrument)
            kind = NoData if dataset is _TRADES else NotGiven
            yield _nothing(source, dataset, day, f" of {instrument} (MARKET_DATA_INSTRUMENTS)", instrument, kind)
        if not found:
            asked = "" if selection.everything else f" for {selection} (MARKET_DATA_INSTRUMENTS)"
            kind = NoData if selection.everything or dataset is _TRADES else NotGiven
            yield _nothing(source, dataset, day, asked, None, kind)


def _missed(
    source: Source, day: date, named: Sequence[Instrument], found: Collection[Instrument | None]
) -> list[Instrument]:
    """Those of some instruments that should have trades; one with an expiry need not, on days when it isn't listed."""
    missing = [each for each in named if each not in found and not (each.expiry and each.expiry < day)]
    dated = [each for each in missing if each.expiry]
    listed = None
    with suppress(SourceError):
        listed = source.listings(day, Selection.of(dated)) if dated and source.has_listings else None
    if listed is None:
        return missing
    ids = set(listed.column("instrument_id").to_pylist())
    return [each for each in missing if each.expiry is None or each.id in ids]


def _nothing(
    source: Source, dataset: Dataset, day: date, asked: str, instrument: Instrument | None, kind: type[SourceError]
) -> DayRows:
    why = f"source {source.name} has no {dataset.name}{asked} on {day}: {source.describe(dataset.name)}"
    return unreadable(day, instrument, source.name, kind(why))
