"""The data that all contenders share, made once: a busy instrument's day of trades, and the lakes that hold it.

The trades are drawn like a real day of a busy perpetual: bursts within one millisecond, ids that count up, prices that
walk by ticks, amounts of which a few are frequent. Packed, a row has as many bytes as in a real file (9.8; there 9.6).
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.beside.cases import Ground

DAY = date(2024, 8, 8)
MONTH = date(2024, 8, 1)
VENUE, SYMBOL = "binance-futures", "BTCUSDT"
ID = f"{VENUE}:Perp:BTC-USDT"
CSV = f"{VENUE}_trades_{DAY}_{SYMBOL}.csv.gz"
WINDOW_COLUMNS = ["timestamp", "price", "amount"]
FOUR_COLUMNS = ["timestamp", "side", "price", "amount"]
OWN_COLUMNS = ["timestamp", "local_timestamp", "id", "side", "price", "amount"]
HOUR = datetime.combine(DAY, time(12)), datetime.combine(DAY, time(13))
MINUTES = [datetime.combine(DAY, time()) + timedelta(minutes=28 * number) for number in range(50)]


def trades(day: date, rows: int, seed: int = 0) -> Any:
    """One instrument's day, in order of time, in the columns of the lake's `trades`."""
    import numpy as np
    import pyarrow as pa

    from market_data_pipeline.model.datasets import DATASETS, TIME
    from market_data_pipeline.model.windows import microseconds, midnight

    draw = np.random.default_rng([seed, day.toordinal()])
    bursts = np.minimum(draw.zipf(1.9, rows), 350)
    bursts = bursts[: int(np.searchsorted(np.cumsum(bursts), rows)) + 1]
    burst = np.repeat(np.arange(len(bursts)), bursts)[:rows]
    count = int(burst[-1]) + 1
    millis = np.sort(draw.integers(0, 86_400_000, count))
    delay = 2_000 + np.exp(draw.normal(7.5, 0.7, count)).astype(np.int64)
    pauses = np.where(draw.random(rows) < 0.1, draw.integers(2, 60, rows), draw.random(rows) < 0.7)
    since = np.cumsum(pauses)
    firsts = np.concatenate([[0], np.cumsum(bursts)[:-1]])[:count]
    local = np.maximum.accumulate((millis * 1000 + delay)[burst] + since - since[firsts][burst])
    up = draw.random(count) < 0.5
    steps = draw.geometric(0.45, rows) * np.where(draw.random(rows) < 0.8, 1, -1) * np.where(up[burst], 1, -1)
    ticks = 618_000 + np.cumsum(np.where(draw.random(rows) < 0.3, steps, 0))
    amounts = np.maximum(np.round(np.exp(draw.normal(-4, 1.9, rows)), 3), 0.001)
    amounts[draw.random(rows) < 0.2] = 0.002
    start = microseconds(midnight(day))
    side = pa.DictionaryArray.from_arrays(pa.array(np.where(up, 0, 1)[burst].astype(np.int32)), ["buy", "sell"])
    columns = [
        pa.array(millis[burst] * 1000 + start).view(TIME),
        pa.array(local + start).view(TIME),
        pa.array(np.arange(rows) + 5_266_583_935 + 3_000_000 * (day - DAY).days).cast(pa.string()),
        side,
        pa.array(ticks / 10),
        pa.array(amounts),
    ]
    return pa.Table.from_arrays(columns, schema=DATASETS["trades"].own_schema)


def shared(ground: Ground) -> Path:
    """The day as an Arrow file: what everyone who writes begins with."""
    return ground.home / "trades.arrow"


def table(ground: Ground) -> Any:
    """The day, in memory."""
    import pyarrow as pa

    with pa.OSFile(str(shared(ground))) as file:
        return pa.ipc.open_file(file).read_all()


def frame(ground: Ground, *, index: bool = False) -> Any:
    """The day as pandas has it: times without a zone, text as text; by time where `index`."""
    import pyarrow as pa

    rows = table(ground)
    for name in ("timestamp", "local_timestamp"):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, rows.column(name).cast(pa.timestamp("ns")))
    place = rows.schema.get_field_index("side")
    made = rows.set_column(place, "side", rows.column("side").cast(pa.string())).to_pandas()
    return made.set_index("timestamp") if index else made


def write(lake: Path, dataset: str, days: list[date], rows: Iterator[Any]) -> Any:
    """Through the lake's own writer; ends the program where anything fails."""
    from market_data_pipeline.lake.stores.local import LocalStore
    from market_data_pipeline.lake.writer import write_days
    from market_data_pipeline.model.datasets import DATASETS
    from market_data_pipeline.model.instruments import Selection

    report = write_days(LocalStore(lake), DATASETS[dataset], days, Selection(), rows)
    if report.failures:
        raise SystemExit(report.failures[0].message)
    return report


def day_rows(day: date, instrument: Any, make: Callable[[], Any]) -> Any:
    """A table as a source gives it, made when it is read."""
    from market_data_pipeline.model.rows import DayRows

    return DayRows(day, instrument, "synthetic", lambda _: iter(make().to_batches()))


def instrument() -> Any:
    """Whose day it is."""
    from market_data_pipeline.model.instruments import Instrument

    return Instrument.parse(ID)


def _arrow(ground: Ground) -> None:
    import pyarrow as pa

    rows = trades(DAY, ground.size.trades)
    with pa.OSFile(str(shared(ground)), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def lake(ground: Ground) -> Path:
    """A lake with that day and those beside it, its candles, and a map."""
    return ground.home / "lake"


def _lake(ground: Ground) -> None:
    for day in (DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)):
        rows = partial(table, ground) if day == DAY else partial(trades, day, ground.size.trades)
        write(lake(ground), "trades", [day], iter([day_rows(day, instrument(), rows)]))
    write(lake(ground), "available_instruments", [DAY], iter([day_rows(DAY, None, partial(_map, ground))]))


def _map(ground: Ground) -> Any:
    import pyarrow as pa

    from market_data_pipeline.model.datasets import LISTING_SCHEMA
    from market_data_pipeline.model.instruments import Instrument
    from market_data_pipeline.model.windows import midnight
    from market_data_pipeline.transforms import availability as maps

    listed = [Instrument.spot(VENUE, f"A{number:03}", "USDT") for number in range(ground.size.listed)]
    rows = [
        {
            "instrument_id": each.id,
            "venue": each.venue,
            "instrument_type": each.type.folder,
            "venue_symbol": each.symbol.replace("-", ""),
            "base_asset": each.base,
            "quote_asset": each.quote,
            "settle_asset": each.quote,
            "tick_size": 0.01,
            "lot_size": 0.001,
            "contract_multiplier": 1.0,
            "inverse": False,
            "available_from": midnight(MONTH - timedelta(days=number)),
            "known_from": "listing",
        }
        for number, each in enumerate(listed)
    ]
    full = [{field.name: row.get(field.name) for field in LISTING_SCHEMA} for row in rows]
    observed = maps.Observed("trades", 1000, midnight(DAY), midnight(DAY) + timedelta(hours=23), 0, True)
    return maps.availability(pa.Table.from_pylist(full, LISTING_SCHEMA), {each.id: [observed] for each in listed})


def vendor_folder(ground: Ground) -> Path:
    """A folder with the vendor's file of the day, and nothing else."""
    return ground.home / "vendor"


def vendor_columns(rows: Any) -> Any:
    """Trades as the vendor's CSV has them: microseconds, and whose they are in each row."""
    import pyarrow as pa

    texts = {"exchange": pa.repeat(VENUE, rows.num_rows), "symbol": pa.repeat(SYMBOL, rows.num_rows)}
    own = {
        field.name: column.cast(pa.int64())
        if pa.types.is_timestamp(field.type)
        else column.cast(field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field, column in zip(rows.schema, rows.columns, strict=True)
    }
    return pa.table(texts | own)


def _vendor(ground: Ground) -> None:
    from benchmarks.vendor_days import write_packed

    vendor_folder(ground).mkdir()
    write_packed(vendor_folder(ground) / CSV, iter([vendor_columns(table(ground))]))


def candle_lake(ground: Ground) -> Path:
    """A lake with a month of 1m candles of many instruments."""
    return ground.home / "candles"


def days(ground: Ground) -> list[date]:
    """The days of that month."""
    return [MONTH + timedelta(days=number) for number in range(ground.size.days)]


def candle_rows(ground: Ground, of: list[date]) -> Iterator[Any]:
    """Their candles, from a walk."""
    from benchmarks.verify import minutes
    from market_data_pipeline.model.instruments import Instrument

    for number in range(ground.size.instruments):
        one = Instrument.spot("binance", f"A{number:03}", "USDT")
        for day in of:
            yield day_rows(day, one, partial(minutes, number, day))


def _candles(ground: Ground) -> None:
    write(candle_lake(ground), "ohlcv_1m", days(ground), candle_rows(ground, days(ground)))


def _candle_month(ground: Ground) -> None:
    import pyarrow as pa

    from benchmarks.verify import minutes

    rows = pa.concat_tables(minutes(0, day) for day in days(ground)).unify_dictionaries().combine_chunks()
    with pa.OSFile(str(ground.home / "candle-month.arrow"), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def candle_month(ground: Ground) -> Any:
    """One instrument's month of candles, in memory, day by day."""
    import pyarrow as pa

    with pa.OSFile(str(ground.home / "candle-month.arrow")) as file:
        return pa.ipc.open_file(file).read_all()


def candle_frame(ground: Ground) -> Any:
    """A day's candles as one who has no lake keeps them: no partition columns, times without a zone."""
    made = candle_month(ground).slice(0, 1440).to_pandas()
    for name in ("timestamp", "close_time"):
        made[name] = made[name].dt.tz_localize(None).astype("datetime64[ns]")
    made["volume_unit"] = made["volume_unit"].astype(object)
    return made


MADE: dict[str, tuple[str, Callable[[Ground], None]]] = {
    "day": ("trades.arrow", _arrow),
    "vendor": ("vendor", _vendor),
    "lake": ("lake", _lake),
    "candles": ("candles", _candles),
    "candle-month": ("candle-month.arrow", _candle_month),
}
"""What can be needed: where it lies, and how it is made; later ones may be made of earlier ones."""


def make(ground: Ground, names: set[str]) -> None:
    """Makes what is needed and not there; what was left half made is made anew."""
    for name, (place, maker) in MADE.items():
        done = ground.home / f".{name}"
        if name in names and not done.exists():
            path = ground.home / place
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            maker(ground)
            done.touch()
