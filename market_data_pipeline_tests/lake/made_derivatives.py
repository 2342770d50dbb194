"""A small lake of derivatives: a perpetual with its spot pair, a dated future, and options; all ticks made up.

Ticks lie on the edges of minutes and a microsecond beside them, and some in the file of a neighbouring day.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

from market_data_pipeline.lake.master import INSTRUMENTS
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, LISTING_SCHEMA
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.transforms.candles import Fill
from market_data_pipeline_tests.lake.made_up import ingest, trades, write
from market_data_pipeline_tests.transforms.feature_tables import before, ticks

SPOT, PERP, OTHER, DATED, INVERSE = map(
    Instrument.parse,
    (
        "binance:SPOT_PAIR:BTC-USDT",
        "binance-futures:Perp:BTC-USDT",
        "binance-futures:Perp:ETH-USDT",
        "deribit:Future:BTC-USD-240927",
        "deribit:Perp:BTC-USD",
    ),
)
EXPIRY = datetime.fromisoformat("2024-09-27T08:00:00Z")
OPTIONS = tuple(
    Instrument.parse(f"deribit:Option:BTC-USD-{strike}-{day}-{side}")
    for day in ("240315", "240426")
    for strike in (90, 110)
    for side in "CP"
)
CANDLES = ("ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_1h")
TICKS = ("trades", "derivative_ticker", "liquidations", "options_chain")
FLAT = dict.fromkeys(InstrumentType, Fill.FLAT)
Files = Mapping[tuple[date, Instrument], pa.Table]


@dataclass(frozen=True)
class World:
    """All tick files of a lake, by dataset."""

    files: Mapping[str, Files]

    def changed(self, change: Callable[[pa.Table], pa.Table], names: Iterable[str] = TICKS) -> "World":
        """The same with changed files; those without rows are no files."""
        made = {
            name: {place: change(table) for place, table in files.items()} if name in names else files
            for name, files in self.files.items()
        }
        return World({name: {p: t for p, t in files.items() if t.num_rows} for name, files in made.items()})

    def until(self, moment: datetime) -> "World":
        """What there is of it by exchange time before a moment."""
        return self.changed(lambda table: before(table, moment))

    def fill(
        self,
        store: ObjectStore,
        days: Sequence[date],
        listed: Iterable[Instrument] = (SPOT,),
        candles: Sequence[date] | None = None,
    ) -> None:
        """Writes the ticks and masters of some days, and the candles of these days or of fewer."""
        for name in TICKS[1:]:
            write(store, DATASETS[name], dict(self.files[name]), days=days)
        for day in days:
            master = pa.Table.from_pylist(
                [{"instrument_id": each.id, "expiry": EXPIRY if each == DATED else None} for each in listed],
                LISTING_SCHEMA,
            )
            write(store, INSTRUMENTS, {(day, None): master})
        of_trades = dict(self.files["trades"])
        ingest(store, of_trades, days, only=("trades",))
        ingest(store, of_trades, days if candles is None else candles, fills=FLAT, only=CANDLES)


def world(days: Sequence[date], seed: int = 0, count: int = 60) -> World:
    """So many ticks a day of everything."""
    chance = random.Random(seed)

    def moments(day: date) -> list[datetime]:
        # the file of a day begins with its first instant; some of its rows belong to the days beside it
        found = [midnight(day)]
        for _ in range(count):
            minute, beside = chance.randrange(1_440), chance.choice((-1, 0, 1, 20_000_000))
            found.append(midnight(day) + timedelta(minutes=minute, microseconds=beside))
        edges = (-1_500_000, -1, 86_400_000_000, 86_401_000_000)
        return [*found, *(midnight(day) + timedelta(microseconds=edge) for edge in edges)]

    def real(low: float = 90.0, high: float = 110.0) -> float:
        return chance.uniform(low, high)

    def ticker(at: datetime) -> dict[str, Any]:
        row: dict[str, Any] = {name: real() for name in ("open_interest", "index_price", "mark_price")}
        row |= {"funding_timestamp": at + timedelta(hours=real(0.1, 8)), "funding_rate": real() * 1e-6}
        return {name: value for name, value in row.items() if chance.random() > 0.1} | {"timestamp": at}

    def liquidation(at: datetime) -> dict[str, Any]:
        return {"timestamp": at, "side": chance.choice(["buy", "sell"]), "price": real(), "amount": real()}

    def quote(option: Instrument, at: datetime) -> dict[str, Any]:
        assert option.expiry
        assert option.strike
        call = 0.15 if option.strike == "110" else 0.85
        return {
            "timestamp": at,
            "type": option.option_type,
            "strike_price": float(option.strike),
            "expiration": midnight(option.expiry) + timedelta(hours=8),
            "open_interest": real(),
            "mark_iv": real(40, 60),
            "underlying_price": 100.0,
            "delta": call if option.side == "C" else call - 1,
        }

    def files(
        name: str, instruments: Iterable[Instrument], row: Callable[[Instrument, datetime], Any], skipped: int = 0
    ) -> Files:
        each = list(instruments)
        return {
            (day, one): ticks(name, [row(one, at) for at in moments(day)[skipped:]]) for day in days for one in each
        }

    derivatives = (PERP, DATED, INVERSE)
    of_trades = {
        (day, one): trades(at, [real() for _ in at])
        for day in days
        for one in (SPOT, *derivatives)
        for at in (sorted(moments(day)),)
    }
    return World(
        {
            "trades": of_trades,
            "derivative_ticker": files("derivative_ticker", derivatives, lambda _, at: ticker(at)),
            # none at the day's first instant: they are known from when the first has come
            "liquidations": files("liquidations", (PERP, OTHER, INVERSE), lambda _, at: liquidation(at), skipped=1),
            "options_chain": files("options_chain", OPTIONS, quote),
        }
    )


FIRST = date(2024, 2, 27)
DAYS = [FIRST + number * ONE_DAY for number in range(5)]
"""Days on both sides of a month's end."""
