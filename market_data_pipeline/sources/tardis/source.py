"""The source `tardis`: which files the vendor has of a day, and reading them from the network."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from functools import partial
from http import HTTPStatus
from itertools import chain
from urllib.parse import quote

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS, LISTING_SCHEMA, Kind
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects, unreadable
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.sources.downloads.fetch import Downloads
from market_data_pipeline.sources.downloads.http import Refused, shown
from market_data_pipeline.sources.downloads.remote import Remote
from market_data_pipeline.sources.downloads.tries import Patience
from market_data_pipeline.sources.formats.tardis_csv import read_tardis
from market_data_pipeline.sources.formats.unpack import Packed
from market_data_pipeline.sources.selecting import may_be_meant, named, types_meant, unknown_symbols, venues_meant
from market_data_pipeline.sources.symbols import GROUPED, VENUES, file_symbol, instrument_of
from market_data_pipeline.sources.tardis.api import TardisApi
from market_data_pipeline.sources.tardis.catalogue import Exchange, Symbol
from market_data_pipeline.sources.tardis.grouped import split_grouped
from market_data_pipeline.sources.tardis.master import (
    listing_from_exchange,
    listing_from_records,
)
from market_data_pipeline.sources.venues import contract_of

GROUP_FROM = 200
"""From so many instruments of a type on, the group's one file is fetched instead of theirs."""

_CHAIN = "options_chain"
_GROUPS = {kind: symbol for symbol, kind in GROUPED.items()}


class TardisSource:
    """Ticks from Tardis' daily files, one for each exchange, data type, day and symbol.

    What there is comes from the vendor's API of exchanges, in which instruments are found by the rules of
    `sources.symbols`. The selection must name exchanges: there are dozens of them. May be used from any thread.

    Args:
        remote: where the vendor is, the key, and how much may be fetched and kept.
        patience: how long the vendor is waited for.
    """

    name = "tardis"
    has_listings = True
    venues: frozenset[str] | None = None
    data_types: tuple[str, ...] = tuple(name for name, dataset in DATASETS.items() if dataset.kind is Kind.TICKS)

    def __init__(self, remote: Remote, patience: Patience | None = None) -> None:
        self._remote = remote
        self._downloads = Downloads(remote, remote.tardis_key, partial(_advice, bool(remote.tardis_key)), patience)
        self._api = TardisApi(remote, self._downloads)

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """What the vendor has of a data type for a day and a selection, by exchange in the order of the instruments.

        An instrument that the selection names, but of which the vendor has no file for the day, comes as rows that
        cannot be read, and so does an exchange whose list cannot be had.

        Raises:
            SourceError: the selection does not say which exchanges are meant.
        """
        if data_type not in self.data_types:
            return iter(())
        venues = self._venues(selection)
        return chain.from_iterable(self._files(venue, data_type, day, selection) for venue in venues)

    def days_with(self, data_type: str, days: Iterable[date], _: Selection) -> set[date]:
        """Every day, with a key; without one the first of each month. Exchanges have different types on each."""
        return {day for day in days if data_type in self.data_types and (self._remote.tardis_key or day.day == 1)}

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line."""
        days = "every day of the subscription" if self._remote.tardis_key else "the first day of each month (no key)"
        return (
            f"Tardis ({self._remote.tardis_url}) has {data_type} of {days}, ready about 06:00 UTC on the next day; "
            f"{self._remote.tardis_api_url}/exchanges lists exchanges"
        )

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values: the built-in rule; multipliers are in the master."""
        return contract_of(instrument)

    def listings(self, day: date, selection: Selection) -> pa.Table:
        """The instruments that were listed at 00:00 UTC of a day on a selection's exchanges.

        With a key they come from the vendor's master, with what it knows to have held then; without one, or where its
        subscription has no master, only symbols and days are known.

        Raises:
            SourceError: the selection does not say which exchanges are meant, or their lists cannot be had.
        """
        parts = [LISTING_SCHEMA.empty_table()]
        for venue in self._venues(selection):
            master = self._api.master(venue, types_meant(selection, venue))
            if master is None:
                parts.append(listing_from_exchange(self._api.exchange(venue), day))
            else:
                parts.append(listing_from_records(chain.from_iterable(master.values()), day))
        return pa.concat_tables(parts)

    def _venues(self, selection: Selection) -> tuple[str, ...]:
        venues = venues_meant(selection, VENUES)
        if len(venues) == len(VENUES):
            raise SourceError(
                f"MARKET_DATA_INSTRUMENTS is {selection}: name the exchanges that Tardis is asked for, such as "
                f"binance:*:BTC-*,deribit:Perp:*; there are {', '.join(VENUES)}"
            )
        return venues

    def _files(self, venue: str, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        url = self._api.exchange_url(venue)
        try:
            exchange = self._api.exchange(venue)
        except SourceError as error:
            yield unreadable(day, None, url, str(error))
            return
        if data_type == _CHAIN:
            if InstrumentType.OPTION in types_meant(selection, venue) and _offered(exchange, "OPTIONS", data_type, day):
                yield from self._grouped(venue, "OPTIONS", data_type, day, selection)
            return
        found = _wanted(exchange, data_type, day, selection)
        grouped = [
            kind
            for kind, count in Counter(instrument.type for instrument in found).items()
            if count >= GROUP_FROM and _offered(exchange, _GROUPS[kind], data_type, day)
        ]
        for kind in grouped:
            yield from self._grouped(venue, _GROUPS[kind], data_type, day, selection)
        for instrument in sorted(instrument for instrument in found if instrument.type not in grouped):
            yield self._single(instrument, data_type, day, found[instrument])
        yield from self._missing(exchange, data_type, day, selection, found)

    def _single(self, instrument: Instrument, data_type: str, day: date, symbols: list[Symbol]) -> DayRows:
        if len(symbols) > 1:
            ids = " and ".join(symbol.id for symbol in symbols)
            url = self._api.exchange_url(instrument.venue)
            return unreadable(day, instrument, url, f"{instrument} on {day}: Tardis has it as {ids}; {url} tells both")
        url = self._url(instrument.venue, data_type, day, symbols[0].id)
        return DayRows(day, instrument, url, partial(self._read, url, instrument.venue, data_type, day, symbols[0]))

    def _missing(
        self, exchange: Exchange, data_type: str, day: date, selection: Selection, found: dict[Instrument, list[Symbol]]
    ) -> Iterator[DayRows]:
        """What was asked for, or may have been, and is not there."""
        url = self._api.exchange_url(exchange.venue)
        for instrument in named(selection, exchange.venue):
            symbols = exchange.known.get(instrument, [])
            of_type = [symbol for symbol in symbols if data_type in symbol.data_types]
            if not symbols:
                why = f"{instrument}: Tardis has no symbol of it; {url} lists those that there are"
            elif instrument in found or not of_type:
                continue
            else:
                days = " and ".join(f"of {symbol.id} {symbol.days()}" for symbol in of_type)
                why = f"{instrument} on {day}: Tardis has {data_type} {days}; choose such a day"
            yield unreadable(day, instrument, url, why)
        unknown = [
            symbol.id
            for symbol in exchange.unknown
            if data_type in symbol.data_types
            and symbol.on(midnight(day))
            and symbol.type is not None
            and may_be_meant(selection, exchange.venue, symbol.type, file_symbol(symbol.id))
        ]
        if unknown:
            yield unknown_symbols(day, url, exchange.venue, unknown)

    def _read(
        self, url: str, venue: str, data_type: str, day: date, symbol: Symbol, rejects: Rejects
    ) -> Iterator[pa.RecordBatch]:
        rows = read_tardis(self._packed(url), DATASETS[data_type], day, venue, file_symbol(symbol.id), rejects)
        try:
            with self._downloads.trusting(url):
                yield from rows
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND or not symbol.ends_on(midnight(day)):
                raise

    def _grouped(self, venue: str, group: str, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """All instruments of a type from one file, which is read as soon as the first of them is asked for."""
        url = self._url(venue, data_type, day, group)
        try:
            with self._downloads.trusting(url):
                yield from split_grouped(
                    self._packed(url), DATASETS[data_type], day, venue, GROUPED[group], instrument_of, selection
                )
        except SourceError as error:
            yield unreadable(day, None, url, str(error))

    def _packed(self, url: str) -> Packed:
        return Packed(shown(url), ".gz", partial(self._downloads.stream, url))

    def _url(self, venue: str, data_type: str, day: date, symbol: str) -> str:
        name = quote(file_symbol(symbol), safe="")
        return f"{self._remote.tardis_url}/v1/{venue}/{data_type}/{day:%Y/%m/%d}/{name}.csv.gz"


def _wanted(exchange: Exchange, data_type: str, day: date, selection: Selection) -> dict[Instrument, list[Symbol]]:
    """The selected instruments of which there should be a file, each with its symbols."""
    found: dict[Instrument, list[Symbol]] = {}
    start = midnight(day)
    for instrument, symbols in exchange.known.items():
        # day and type first: an exchange of options has had hundreds of thousands of them
        there = [symbol for symbol in symbols if symbol.on(start) and data_type in symbol.data_types]
        if there and instrument in selection:
            # on the day after one symbol's last the instrument may go on under another
            found[instrument] = [symbol for symbol in there if not symbol.ends_on(start)] or there
    return found


def _offered(exchange: Exchange, group: str, data_type: str, day: date) -> bool:
    symbol = exchange.groups.get(group)
    return symbol is not None and data_type in symbol.data_types and symbol.on(midnight(day))


def _advice(has_key: bool, status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED if has_key:
            return "the vendor does not accept the key in TARDIS_API_KEY: copy it again from your account"
        case HTTPStatus.UNAUTHORIZED:
            return "set TARDIS_API_KEY; without a key only the first day of each month is free"
        case HTTPStatus.FORBIDDEN:
            return "your subscription does not include it (TARDIS_API_KEY; the first day of each month is free for all)"
        case HTTPStatus.NOT_FOUND:
            return "not there, or not yet: a day is ready about 06:00 UTC on the next"
        case HTTPStatus.BAD_REQUEST:
            return "the vendor does not understand the address: check the day, and MARKET_DATA_INSTRUMENTS"
        case _:
            return ""
