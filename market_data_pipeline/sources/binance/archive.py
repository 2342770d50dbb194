"""Binance's public archive: what lies where, how a symbol is called, and the lists that its bucket gives."""

from collections.abc import Iterator
from datetime import date
from typing import Protocol
from urllib.parse import urlencode
from xml.etree import ElementTree

from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.sources.downloads.http import shown
from market_data_pipeline.sources.formats.binance_csv import Market
from market_data_pipeline.sources.symbols import instrument_of

_FOLDERS = {Market.SPOT: "spot", Market.UM: "futures/um", Market.CM: "futures/cm"}
_PAGES = 10_000


class Lists(Protocol):
    """What can fetch a small answer."""

    def content(self, url: str) -> bytes:
        """The answer, whole."""
        ...


def symbol_of(instrument: Instrument) -> str:
    """How the archive calls an instrument: the exact inverse of `instrument_of`.

    Raises:
        InstrumentError: the rules do not lead back from the symbol to the instrument, so that it could be another's.
    """
    end = ""
    if instrument.expiry is not None:
        end = f"_{instrument.expiry:%y%m%d}"
    elif instrument.venue == Market.CM and instrument.type is InstrumentType.PERPETUAL:
        end = "_PERP"
    symbol = f"{instrument.base}{instrument.quote}{end}"
    if instrument_of(instrument.venue, symbol) != instrument:
        raise InstrumentError(
            f"{instrument}: the archive's symbol for it would be {symbol!r}, which is "
            f"{instrument_of(instrument.venue, symbol)}"
        )
    return symbol


def trades_key(market: Market, symbol: str, day: date) -> str:
    """Where a day of trades lies."""
    return f"{_folder(market, 'trades')}{symbol}/{symbol}-trades-{day}.zip"


def klines_key(market: Market, symbol: str, day: date) -> str:
    """Where a day of 1m klines lies."""
    return f"{_folder(market, 'klines')}{symbol}/1m/{symbol}-1m-{day}.zip"


def symbols(lists: Lists, list_url: str, market: Market) -> tuple[str, ...]:
    """All symbols that there ever were trades of, in the archive's order.

    Raises:
        SourceError: the list cannot be had, or is none.
    """
    folder = _folder(market, "trades")
    found = (prefix.removeprefix(folder).rstrip("/") for prefix in _listed(lists, list_url, folder, "Prefix"))
    return tuple(symbol for symbol in found if symbol)


def holds(lists: Lists, list_url: str, key: str) -> bool:
    """Whether something lies under this very key.

    Raises:
        SourceError: the list cannot be had, or is none.
    """
    return key in _listed(lists, list_url, key, "Key")


def _folder(market: Market, kind: str) -> str:
    return f"data/{_FOLDERS[market]}/daily/{kind}/"


def _listed(lists: Lists, list_url: str, prefix: str, what: str) -> Iterator[str]:
    """Keys (`Key`) or folders (`Prefix`) below a prefix; the bucket gives 1,000 at once."""
    marker = ""
    for _ in range(_PAGES):
        query = {"delimiter": "/", "prefix": prefix} | ({"marker": marker} if marker else {})
        page = _page(lists, f"{list_url}?{urlencode(query)}")
        names = [entry.text or "" for entry in page.findall(f"./{{*}}{_PARENTS[what]}/{{*}}{what}")]
        yield from names
        if page.findtext("./{*}IsTruncated") != "true":
            return
        following = page.findtext("./{*}NextMarker") or max(names, default="")
        if following <= marker:
            break
        marker = following
    raise SourceError(f"{shown(list_url)}: the list of {prefix} does not end")


_PARENTS = {"Key": "Contents", "Prefix": "CommonPrefixes"}


def _page(lists: Lists, url: str) -> ElementTree.Element:
    try:
        # expat itself bounds what entities may grow to
        page = ElementTree.fromstring(lists.content(url))  # noqa: S314
    except ElementTree.ParseError as error:
        raise SourceError(f"{shown(url)}: the list is no XML ({error}); check BINANCE_LIST_URL") from None
    if page.tag.rpartition("}")[2] != "ListBucketResult":
        raise SourceError(f"{shown(url)}: the answer is no list of a bucket; check BINANCE_LIST_URL")
    return page
