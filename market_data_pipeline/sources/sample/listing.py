"""The instruments of the sample: which are listed on a day, by rule, and how each is traded."""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

import pyarrow as pa

from market_data_pipeline.model.datasets import LISTING_SCHEMA
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.model.windows import DAY, midnight
from market_data_pipeline.sources.sample.market import EXPIRY_TIME, expiry_of, level
from market_data_pipeline.sources.sample.numbers import Grid
from market_data_pipeline.sources.venues import contract_of

FIRST_DAY = date(2019, 1, 1)
LAST_DAY = date(2098, 12, 31)
"""The sample's last day: instrument ids hold expiries up to 2099."""

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_QUARTERLY = 3
_FUTURE_OVERLAP, _OPTION_OVERLAP = timedelta(days=14), timedelta(days=7)
# options begin a week before the second expiry ahead of theirs, and before the one ahead; how far strikes lie apart
_STRIKES = ((2, 0.2), (1, 0.1))


@dataclass(frozen=True)
class Terms:
    """How an instrument is traded.

    Attributes:
        tick: the grid of its prices.
        lot: the grid of its amounts.
        spread: best ask less best bid, as a fraction of the mid.
        depth: by how much at most an order's next fill is worse than the one before, as a fraction of the price.
        lots: lots of an average fill.
        trades: trades on an average day, about.
        rush: orders in the moments before a full hour, and as many after it.
        quiet: share of minutes in which nobody trades.
        levels: the fewest price levels on a side of its book; often there are more.
        open_interest: lots held open, about; zero where nothing is.
    """

    tick: Grid
    lot: Grid
    spread: float
    depth: float
    lots: float
    trades: int
    rush: int
    quiet: float
    levels: int
    open_interest: int


@dataclass(frozen=True)
class Listed:
    """One instrument of the sample.

    Attributes:
        instrument: which.
        venue_symbol: how the venue calls it.
        terms: how it is traded.
        start: when its trading begins, UTC.
        end: when it expires, UTC; None for what does not expire.
    """

    instrument: Instrument
    venue_symbol: str
    terms: Terms
    start: datetime
    end: datetime | None

    def traded_on(self, day: date) -> bool:
        """Whether it can be traded for at least a part of the day."""
        return self.start < midnight(day) + DAY and (self.end is None or self.end > midnight(day))

    def known_on(self, day: date) -> bool:
        """Whether it is listed at 00:00 UTC of the day, and not expired."""
        return self.start <= midnight(day) and (self.end is None or self.end > midnight(day))


_OPENING = midnight(FIRST_DAY)
_LASTING = tuple(
    Listed(instrument, symbol, terms, _OPENING, None)
    for instrument, symbol, terms in (
        (
            Instrument.spot("binance", "BTC", "USDT"),
            "BTCUSDT",
            Terms(Grid("0.01"), Grid("0.00001"), 2e-6, 6e-6, 1_200, 32_000, 16, 0.004, 25, 0),
        ),
        (
            Instrument.spot("binance", "ETH", "USDT"),
            "ETHUSDT",
            Terms(Grid("0.01"), Grid("0.0001"), 4e-6, 1.5e-5, 3_500, 22_000, 12, 0.01, 25, 0),
        ),
        (
            Instrument.perpetual("binance-futures", "BTC", "USDT"),
            "BTCUSDT",
            Terms(Grid("0.1"), Grid("0.001"), 2e-6, 1e-5, 45, 40_000, 24, 0.004, 25, 80_000_000),
        ),
        (
            Instrument.perpetual("binance-futures", "ETH", "USDT"),
            "ETHUSDT",
            Terms(Grid("0.01"), Grid("0.001"), 4e-6, 1.5e-5, 700, 28_000, 20, 0.01, 25, 700_000_000),
        ),
        (
            Instrument.perpetual("binance-delivery", "BTC", "USD"),
            "BTCUSD_PERP",
            Terms(Grid("0.1"), Grid("1"), 5e-6, 2.5e-5, 12, 9_000, 8, 0.03, 12, 5_000_000),
        ),
        (
            Instrument.perpetual("deribit", "BTC", "USD"),
            "BTC-PERPETUAL",
            Terms(Grid("0.5"), Grid("10"), 1e-5, 2e-5, 150, 20_000, 20, 0.01, 25, 80_000_000),
        ),
    )
)
_FUTURE = Terms(Grid("2.5"), Grid("10"), 6e-5, 8e-5, 200, 3_000, 3, 0.1, 3, 15_000_000)
_OPTION = Terms(Grid("0.0005"), Grid("0.1"), 0.04, 0.02, 20, 350, 0, 0.2, 1, 6_000)


@lru_cache(maxsize=64)
def listed_on(day: date) -> tuple[Listed, ...]:
    """The instruments that can be traded for at least a part of a day, in order of their ids."""
    if not FIRST_DAY <= day <= LAST_DAY:
        return ()
    found = (each for each in (*_LASTING, *_futures(day), *_options(day)) if each.traded_on(day))
    return tuple(sorted(found, key=lambda each: each.instrument))


def listing_table(day: date) -> pa.Table:
    """The instrument master at 00:00 UTC of a day: rows of LISTING_SCHEMA, in order of instrument_id."""
    return pa.Table.from_pylist([_row(each) for each in listed_on(day) if each.known_on(day)], LISTING_SCHEMA)


def last_friday(year: int, month: int) -> date:
    """The last Friday of a month, on which its futures and options expire."""
    last = date(year, month, monthrange(year, month)[1])
    return last - timedelta(days=(last.weekday() - 4) % 7)


def underlying_index(option: Instrument) -> str:
    """Whose price an option's forward is: the future's of its expiry, or a synthetic one's, as Deribit names them.

    A quarter's future begins before the options of its expiry do.
    """
    if option.expiry is None:
        raise ValueError(f"{option} does not expire")
    listed = option.expiry.month % _QUARTERLY == 0
    return f"{'' if listed else 'SYN.'}{option.base}-{_dmy(option.expiry)}"


def _futures(day: date) -> Iterator[Listed]:
    """The quarterly futures: each begins two weeks before the one before it expires."""
    for number in _numbers(day, _QUARTERLY):
        expiry = _expiry(number, _QUARTERLY)
        instrument = Instrument.future("deribit", "BTC", "USD", expiry)
        begin = _expiry(number - 1, _QUARTERLY) - _FUTURE_OVERLAP
        yield _dated(instrument, f"BTC-{_dmy(expiry)}", _FUTURE, begin)


def _options(day: date) -> Iterator[Listed]:
    """Calls and puts of each month: some strikes begin two months before it expires, closer ones a month before.

    So two or three expiries are listed at a time, and the nearer one's strikes lie about the price of late.
    """
    for number in _numbers(day, 1):
        expiry = _expiry(number, 1)
        begins: dict[str, date] = {}
        for months, apart in _STRIKES:
            begin = _expiry(number - months, 1) - _OPTION_OVERLAP
            for strike in _strikes(level("BTC", begin), apart):
                begins.setdefault(strike, begin)
        for strike, begin in begins.items():
            for side in ("C", "P"):
                instrument = Instrument.option("deribit", "BTC", "USD", strike, expiry, side)
                yield _dated(instrument, f"BTC-{_dmy(expiry)}-{strike}-{side}", _OPTION, begin)


def _strikes(price: float, apart: float) -> Iterator[str]:
    """The strike that is nearest to a price, and one to either side."""
    step = 1_000 if price >= 20_000 else 250
    for side in (-1, 0, 1):
        yield str(round(price * (1 + side * apart) / step) * step)


def _dated(instrument: Instrument, symbol: str, terms: Terms, begin: date) -> Listed:
    start = max(datetime.combine(begin, EXPIRY_TIME), _OPENING)
    return Listed(instrument, symbol, terms, start, expiry_of(instrument))


def _numbers(day: date, months: int) -> range:
    """The next three expiries from a day's month on, where there is one at every so many months."""
    first = (day.year * 12 + day.month - 1) // months
    return range(first, first + 3)


def _expiry(number: int, months: int) -> date:
    year, month = divmod(number * months + months - 1, 12)
    return last_friday(year, month + 1)


def _dmy(day: date) -> str:
    # strftime would write the month in the language of the machine
    return f"{day.day}{_MONTHS[day.month - 1]}{day.year % 100:02}"


def _row(listed: Listed) -> dict[str, object]:
    instrument, contract = listed.instrument, contract_of(listed.instrument)
    return {
        "instrument_id": instrument.id,
        "venue": instrument.venue,
        "instrument_type": instrument.type.folder,
        "venue_symbol": listed.venue_symbol,
        "base_asset": instrument.base,
        "quote_asset": instrument.quote,
        "settle_asset": _settle_asset(instrument),
        "underlying": _underlying(instrument),
        "strike": None if instrument.strike is None else float(instrument.strike),
        "option_type": instrument.option_type,
        "expiry": listed.end,
        "tick_size": listed.terms.tick.step,
        "lot_size": listed.terms.lot.step,
        "contract_multiplier": contract.multiplier,
        "inverse": contract.inverse,
        "available_from": listed.start,
        "available_to": listed.end,
        "known_from": "listing",
    }


def _settle_asset(instrument: Instrument) -> str | None:
    if instrument.type is InstrumentType.SPOT:
        return None
    return instrument.base if instrument.quote == "USD" else instrument.quote


def _underlying(instrument: Instrument) -> str | None:
    """The spot pair, where the sample has it; else the name of the dollar index."""
    if instrument.type is InstrumentType.SPOT:
        return None
    if instrument.quote == "USDT":
        return Instrument.spot("binance", instrument.base, instrument.quote).id
    return f"{instrument.base}-{instrument.quote}"
