"""The source `binance`: which trades the archive has of a day, and reading them and the exchange's own candles."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import date
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import IO

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects, unreadable
from market_data_pipeline.sources.binance.archive import holds, klines_key, symbol_of, symbols, trades_key
from market_data_pipeline.sources.downloads.fetch import Downloads
from market_data_pipeline.sources.downloads.http import Refused, shown
from market_data_pipeline.sources.downloads.remote import Remote
from market_data_pipeline.sources.downloads.tries import Patience
from market_data_pipeline.sources.formats.binance_csv import Market, read_binance_trades
from market_data_pipeline.sources.formats.binance_klines import read_binance_klines
from market_data_pipeline.sources.formats.unpack import Packed
from market_data_pipeline.sources.selecting import may_be_meant, named, unknown_symbols, venues_meant
from market_data_pipeline.sources.symbols import instrument_of
from market_data_pipeline.sources.venues import contract_of

_SHA256 = re.compile(r"\A\s*([0-9a-fA-F]{64})\b")
_DATED = re.compile(r".+_[0-9]{6}")


class BinanceSource:
    """Trades of Binance's public archive: spot, USDT-margined and coin-margined futures, each file with a checksum.

    Instruments that the selection names one by one are fetched without looking at any list; for globs the archive's
    bucket is asked which symbols there are, and which of them have a file of the day. May be used from any thread.

    Args:
        remote: where the archive is, and how much may be fetched and kept.
        patience: how long it is waited for.
    """

    name = "binance"
    has_listings = False
    venues: frozenset[str] | None = frozenset(market.value for market in Market)
    data_types: tuple[str, ...] = ("trades",)

    def __init__(self, remote: Remote, patience: Patience | None = None) -> None:
        self._remote = remote
        self._downloads = Downloads(remote, "", _advice, patience)

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """What the archive has of a day and a selection, by market in the order of the instruments.

        Without trades there is no file. An instrument that the selection names must have one: without it, reading it
        raises the SourceError that says so. A market whose list cannot be had comes as rows that cannot be read.
        """
        if data_type not in self.data_types:
            return iter(())
        markets = [Market(venue) for venue in venues_meant(selection, [market.value for market in Market])]
        return chain.from_iterable(self._files(market, day, selection) for market in markets)

    def days_with(self, data_type: str, days: Iterable[date], _: Selection) -> set[date]:
        """Every day should have trades: which symbols had any is known by asking for each."""
        return set(days) if data_type in self.data_types else set()

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line."""
        if data_type not in self.data_types:
            return f"Binance's archive holds no {data_type} that the lake has room for, only trades"
        return (
            f"Binance's archive ({self._remote.binance_url}) has trades of {', '.join(Market)}, a day's on the next; "
            "a symbol without trades has no file"
        )

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values: the venue's built-in rule."""
        return contract_of(instrument)

    def listings(self, _day: date, _selection: Selection) -> None:
        """None: the archive has no master of instruments."""
        return

    def klines(self, instrument: Instrument, day: date) -> pa.Table | None:
        """The exchange's own 1m candles of a day, in the names of ours; None where the archive has none.

        Columns: `formats.binance_klines.KLINES` (volumes as candles count them: contracts for coin-margined ones).

        Raises:
            SourceError: the file cannot be had whole, or is malformed.
            InstrumentError: the instrument is none of this archive's.
        """
        if instrument.venue not in list(Market):
            return None
        market, symbol = Market(instrument.venue), symbol_of(instrument)
        url = self._url(klines_key(market, symbol, day))
        multiplier = contract_of(instrument).multiplier
        try:
            with self._downloads.trusting(url):
                return read_binance_klines(self._zip(url), market, day, multiplier)
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _files(self, market: Market, day: date, selection: Selection) -> Iterator[DayRows]:
        exact = named(selection, market.value)
        yield from (self._named(market, instrument, day) for instrument in exact)
        if selection.exact is not None:
            return
        try:
            yield from self._listed(market, day, selection, frozenset(exact))
        except SourceError as error:
            yield unreadable(day, None, self._remote.binance_list_url, str(error))

    def _named(self, market: Market, instrument: Instrument, day: date) -> DayRows:
        try:
            symbol = symbol_of(instrument)
        except InstrumentError as error:
            return unreadable(day, instrument, self._remote.binance_url, str(error))
        return self._rows(market, symbol, instrument, day)

    def _listed(
        self, market: Market, day: date, selection: Selection, exact: frozenset[Instrument]
    ) -> Iterator[DayRows]:
        list_url = self._remote.binance_list_url
        known: dict[Instrument, str] = {}
        unknown: list[str] = []
        for symbol in symbols(self._downloads, list_url, market):
            try:
                instrument = instrument_of(market.value, symbol)
            except InstrumentError:
                if may_be_meant(selection, market.value, _type(market, symbol), symbol):
                    unknown.append(symbol)
            else:
                if instrument in selection and instrument not in exact:
                    known[instrument] = symbol
        instruments = sorted(known)
        wanted = [*(known[instrument] for instrument in instruments), *unknown]
        with ThreadPoolExecutor(self._remote.downloads, "list") as pool:
            there = list(
                pool.map(lambda symbol: holds(self._downloads, list_url, trades_key(market, symbol, day)), wanted)
            )
        for instrument, holds_day in zip(instruments, there, strict=False):
            if holds_day:
                yield self._rows(market, known[instrument], instrument, day)
        without_rule = frozenset(unknown)
        left_out = [
            symbol for symbol, holds_day in zip(wanted, there, strict=True) if holds_day and symbol in without_rule
        ]
        if left_out:
            yield unknown_symbols(day, list_url, market.value, left_out)

    def _rows(self, market: Market, symbol: str, instrument: Instrument, day: date) -> DayRows:
        url = self._url(trades_key(market, symbol, day))
        return DayRows(day, instrument, url, partial(self._read, url, market, day))

    def _read(self, url: str, market: Market, day: date, rejects: Rejects) -> Iterator[pa.RecordBatch]:
        with self._downloads.trusting(url):
            yield from read_binance_trades(self._zip(url), market, day, rejects)

    def _zip(self, url: str) -> Packed:
        return Packed(shown(url), ".zip", partial(self._whole, url))

    def _whole(self, url: str) -> AbstractContextManager[IO[bytes]]:
        return self._downloads.file(url, partial(self._checksum, url))

    def _checksum(self, url: str) -> str:
        address = f"{url}.CHECKSUM"
        match = _SHA256.match(self._downloads.content(address).decode("ascii", "replace"))
        if match is None:
            raise SourceError(f"{shown(address)}: holds no sha256; run it again later")
        return match[1].lower()

    def _url(self, key: str) -> str:
        return f"{self._remote.binance_url}/{key}"


def _type(market: Market, symbol: str) -> InstrumentType:
    if market is Market.SPOT:
        return InstrumentType.SPOT
    return InstrumentType.FUTURE if _DATED.fullmatch(symbol) else InstrumentType.PERPETUAL


def _advice(status: int) -> str:
    match status:
        case HTTPStatus.NOT_FOUND:
            return (
                "the archive has no such file: nothing was traded, it was not listed, or the day is not there yet (a "
                "day's files come on the next); take it out of MARKET_DATA_INSTRUMENTS, or choose another day"
            )
        case HTTPStatus.FORBIDDEN | HTTPStatus.UNAUTHORIZED | 451:
            return "the archive refuses requests from here: see BINANCE_BASE_URL for a mirror"
        case _:
            return ""
