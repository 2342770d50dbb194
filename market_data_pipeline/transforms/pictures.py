"""What a day's rows look like: for each kind of rows a picture of one instrument, and a line that says what it shows.

A day is drawn hour by hour; candles that last longer are drawn one by one, over the days before as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import Dataset, Kind, Timeframe
from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.transforms.as_of import MICROSECOND, Integers, Reals
from market_data_pipeline.transforms.drawing import (
    BLUE,
    DOWN,
    QUIET,
    UP,
    Strip,
    address,
    candlesticks,
    cells,
    columns,
    line,
    svg,
)

AT_ONCE = 1_000
"""How many letters the UI shows where they stand; longer text opens in a window."""
MARKS = 24
"""How many marks are drawn beside each other: the hours of a day, or so many longer candles."""
DAYS = 31
"""How many days a map of days has, the last of which is the day itself."""
_HOUR = timedelta(hours=1)
_UPPER, _LOWER, _ALL = Strip(2, 66), Strip(74, 24), Strip(2, 95)
_BINS = 24
_HARDLY = 1e-9
_INSTRUMENTS = 24
_HISTOGRAMS = {
    "technical_features": ("log_return", "rsi_14", "buy_share", "book_spread_bps"),
    "fundamental_features": ("mark_premium", "spot_basis", "basis", "open_interest_change", "atm_iv_30d"),
}
_MOST_HISTOGRAMS = 3
_SIDES = {"ask": DOWN, "bid": UP}
_BOOK = tuple(f"{side}_{what}_{level}" for level in range(1, 6) for side in _SIDES for what in ("price", "amount"))


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows, in words."""

    words: str
    drawn: str

    @property
    def markdown(self) -> str:
        """Both, for a page."""
        return f"{self.words}\n\n![](<{address(self.drawn)}>)"


@dataclass(frozen=True)
class Frame:
    """Some times that are drawn beside each other.

    Attributes:
        edges: where each begins, and the end of the last; microseconds since 1970.
        rows: at which row each begins, and the end of the last.
    """

    edges: Integers
    rows: Integers

    @classmethod
    def of(cls, stamps: Integers, end: date, length: timedelta, marks: int = MARKS) -> "Frame":
        """So many times of a length, up to the midnight at which a day ends; `stamps` rise."""
        last = microseconds(midnight(end) + DAY)
        edges = last + np.arange(-marks, 1) * (length // MICROSECOND)
        return cls(edges, np.searchsorted(stamps, edges))

    def each(self, values: Reals, how: Callable[[Reals], float]) -> Reals:
        """One number of the values of each time that are no NaN; NaN where there are none."""
        found = np.full(len(self.rows) - 1, np.nan)
        for at, (start, stop) in enumerate(zip(self.rows[:-1], self.rows[1:], strict=True)):
            known = values[start:stop]
            known = known[~np.isnan(known)]
            if len(known):
                found[at] = how(known)
        return found


def needed(dataset: Dataset) -> tuple[str, ...]:
    """The columns that a picture of a dataset is drawn from; none where it has no picture."""
    match dataset.kind:
        case Kind.CANDLES:
            return ("timestamp", "open", "high", "low", "close", "volume")
        case Kind.FEATURES if dataset.name in _HISTOGRAMS:
            return ("timeframe", "timestamp", *_HISTOGRAMS[dataset.name])
        case Kind.FEATURES if dataset.name == "ml_signals":
            return ("timestamp", "probability", "position")
        case Kind.TICKS if dataset.name in _TICKS:
            return ("timestamp", *_TICKS[dataset.name][0])
        case _:
            return ()


def reach(dataset: Dataset) -> timedelta:
    """How far before the end of its day a picture of a dataset begins."""
    return MARKS * _length(dataset.timeframe) if dataset.timeframe else DAY


def picture(dataset: Dataset, day: date, whose: str, rows: pa.Table) -> Picture | None:
    """A picture of an instrument's rows, rising in time, with the columns that are `needed`; None without any."""
    if not rows.num_rows:
        return None
    match dataset.kind:
        case Kind.CANDLES:
            return _candles(dataset, day, whose, rows)
        case Kind.FEATURES if dataset.name in _HISTOGRAMS:
            return _histograms(whose, rows, _HISTOGRAMS[dataset.name])
        case Kind.FEATURES:
            return _signals(day, whose, rows)
        case _:
            return _TICKS[dataset.name][1](day, whose, rows)


def heat_map(listed: Sequence[tuple[date, str, int | None]], day: date) -> Picture | None:
    """Instruments under each other, days beside each other: which could be traded, and of which there are ticks.

    Args:
        listed: date, instrument, and how many rows of ticks there are, or None where only the listing is known.
        day: the last day.
    """
    first = day - (DAYS - 1) * DAY
    ticks: dict[str, list[int]] = {}
    there: dict[str, list[bool]] = {}
    for at, name, rows in listed:
        number = (at - first).days
        if 0 <= number < DAYS:
            there.setdefault(name, [False] * DAYS)[number] = True
            ticks.setdefault(name, [0] * DAYS)[number] = rows or 0
    if not there:
        return None
    busiest = sorted(ticks, key=lambda name: (-sum(ticks[name]), name))
    # the more there is to see, the fewer instruments go into a picture that is shown at once
    for count in range(min(_INSTRUMENTS, len(busiest)), 0, -1):
        shown = sorted(busiest[:count])
        seen = [[bool(rows) for rows in ticks[name]] for name in shown]
        unseen = [[at and not rows for at, rows in zip(there[name], ticks[name], strict=True)] for name in shown]
        of = f"{count} of {len(there)}" if count < len(there) else f"{count}"
        words = f"{of} instruments, {DAYS} days: grey is listed, green has ticks"
        found = _drawn(words, [cells(_ALL, unseen, QUIET), cells(_ALL, seen, UP)])
        if found and len(found.markdown) < AT_ONCE:
            break
    return found


def _candles(dataset: Dataset, day: date, whose: str, rows: pa.Table) -> Picture | None:
    frame = Frame.of(_stamps(rows), day, _length(dataset.timeframe))
    return _priced(whose, frame, {name: _reals(rows, name) for name in ("open", "high", "low", "close", "volume")})


def _trades(day: date, whose: str, rows: pa.Table) -> Picture | None:
    price = _reals(rows, "price")
    of_each = {**dict.fromkeys(("open", "high", "low", "close"), price), "volume": _reals(rows, "amount")}
    return _priced(whose, Frame.of(_stamps(rows), day, _HOUR), of_each)


def _priced(whose: str, frame: Frame, of_each: dict[str, Reals]) -> Picture | None:
    hows: dict[str, Callable[[Reals], float]] = {
        "open": lambda known: known[0],
        "high": np.max,
        "low": np.min,
        "close": lambda known: known[-1],
        "volume": np.sum,
    }
    bars = {name: frame.each(of_each[name], how) for name, how in hows.items()}
    paths = candlesticks(_UPPER, bars["open"], bars["high"], bars["low"], bars["close"])
    words = f"{whose} {_between(bars['low'], bars['high'])}, volume up to {_number(bars['volume'], np.nanmax)}"
    return _drawn(words, [*paths, columns(_LOWER, bars["volume"], BLUE)])


def _book(day: date, whose: str, rows: pa.Table) -> Picture | None:
    frame = Frame.of(_stamps(rows), day, _HOUR)
    ask, bid = _reals(rows, "ask_price_1"), _reals(rows, "bid_price_1")
    spread = frame.each((ask - bid) / ((ask + bid) / 2) * 10_000, np.mean)
    depths = {
        side: frame.each(np.nansum([_reals(rows, f"{side}_amount_{level}") for level in range(1, 6)], axis=0), np.mean)
        for side in _SIDES
    }
    most = max(float(np.nanmax(depth, initial=0)) for depth in depths.values())
    paths = [
        line(Strip(2, 36), spread, BLUE),
        columns(Strip(44, 27), depths["bid"], UP, most=most),
        columns(Strip(72, 26), depths["ask"], DOWN, most=most, down=True),
    ]
    words = f"{whose} spread {_between(spread, spread)} basis points; depth of bids (up) and asks up to {most:.6g}"
    return _drawn(words, paths)


def _liquidations(day: date, whose: str, rows: pa.Table) -> Picture | None:
    frame = Frame.of(_stamps(rows), day, _HOUR)
    side, amount = np.asarray(rows.column("side").cast(pa.string())), _reals(rows, "amount")
    shorts, longs = (frame.each(np.where(side == name, amount, np.nan), np.sum) for name in ("buy", "sell"))
    most = max(float(np.nanmax(each, initial=0)) for each in (shorts, longs))
    halves = Strip(2, 47), Strip(50, 47)
    paths = [columns(halves[0], shorts, UP, most=most), columns(halves[1], longs, DOWN, most=most, down=True)]
    return _drawn(f"{whose} shorts (up) and longs that were liquidated, up to {most:.6g} an hour", paths)


def _lines(*named: tuple[str, str]) -> Callable[[date, str, pa.Table], Picture | None]:
    """A line for each of two columns: the last value of each hour."""

    def drawn(day: date, whose: str, rows: pa.Table) -> Picture | None:
        frame = Frame.of(_stamps(rows), day, _HOUR)
        words, paths = [], []
        for strip, colour, (name, what) in zip((Strip(2, 45), Strip(52, 45)), (UP, BLUE), named, strict=True):
            last = frame.each(_reals(rows, name), lambda known: known[-1])
            words.append(f"{what} {_between(last, last)}")
            paths.append(line(strip, last, colour))
        return _drawn(f"{whose} {'; '.join(words)}", paths)

    return drawn


def _signals(day: date, whose: str, rows: pa.Table) -> Picture | None:
    frame = Frame.of(_stamps(rows), day, _HOUR)
    over = frame.each(_reals(rows, "probability"), np.mean) - 0.5
    position = frame.each(_reals(rows, "position"), np.mean)
    halves = Strip(2, 34), Strip(36, 34)
    most = float(np.nanmax(np.abs(over), initial=0))
    paths = [
        columns(halves[0], np.maximum(over, 0), UP, most=most),
        columns(halves[1], np.maximum(-over, 0), DOWN, most=most, down=True),
        line(Strip(74, 22), position, BLUE),
    ]
    words = f"{whose} probability of going up, at most {most:.4g} from one half; below it the mean position"
    return _drawn(words, paths)


def _histograms(whose: str, rows: pa.Table, names: Sequence[str]) -> Picture | None:
    """How the values of some features are spread, but for one in fifty: those that have any, one below the other."""
    spread: dict[str, Reals] = {}
    for name in names:
        known = _reals(rows, name)
        known = known[~np.isnan(known)]
        # of values that hardly differ there is no spread to be seen
        if len(known) and np.ptp(known) > _HARDLY * np.abs(known).max():
            spread[name] = known
    shown = list(spread)[:_MOST_HISTOGRAMS]
    if not shown:
        return None
    words, paths = [], []
    high = 96 // len(shown)
    for number, (name, colour) in enumerate(zip(shown, (UP, BLUE, QUIET), strict=False)):
        low, top = np.quantile(spread[name], (0.01, 0.99))
        if top - low <= _HARDLY * np.abs(spread[name]).max():
            low, top = spread[name].min(), spread[name].max()
        counts, _ = np.histogram(spread[name], _BINS, (low, top))
        paths.append(columns(Strip(2 + number * high, high - 3), counts.astype(float), colour))
        words.append(f"{name} {low:.4g} to {top:.4g}")
    return _drawn(f"{whose} {'; '.join(words)}", paths)


_TICKS: dict[str, tuple[tuple[str, ...], Callable[[date, str, pa.Table], Picture | None]]] = {
    "trades": (("price", "amount"), _trades),
    "book_snapshot_5": (_BOOK, _book),
    "book_snapshot_25": (_BOOK, _book),
    "liquidations": (("side", "amount"), _liquidations),
    "derivative_ticker": (
        ("mark_price", "open_interest"),
        _lines(("mark_price", "mark price"), ("open_interest", "below it open interest")),
    ),
    "options_chain": (
        ("mark_iv", "underlying_price"),
        _lines(("mark_iv", "implied volatility"), ("underlying_price", "below it the underlying")),
    ),
}


def _drawn(words: str, paths: Sequence[str]) -> Picture | None:
    return Picture(words, svg(paths)) if any(paths) else None


def _length(timeframe: Timeframe | None) -> timedelta:
    return max(timeframe.length, _HOUR) if timeframe else _HOUR


def _stamps(rows: pa.Table) -> Integers:
    return np.asarray(rows.column("timestamp").combine_chunks().view(pa.int64()))


def _reals(rows: pa.Table, name: str) -> Reals:
    values = np.asarray(rows.column(name).cast(pa.float64()).to_numpy())
    return np.where(np.isfinite(values), values, np.nan)


def _between(lows: Reals, highs: Reals) -> str:
    return f"{_number(lows, np.nanmin)} to {_number(highs, np.nanmax)}"


def _number(values: Reals, how: Callable[[Reals], float]) -> str:
    return "unknown" if np.isnan(values).all() else f"{how(values):,.6g}"
