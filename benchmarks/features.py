"""A day of features beside the candles of that day: time and peak memory of each step.

The lake that they are made in has the day's ticks of spot pairs and perpetuals of the same coins, and of one perpetual
with an options chain; candles as far back as the longest look-back reaches; and features of the days that models are
trained on, of the timeframe of the signals alone.

python -m benchmarks.features --instruments 50 --trades 20000000
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.day import SyntheticSource
from benchmarks.steps import in_turn, measure
from market_data_pipeline.lake.derived import coarser_candles, first_candles
from market_data_pipeline.lake.fundamental import fundamental_rows
from market_data_pipeline.lake.signals import signal_rows
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.lake.technical import technical_rows
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.contracts import LINEAR
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Timeframe, candles
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.transforms.candles import Fill
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline.transforms.technical import LOOK_BACK

DAY = date(2024, 8, 8)
ALL = Selection()
FLAT = dict.fromkeys(InstrumentType, Fill.FLAT)
RECIPE = Recipe()
UNDERLYING = Instrument.perpetual("deribit", "BTC", "USD")
_COMMAND = ("benchmarks.features",)
_DAY = ONE_DAY // timedelta(microseconds=1)


def main() -> None:
    """Makes the lake, runs the steps in copies of it, and prints a line for each and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instruments", type=int, default=50, help="with trades; a third of them are spot pairs")
    parser.add_argument("--trades", type=int, default=20_000_000, help="of all instruments together")
    parser.add_argument("--books", type=int, default=100_000, help="snapshots of each book; 0 for no books")
    parser.add_argument("--options", type=int, default=300, help="in the chain, with 500 rows each")
    parser.add_argument("--history", type=int, default=LOOK_BACK, help="days of candles before the day at the most")
    parser.add_argument("--runs", type=int, default=3, help="of each step, in turn; the median is printed")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=sorted(_STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        measure(_STEPS[arguments.step], arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="features-") as name:
        home = Path(name)
        _make(LocalStore(home / "lake"), arguments)
        found = in_turn(_COMMAND, home, list(_STEPS), arguments.runs)
    for step in _FEATURES:
        print(f"{step} / candles: {found[step] / found['candles']:.2f}")
    both = found["technical"] + found["fundamental"]
    print(f"both features / candles: {both / found['candles']:.2f}")
    print(f"features and signals / candles: {(both + found['signals']) / found['candles']:.2f}")


def _make(store: LocalStore, arguments: argparse.Namespace) -> None:
    count = arguments.instruments
    spots = [Instrument.spot("binance", f"A{number:03}", "USDT") for number in range(count // 3)]
    swaps = [
        Instrument.perpetual("binance-futures", f"A{number:03}", "USDT") for number in range(count - len(spots) - 1)
    ]
    swaps.append(UNDERLYING)
    traded = [*spots, *swaps]
    options = [
        Instrument.option("deribit", "BTC", "USD", str(50_000 + 500 * (number // 12)), expiry, side)
        for number in range(arguments.options // 2)
        for expiry in (date(2024, 8, 16) + timedelta(days=7 * (number % 12)),)
        for side in "CP"
    ]
    source = SyntheticSource(traded, arguments.trades // count)
    _write(store, "trades", source.files("trades", DAY, ALL))
    _write(store, "derivative_ticker", (_rows(DAY, each, partial(_ticker, each)) for each in swaps))
    _write(store, "liquidations", (_rows(DAY, each, partial(_liquidations, each)) for each in swaps))
    _write(store, "options_chain", (_rows(DAY, each, partial(_quotes, each)) for each in options))
    if arguments.books:
        make = partial(_book, arguments.books)
        _write(store, "book_snapshot_5", (_rows(DAY, each, partial(make, each)) for each in traded))
    _write(store, "instruments", [_rows(DAY, None, partial(_master, [*traded, *options]))])
    for frame in TIMEFRAMES.values():
        days = [
            DAY - number * ONE_DAY
            for number in range(1, min(-(-LOOK_BACK * frame.length // ONE_DAY), arguments.history) + 1)
        ]
        rows = (_rows(day, each, partial(_candles, frame, day, each)) for day in days for each in traded)
        _write(store, candles(frame.name).name, rows, days)
    days = [DAY - number * ONE_DAY for number in range(1, min(RECIPE.training_days, arguments.history) + 1)]
    for name in ("technical_features", "fundamental_features"):
        rows = (_rows(day, each, partial(_features, DATASETS[name], day, each)) for day in days for each in traded)
        _write(store, name, rows, days)


def _write(store: LocalStore, name: str, rows: Iterable[DayRows], days: Sequence[date] = (DAY,)) -> None:
    report = write_days(store, DATASETS[name], days, ALL, rows)
    if report.failures:
        raise SystemExit(report.failures[0].message)


def _rows(day: date, instrument: Instrument | None, make: Callable[[], pa.Table]) -> DayRows:
    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        yield from make().to_batches()

    return DayRows(day, instrument, "synthetic", read)


def _table(dataset: Dataset, columns: Mapping[str, object]) -> pa.Table:
    """The columns as the dataset's rows; those that are not given are null."""
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    return pa.table(
        {
            field.name: pa.array(columns[field.name]) if field.name in columns else pa.nulls(count)
            for field in dataset.own_schema
        }
    ).cast(dataset.own_schema)


def _stamps(count: int) -> np.ndarray:
    return microseconds(midnight(DAY)) + np.arange(count) * (_DAY // count)


def _walk(instrument: Instrument, count: int, step: float = 1e-4) -> np.ndarray:
    draw = np.random.default_rng([sum(instrument.id.encode()), count])
    return 60_000.0 * np.exp(np.cumsum(draw.normal(0, step, count)))


def _ticker(instrument: Instrument) -> pa.Table:
    stamps, price = _stamps(86_400), _walk(instrument, 86_400)
    eight = 8 * 3_600_000_000
    return _table(
        DATASETS["derivative_ticker"],
        {
            "timestamp": stamps,
            "local_timestamp": stamps,
            "funding_timestamp": (stamps // eight + 1) * eight,
            "funding_rate": np.full(len(stamps), 1e-4),
            "open_interest": price * 3,
            "index_price": price,
            "mark_price": price * 1.0001,
        },
    )


def _liquidations(instrument: Instrument) -> pa.Table:
    stamps, price = _stamps(2_000), _walk(instrument, 2_000)
    sides = np.where(np.arange(2_000) % 3, "buy", "sell")
    amounts = np.full(2_000, 2.0)
    return _table(
        DATASETS["liquidations"],
        {"timestamp": stamps, "local_timestamp": stamps, "side": sides, "price": price, "amount": amounts},
    )


def _quotes(option: Instrument) -> pa.Table:
    stamps = _stamps(500)
    strike, call = float(option.strike or 0), option.option_type == "call"
    expiry = datetime.combine(option.expiry or DAY, datetime.min.time(), UTC) + timedelta(hours=8)
    delta = 0.5 + (60_000 - strike) / 40_000 if call else -0.5 + (60_000 - strike) / 40_000
    return _table(
        DATASETS["options_chain"],
        {
            "timestamp": stamps,
            "local_timestamp": stamps,
            "type": [option.option_type] * 500,
            "strike_price": np.full(500, strike),
            "expiration": np.full(500, microseconds(expiry)),
            "open_interest": np.full(500, 12.0),
            "mark_iv": 60 + np.sin(np.arange(500)),
            "underlying_price": np.full(500, 60_000.0),
            "delta": np.full(500, np.clip(delta, -0.99, 0.99)),
        },
    )


def _book(count: int, instrument: Instrument) -> pa.Table:
    stamps, price = _stamps(count), _walk(instrument, count, 1e-5)
    levels = {
        f"{side}_{what}_{level}": price * (1 + way * level * 1e-5)
        if what == "price"
        else 1.0 + np.arange(count) % (level + 5)
        for side, way in (("ask", 1), ("bid", -1))
        for what in ("price", "amount")
        for level in range(1, 6)
    }
    return _table(DATASETS["book_snapshot_5"], {"timestamp": stamps, "local_timestamp": stamps, **levels})


def _master(instruments: Sequence[Instrument]) -> pa.Table:
    listed = sorted(instruments, key=lambda each: each.id)
    return _table(
        DATASETS["instruments"],
        {
            "instrument_id": [each.id for each in listed],
            "venue": [each.venue for each in listed],
            "instrument_type": [str(each.type) for each in listed],
            "base_asset": [each.base for each in listed],
            "quote_asset": [each.quote for each in listed],
            "strike": [float(each.strike) if each.strike else None for each in listed],
            "option_type": [each.option_type for each in listed],
            "known_from": ["listing"] * len(listed),
        },
    )


def _candles(frame: Timeframe, day: date, instrument: Instrument) -> pa.Table:
    count = ONE_DAY // frame.length
    opens = microseconds(midnight(day)) + np.arange(count) * frame.microseconds
    close = _walk(instrument, count, 1e-3)
    return _table(
        candles(frame.name),
        {
            "timestamp": opens,
            "close_time": opens + frame.microseconds,
            "open": close,
            "high": close * 1.001,
            "low": close * 0.999,
            "close": close,
            "volume": np.full(count, 3.0),
            "quote_volume": close * 3,
            "trade_count": np.full(count, 7),
            "buy_volume": np.full(count, 1.0),
            "buy_quote_volume": close,
            "vwap": close,
            "base_volume": np.full(count, 3.0),
            "volume_unit": ["base"] * count,
        },
    )


def _features(dataset: Dataset, day: date, instrument: Instrument) -> pa.Table:
    count, length = ONE_DAY // RECIPE.timeframe.length, RECIPE.timeframe.microseconds
    opens = microseconds(midnight(day)) + np.arange(count) * length
    draw = np.random.default_rng([sum(instrument.id.encode()), day.toordinal()])
    reals = [field.name for field in dataset.own_schema if pa.types.is_floating(field.type)]
    told = {name: np.abs(draw.normal(0, 1e-3, count)) + 1e-5 for name in reals}
    frames = [RECIPE.timeframe.name] * count
    return _table(dataset, {"timeframe": frames, "timestamp": opens, "close_time": opens + length, **told})


def _candles_step(home: Path) -> str:
    """Starts a run: in a new copy of the lake, in which the next steps go on."""
    shutil.rmtree(home / "run", ignore_errors=True)
    subprocess.run(["cp", "-al", home / "lake", home / "run"], check=True)
    store, rows = LocalStore(home / "run"), 0
    for frame in TIMEFRAMES.values():
        made = (
            first_candles(store, [DAY], ALL, lambda _: LINEAR, FLAT)
            if frame.source is None
            else coarser_candles(store, frame, [DAY], ALL, FLAT)
        )
        rows += _landed(store, candles(frame.name), made)
    return f"{rows:,} rows"


def _landed(store: LocalStore, dataset: Dataset, rows: Iterable[DayRows]) -> int:
    report = write_days(store, dataset, [DAY], ALL, rows)
    if report.failures:
        raise SystemExit(report.failures[0].message)
    return sum(file.span.rows for file in report.files)


def _feature_step(name: str, make: Callable[..., Iterable[DayRows]], home: Path) -> str:
    store = LocalStore(home / "run")
    return f"{_landed(store, DATASETS[name], make(store, [DAY], ALL)):,} rows"


_FEATURES = {
    "technical": partial(_feature_step, "technical_features", technical_rows),
    "fundamental": partial(_feature_step, "fundamental_features", fundamental_rows),
    "signals": partial(_feature_step, "ml_signals", partial(signal_rows, recipe=RECIPE)),
}
_STEPS: Mapping[str, Callable[[Path], str]] = {"candles": _candles_step, **_FEATURES}


if __name__ == "__main__":
    main()
