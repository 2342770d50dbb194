"""Large vendors' files for measurements, made once: a grouped options chain, and books of 25 levels."""

import gzip
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from market_data_pipeline.model.windows import microseconds, midnight

DAY = date(2024, 8, 8)
OPTIONS_NAME = f"deribit_options_chain_{DAY}_OPTIONS.csv.gz"
TRADES_NAME = f"deribit_trades_{DAY}_OPTIONS.csv.gz"
BOOK_NAME = f"binance-futures_book_snapshot_25_{DAY}_{{symbol}}.csv.gz"
_CHUNK = 250_000
_SPOT = {"BTC": 60_000.0, "ETH": 2_600.0}


def write_options(path: Path, rows: int, instruments: int) -> None:
    """A day of Deribit's options chain as Tardis writes it: in order of `local_timestamp`, some options far busier."""
    draw = np.random.default_rng(8)
    listed = _listed_options(instruments)
    # a few options near the money have most of the changes
    busy = 1 / (1 + np.arange(instruments)) ** 0.6
    busy = draw.permutation(busy / busy.sum())
    write_packed(path, _option_rows(draw, listed, busy, rows))


def write_option_trades(path: Path, rows: int, instruments: int, traded: int) -> None:
    """A day's trades of so many of these options, each at least once, as Tardis' grouped file has them."""
    draw = np.random.default_rng(10)
    listed = _listed_options(instruments).slice(0, traded)
    chosen = draw.integers(0, traded, rows)
    chosen[: min(traded, rows)] = np.arange(min(traded, rows))
    stamps, local = _times(draw, 0, rows, rows)
    table = pa.table(
        {
            "exchange": pa.repeat("deribit", rows),
            "symbol": listed["symbol"].take(pa.array(chosen)),
            "timestamp": stamps,
            "local_timestamp": local,
            "id": pa.array(np.arange(rows) + 300_000_000),
            "side": pa.array(["buy", "sell"]).take(pa.array(draw.integers(0, 2, rows))),
            "price": np.round(0.02 + 0.01 * draw.random(rows), 4),
            "amount": draw.integers(1, 200, rows) / 10,
        }
    )
    write_packed(path, iter([table]))


def write_book(path: Path, symbol: str, rows: int) -> None:
    """A day of one perpetual's book_snapshot_25; every 1000th stretch of rows comes half a second late."""
    write_packed(path, _book_rows(np.random.default_rng(9), symbol, rows))


def write_packed(path: Path, tables: Iterator[pa.Table]) -> None:
    """Writes tables as the vendor packs them: gzip, one header, nothing quoted."""
    part = path.with_suffix(".part")
    with gzip.open(part, "wb", compresslevel=5) as packed:
        for number, table in enumerate(tables):
            if number == 0:
                packed.write((",".join(table.column_names) + "\n").encode())
            csv.write_csv(table, packed, csv.WriteOptions(include_header=False, quoting_style="none"))
    part.replace(path)


def _listed_options(instruments: int) -> pa.Table:
    rows = []
    for number in range(instruments):
        base, side = ("BTC", "ETH")[number % 2], "CP"[number // 2 % 2]
        expiry = DAY + timedelta(days=1 + 7 * (number // 4 % 12))
        step = 500 if base == "BTC" else 25
        strike = int(_SPOT[base] * 0.4) // step * step + step * (number // 48)
        dated = f"{base}-{expiry.day}{expiry.strftime('%b%y').upper()}"
        rows.append(
            {
                "symbol": f"{dated}-{strike}-{side}",
                "type": {"C": "call", "P": "put"}[side],
                "strike_price": strike,
                "expiration": microseconds(midnight(expiry)) + 8 * 3_600_000_000,
                "underlying_index": f"SYN.{dated}",
                "spot": _SPOT[base],
                "days": (expiry - DAY).days + 1 / 3,
            }
        )
    return pa.Table.from_pylist(rows)


def _times(draw: np.random.Generator, start: int, count: int, rows: int) -> tuple[pa.Array, pa.Array]:
    """Exchange and local times: the local ones rise, the exchange's run back by some milliseconds here and there."""
    step = 86_400_000_000 / rows
    local = microseconds(midnight(DAY)) + ((start + np.sort(draw.random(count)) * count) * step).astype(np.int64)
    delay = (3_000 + np.exp(draw.normal(9, 1, count))).astype(np.int64)
    return pa.array((local - delay) // 1000 * 1000), pa.array(local)


def _option_rows(
    draw: np.random.Generator, listed: pa.Table, busy: npt.NDArray[np.float64], rows: int
) -> Iterator[pa.Table]:
    spot, strike, days = (np.asarray(listed.column(name), float) for name in ("spot", "strike_price", "days"))
    for start in range(0, rows, _CHUNK):
        count = min(_CHUNK, rows - start)
        chosen = draw.choice(len(busy), count, p=busy)
        if start == 0:
            chosen[: len(busy)] = np.arange(len(busy))[:count]
        of = listed.take(pa.array(chosen))
        stamps, local = _times(draw, start, count, rows)
        under = np.round(spot[chosen] * (1 + 0.01 * np.sin(start / rows * 6) + draw.normal(0, 1e-4, count)), 2)
        moneyness = np.clip(np.log(under / strike[chosen]) / np.sqrt(days[chosen] / 365), -3, 3)
        delta = 1 / (1 + np.exp(-2 * moneyness))
        mark = np.maximum(0.08 * np.sqrt(days[chosen] / 365) * np.exp(-(moneyness**2)) + 0.5 * (delta > 0.5), 1e-4)
        iv = 55 + 8 * moneyness**2
        quiet = busy[chosen] < np.median(busy)
        bid = np.round(mark * 0.98 * 2000) / 2000
        ask = np.round(mark * 1.02 * 2000 + 1) / 2000
        amounts = np.array([0.1, 0.5, 1.0, 5.0, 10.0, 12.3, 25.0, 47.8])
        yield pa.table(
            {
                "exchange": pa.repeat("deribit", count),
                "symbol": of["symbol"],
                "timestamp": stamps,
                "local_timestamp": local,
                "type": of["type"],
                "strike_price": of["strike_price"],
                "expiration": of["expiration"],
                "open_interest": np.round(1e4 * busy[chosen] * 200, 1),
                "last_price": pa.array(np.round(mark * 2000) / 2000, mask=quiet),
                "bid_price": pa.array(bid, mask=bid <= 0),
                "bid_amount": draw.choice(amounts, count),
                "bid_iv": np.round(iv - 1.5, 2),
                "ask_price": ask,
                "ask_amount": draw.choice(amounts, count),
                "ask_iv": np.round(iv + 1.5, 2),
                "mark_price": np.round(mark, 4),
                "mark_iv": np.round(iv, 2),
                "underlying_index": of["underlying_index"],
                "underlying_price": under,
                "delta": np.round(delta, 5),
                "gamma": np.round(delta * (1 - delta) * 1e-4, 5),
                "vega": np.round(under * np.sqrt(days[chosen]) * delta * (1 - delta) / 100, 5),
                "theta": np.round(-under * 1e-3 * delta * (1 - delta), 5),
                "rho": np.round(strike[chosen] * days[chosen] * delta / 1e5, 5),
            }
        )


def _book_rows(draw: np.random.Generator, symbol: str, rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows, _CHUNK // 5):
        count = min(_CHUNK // 5, rows - start)
        stamps, local = _times(draw, start, count, rows)
        late = (start + np.arange(count)) // 40 % 1000 == 0
        stamps = pa.array(np.asarray(stamps) - 500_000 * late)
        middle = np.round(60_000 + 300 * np.sin((start + np.arange(count)) / rows * 6), 1)
        columns: dict[str, object] = {
            "exchange": pa.repeat("binance-futures", count),
            "symbol": pa.repeat(symbol, count),
            "timestamp": stamps,
            "local_timestamp": local,
        }
        for level in range(25):
            for side, sign in (("asks", 1), ("bids", -1)):
                columns[f"{side}[{level}].price"] = np.round(middle + sign * 0.1 * (level + 1), 1)
                columns[f"{side}[{level}].amount"] = _amounts(draw, count)
        yield pa.table(columns)


def _amounts(draw: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Amounts of one level, of which each row changes a tenth."""
    amounts: npt.NDArray[np.float64] = np.round(draw.integers(1, 4000, count) / 1000, 3)
    return amounts[np.maximum.accumulate(np.where(draw.random(count) < 0.1, np.arange(count), 0))]
