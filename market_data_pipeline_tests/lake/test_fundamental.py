"""Fundamental features from the lake: blind to the future, the same however days are asked for, right by hand."""

import gc
from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_data_pipeline.lake import fundamental
from market_data_pipeline.lake.derived import first_candles
from market_data_pipeline.lake.fundamental import FEATURES, Sources, fundamental_rows
from market_data_pipeline.lake.master import INSTRUMENTS
from market_data_pipeline.lake.reader import MarketDataLake
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.exchanges import spot_venue
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.transforms import as_of, derivatives
from market_data_pipeline.transforms import surface as surfaces
from market_data_pipeline_tests.lake.made_derivatives import (
    DATED,
    DAYS,
    EXPIRY,
    FLAT,
    INVERSE,
    OPTIONS,
    OTHER,
    PERP,
    SPOT,
    World,
    world,
)
from market_data_pipeline_tests.lake.made_up import ALL, Look, Watched, contents, ingest, trades, write
from market_data_pipeline_tests.parity import assert_layouts_agree
from market_data_pipeline_tests.store_fixtures import Ground, local_ground
from market_data_pipeline_tests.transforms.feature_tables import ticks

DAY = DAYS[2]
START = midnight(DAY)
ONE = timedelta(minutes=1)
LAST_THREE = DAYS[1:4]
"""Days that have a day before them and one after them, on both sides of a month's end."""
TICKER, LIQUIDATIONS, CHAIN = (DATASETS[name] for name in ("derivative_ticker", "liquidations", "options_chain"))


def materialize(store: ObjectStore, days: list[date], selection: Selection = ALL) -> dict[date, Sources]:
    told: dict[date, Sources] = {}
    report = write_days(store, FEATURES, days, selection, fundamental_rows(store, days, selection, told))
    assert report.failures == ()
    return told


def rows(store: ObjectStore, day: date = DAY, selection: Selection = ALL) -> dict[Instrument, pa.Table]:
    return {
        each.instrument: pa.Table.from_batches(each.read(Rejects()), FEATURES.own_schema)
        for each in fundamental_rows(store, [day], selection)
        if each.instrument
    }


def minutes(table: pa.Table, name: str) -> list[Any]:
    return table.filter(pc.equal(table.column("timeframe").cast(pa.string()), "1m")).column(name).to_pylist()


@pytest.fixture(scope="module")
def plenty(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """A lake that nobody writes into, with plenty of everything."""
    store = local_ground(tmp_path_factory.mktemp("plenty")).store
    world(DAYS, count=300).fill(store, DAYS)
    return store


# rows up to a moment are the same whether the lake ends there or goes on


def two_lakes(folder: Path, made: World, moment: datetime) -> tuple[ObjectStore, ObjectStore]:
    """One that goes on after a moment, and one that ends there."""
    longer, shorter = (local_ground(folder / name).store for name in ("longer", "shorter"))
    made.fill(longer, DAYS[1:4], candles=[DAY])
    made.until(moment).fill(shorter, DAYS[1:4], candles=[DAY])
    return longer, shorter


def check_that_the_past_stays(longer: ObjectStore, shorter: ObjectStore, moment: datetime) -> None:
    whole, ended = rows(longer), rows(shorter)
    assert set(whole) == set(ended) == {SPOT, PERP, DATED, INVERSE}
    for instrument, found in whole.items():
        past = found.filter(pc.less_equal(found.column("close_time"), pa.scalar(moment)))
        assert past.num_rows > 0
        known = ended[instrument]
        assert known.filter(pc.less_equal(known.column("close_time"), pa.scalar(moment))).equals(past), instrument


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**20),
    minute=st.integers(1, 1_439),
    second=st.integers(0, 59),
    count=st.integers(0, 40),
    liquidated=st.none() | st.integers(0, 86_399),
)
@example(seed=0, minute=720, second=0, count=5, liquidated=86_000)
def test_rows_are_the_same_whether_the_lake_ends_or_goes_on(
    seed: int, minute: int, second: int, count: int, liquidated: int | None
) -> None:
    moment = START + minute * ONE + timedelta(seconds=second)
    made = world(DAYS[1:4], seed, count)
    if liquidated is not None:  # a venue's only one, of another instrument
        alone = {(DAY, OTHER): ticks("liquidations", [tick(liquidated, side="sell", price=60_000.0, amount=2.0)])}
        made = World({**made.files, "liquidations": alone})
    with TemporaryDirectory() as folder:
        check_that_the_past_stays(*two_lakes(Path(folder), made, moment), moment)


def test_the_day_after_counts_only_by_what_its_files_hold_of_the_day(tmp_path: Path) -> None:
    longer, shorter = (local_ground(tmp_path / name).store for name in ("longer", "shorter"))
    made = world(DAYS)
    made.fill(longer, DAYS)
    made.until(START + timedelta(days=1)).fill(shorter, DAYS[:4])
    assert rows(longer) == rows(shorter)
    check_that_the_past_stays(longer, shorter, START + timedelta(days=1))
    assert MarketDataLake(store=shorter).ticks(None, "derivative_ticker", DAYS[3], DAYS[4]).num_rows == 0


HOUR = timedelta(hours=1) // timedelta(microseconds=1)


SEVEN = START + timedelta(hours=7)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectStore, ObjectStore]:
    """Two lakes, of which one ends at seven, in which something happens all the time."""
    return two_lakes(tmp_path_factory.mktemp("dense"), world(DAYS[1:4], count=1_500), SEVEN)


def ahead(by: int) -> Callable[..., Any]:
    """The last tick before a moment that lies too late by so many microseconds."""
    return lambda stamps, known, when, stale: as_of.latest_before(stamps, known, when + by, stale)


def earlier(table: pa.Table, *names: str) -> pa.Table:
    """Stamps a candle of an hour too early, so that the next one's are taken for this one's."""
    for name in names:
        place, stamps = table.column_names.index(name), table.column(name).cast(pa.int64()).to_numpy()
        table = table.set_column(place, name, pa.array(stamps - HOUR).view(table.schema.field(name).type))
    return table


def early_ticks(read: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
    return lambda *given_: earlier(read(*given_), "timestamp")


def early_spot(read: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
    return lambda *given_: earlier(read(*given_), "timestamp", "close_time") if SPOT in given_ else read(*given_)


def late_surface(made: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
    return lambda chain, when: earlier(made(chain, when + HOUR), "close_time")


@pytest.mark.parametrize(
    ("module", "name", "leak"),
    [
        pytest.param(derivatives, "latest_before", lambda _: ahead(1), id="a tick at the close"),
        pytest.param(derivatives, "latest_before", lambda _: ahead(HOUR), id="later tickers"),
        pytest.param(surfaces, "latest_before", lambda _: ahead(HOUR), id="later options"),
        pytest.param(fundamental, "_read", early_ticks, id="ticks stamped a bar early"),
        pytest.param(fundamental, "_candles", early_spot, id="the spot pair's next candle"),
        pytest.param(fundamental, "surface_by_expiry", late_surface, id="the next candle's surface"),
    ],
)
def test_a_planted_leak_breaks_that_law(
    dense: tuple[ObjectStore, ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    leak: Callable[[Any], Any],
) -> None:
    monkeypatch.setattr(module, name, leak(getattr(module, name)))
    with pytest.raises(AssertionError):
        check_that_the_past_stays(*dense, SEVEN)


def test_without_a_leak_it_holds_there_too(dense: tuple[ObjectStore, ObjectStore]) -> None:
    check_that_the_past_stays(*dense, SEVEN)


# days, ranges, layouts, selections


@pytest.fixture(scope="module")
def in_one_range(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    ground = local_ground(tmp_path_factory.mktemp("range"))
    world(DAYS).fill(ground.store, DAYS)
    materialize(ground.store, LAST_THREE)
    return contents(ground)


@pytest.mark.parametrize(
    "order", list(permutations(LAST_THREE)), ids=lambda days: "-".join(f"{day.day}" for day in days)
)
def test_day_by_day_in_any_order_is_one_range(
    local: Ground, in_one_range: dict[str, bytes | None], order: tuple[date, ...]
) -> None:
    world(DAYS).fill(local.store, DAYS)
    for day in order:
        materialize(local.store, [day])
    assert contents(local) == in_one_range


def test_every_layout_holds_the_same_rows_in_order(ground: Ground) -> None:
    world(DAYS[1:4], count=20).fill(ground.store, DAYS[1:4])
    materialize(ground.store, DAYS[2:4])
    found = assert_layouts_agree(ground.store)
    assert found["fundamental_features"] == 2 * 4 * (1440 + 288 + 96 + 24)
    Look(ground).assert_layouts_agree([FEATURES])
    read = MarketDataLake(store=ground.store).features(None, FEATURES.name, DAYS[2], DAYS[4])
    names = ("instrument_id", *FEATURES.order)
    keys = list(zip(*(read.column(name).to_pylist() for name in names), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == found["fundamental_features"]


def test_a_selection_changes_nothing_for_the_instruments_in_it(plenty: ObjectStore) -> None:
    everything = rows(plenty)
    assert set(everything) == {SPOT, PERP, DATED, INVERSE}
    for instrument in everything:
        # neither the spot pair nor the options are in it
        assert rows(plenty, DAY, Selection.of(instrument)) == {instrument: everything[instrument]}
    assert everything[PERP].column("spot_basis").null_count < everything[PERP].num_rows
    assert rows(plenty, DAYS[0] - timedelta(days=1)) == {}


def test_who_has_what(plenty: ObjectStore) -> None:
    ticker = {each.name for each in FEATURES.columns[3:11]}
    liquidations = {name for name in FEATURES.own_schema.names if "liquidation" in name}
    surface = set(surfaces.SURFACE_COLUMNS)
    futures, spot = {"annualised_basis"}, {"spot_basis", "annualised_spot_basis"}
    having = {
        SPOT: set(),
        PERP: (ticker | liquidations | {"basis", "spot_basis"}),
        INVERSE: (ticker | liquidations | surface | {"basis"}) - spot,
        DATED: (ticker | liquidations | surface | futures | {"basis"}) - spot,
    }
    for instrument, table in rows(plenty).items():
        filled = {name for name in FEATURES.own_schema.names[3:] if table.column(name).null_count < table.num_rows}
        wanted = having[instrument] - {"predicted_funding_rate"}
        assert filled == (wanted if instrument == DATED else wanted - futures), instrument


# values by hand


def tick(second: float, **values: Any) -> dict[str, Any]:
    return {"timestamp": START + timedelta(seconds=second), **values}


def put(store: ObjectStore, name: str, instrument: Instrument, *made: dict[str, Any], day: date = DAY) -> None:
    write(store, DATASETS[name], {(day, instrument): ticks(name, made)}, selection=Selection.of(instrument))


def traded(
    store: ObjectStore, prices: dict[Instrument, list[float]], second: float = 30, listed: tuple[Instrument, ...] = ()
) -> None:
    """One trade a minute from midnight on, and the day's master."""
    made = {
        (DAY, instrument): trades([tick(second + 60 * i)["timestamp"] for i in range(len(each))], each)
        for instrument, each in prices.items()
    }
    World({"trades": made, "derivative_ticker": {}, "liquidations": {}, "options_chain": {}}).fill(store, [DAY], listed)


def test_values_worked_out_by_hand(local: Ground) -> None:
    store = local.store
    traded(store, {PERP: [101.0, 102.0], SPOT: [100.0, 104.0]}, listed=(SPOT,))
    known = {"funding_timestamp": START + timedelta(hours=1), "funding_rate": 1e-4, "predicted_funding_rate": 2e-4}
    put(store, "derivative_ticker", PERP, tick(-30, open_interest=10.0), day=DAYS[1])
    put(
        store,
        "derivative_ticker",
        PERP,
        tick(-20, open_interest=12.0),  # by exchange time it is of the day before
        tick(10, open_interest=15.0, index_price=100.0, mark_price=100.5, **known),
        tick(60, open_interest=9.0, index_price=200.0, mark_price=100.0),  # at the close: of the next candle
    )
    # nothing but the edge of the day's last minute
    put(store, "derivative_ticker", PERP, tick(86_399.5, open_interest=7.0), day=DAYS[3])
    put(
        store,
        "liquidations",
        PERP,
        tick(5, side="sell", price=60_000.0, amount=2.0),
        tick(70, side="buy", price=60_000.0, amount=3.0),
    )
    found = rows(store)[PERP].to_pylist()
    first, second = [row for row in found if row["timeframe"] == "1m"][:2]
    expected = {
        "funding_rate": (1e-4, 1e-4),
        "predicted_funding_rate": (2e-4, 2e-4),
        "hours_to_funding": (59 / 60, 58 / 60),
        "open_interest": (15.0, 9.0),
        "open_interest_change": (3.0, -6.0),
        "mark_premium": (50.0, -5_000.0),
        "basis": (100.0, -4_900.0),
        "spot_basis": (100.0, (102 / 104 - 1) * 1e4),
        "annualised_basis": (None, None),
        "long_liquidation_count": (1, 0),
        "long_liquidation_volume": (2.0, 0.0),
        "short_liquidation_count": (0, 1),
        "short_liquidation_volume": (0.0, 3.0),
        "liquidation_volume_rising": (2.0, 0.0),
        "liquidation_volume_falling": (0.0, 3.0),
    }
    for name, values in expected.items():
        told = [first[name], second[name]]
        assert told == [value if value is None else pytest.approx(value) for value in values], name
    (five,) = [row for row in found if row["timeframe"] == "5m" and row["timestamp"] == START]
    assert (five["long_liquidation_volume"], five["short_liquidation_volume"]) == (2.0, 3.0)
    assert five["open_interest_change"] == pytest.approx(9.0 - 12.0)
    assert [row["open_interest"] for row in found if row["timeframe"] == "1m"][-1] == 7.0


def test_a_dated_future_takes_its_expiry_from_the_master_else_from_its_id(local: Ground) -> None:
    store = local.store
    for listed, expiry in (((DATED,), EXPIRY), ((), midnight(EXPIRY.date()))):
        traded(store, {DATED: [101.0]}, listed=listed)
        put(store, "derivative_ticker", DATED, tick(1, index_price=100.0))
        left = (expiry - START - ONE) / timedelta(days=365)
        assert minutes(rows(store)[DATED], "annualised_basis")[0] == pytest.approx(100.0 / left)


def test_a_surface_of_the_options_of_the_pair_at_the_exchange(local: Ground) -> None:
    store = local.store
    traded(store, {INVERSE: [100.0], PERP: [100.0]})
    delta = {"110C": 0.15, "90C": 0.85, "110P": -0.85, "90P": -0.15}
    for option in OPTIONS:
        assert option.expiry
        put(
            store,
            "options_chain",
            option,
            tick(
                -60 if option.side == "P" else 10,  # the puts' last rows are of the day before, in the day's file
                type=option.option_type,
                strike_price=float(option.strike or 0),
                expiration=midnight(option.expiry) + timedelta(hours=8),
                open_interest=2.0 if option.side == "P" else 1.0,
                mark_iv=50.0,
                underlying_price=100.0,
                delta=delta[f"{option.strike}{option.side}"],
            ),
        )
    elsewhere = Instrument.parse("deribit:Option:ETH-USD-90-240426-P")
    put(store, "options_chain", elsewhere, tick(10, type="put", strike_price=90.0, open_interest=77.0))
    found = rows(store)
    assert minutes(found[INVERSE], "put_call_open_interest")[:1] == [2.0]
    assert minutes(found[INVERSE], "atm_iv_30d")[0] == pytest.approx(50.0)
    assert minutes(found[INVERSE], "skew_25d_30d")[0] == pytest.approx(0.0)
    # puts are stale half an hour after their rows, calls a minute later
    assert minutes(found[INVERSE], "put_call_open_interest")[28:32] == [2.0, 0.0, None, None]
    assert minutes(found[PERP], "put_call_open_interest")[0] is None


@pytest.mark.parametrize("venue", ["okex-swap", "okex-futures", "okex-options", "okex"])
def test_the_venues_of_an_exchange_have_one_spot_venue(venue: str) -> None:
    assert spot_venue(venue) == "okex"
    assert spot_venue("deribit") == "deribit"


# what is there and what is not


def test_no_master_or_no_such_pair_in_it_gives_no_spot_basis(local: Ground) -> None:
    traded(local.store, {PERP: [101.0], SPOT: [100.0]}, listed=(OTHER,))
    assert rows(local.store)[PERP].column("spot_basis").null_count == rows(local.store)[PERP].num_rows
    traded(local.store, {PERP: [101.0], SPOT: [100.0]}, listed=(SPOT,))
    assert minutes(rows(local.store)[PERP], "spot_basis")[0] == pytest.approx(100.0)


def test_a_pair_of_the_own_venue_goes_before_that_of_the_exchanges_spot_venue(local: Ground) -> None:
    own = Instrument.spot(PERP.venue, PERP.base, PERP.quote)
    traded(local.store, {PERP: [101.0], SPOT: [100.0], own: [101.0]}, listed=(SPOT, own))
    assert minutes(rows(local.store)[PERP], "spot_basis")[0] == pytest.approx(0.0)


def test_liquidations_are_null_where_nobody_fetched_them_and_zero_where_none_took_place(local: Ground) -> None:
    store, columns = local.store, ("long_liquidation_count", "short_liquidation_volume")
    traded(store, {PERP: [101.0], INVERSE: [1.0], SPOT: [100.0]})
    assert [minutes(rows(store)[PERP], name)[0] for name in columns] == [None, None]
    put(store, "liquidations", OTHER, tick(5, side="sell", price=60_000.0, amount=2.0))
    found = rows(store)
    assert [minutes(found[PERP], name)[0] for name in columns] == [0, 0.0]
    put(store, "liquidations", OTHER, tick(3_600, side="sell", price=60_000.0, amount=2.0))
    found = rows(store)
    # at the close it is not yet known
    assert minutes(found[PERP], columns[0])[59:61] == [None, 0]
    put(store, "liquidations", OTHER, tick(-23 * 3_600, side="sell", price=60_000.0, amount=2.0), day=DAYS[1])
    put(store, "liquidations", OTHER, tick(86_399, side="sell", price=60_000.0, amount=2.0))
    assert minutes(rows(store)[PERP], columns[0])[118:122] == [0, 0, None, None]
    assert minutes(rows(store)[PERP], columns[0])[-1] == 0
    for instrument in (INVERSE, SPOT):
        assert [minutes(found[instrument], name)[0] for name in columns] == [None, None]
    told: dict[date, Sources] = {}
    list(fundamental_rows(store, [DAY], ALL, told))
    assert (told[DAY].liquidations, told[DAY].none_liquidated) == ([PERP.id], [PERP.id])


def test_a_lake_of_spot_pairs_alone_gives_rows_of_nulls(local: Ground) -> None:
    ingest(local.store, {(DAY, SPOT): trades([START])}, [DAY], fills=FLAT, only=("trades", "ohlcv_1m"))
    (table,) = rows(local.store).values()
    assert table.num_rows == 1_440
    assert {table.column(name).null_count for name in FEATURES.own_schema.names[3:]} == {1_440}


def test_what_there_was_is_told(plenty: ObjectStore) -> None:
    told: dict[date, Sources] = {}
    list(fundamental_rows(plenty, [DAYS[0], DAY, DAYS[-1]], ALL, told))
    middle = told[DAY]
    assert middle.tickers == [PERP.id, DATED.id, INVERSE.id]
    assert middle.liquidations == [PERP.id, DATED.id, INVERSE.id]
    assert middle.none_liquidated == [DATED.id]
    assert middle.spots == [PERP.id]
    assert middle.surfaces == [DATED.id, INVERSE.id]
    assert (middle.tickers_without_day_before, middle.options_without_day_before, middle.waiting) == ([], [], ())
    assert told[DAYS[0]].tickers_without_day_before == middle.tickers
    assert told[DAYS[0]].options_without_day_before == ["deribit BTC-USD"]
    assert told[DAYS[-1]].waiting == ("binance-futures", "deribit")


def test_a_ticker_of_the_day_after_alone_is_none_and_liquidations_are_waited_for(local: Ground) -> None:
    traded(local.store, {PERP: [101.0]})
    put(local.store, "derivative_ticker", PERP, tick(86_405, open_interest=1.0), day=DAYS[3])
    put(local.store, "liquidations", OTHER, tick(5, side="sell", price=60_000.0, amount=2.0))
    told: dict[date, Sources] = {}
    list(fundamental_rows(local.store, [DAY], ALL, told))
    assert (told[DAY].tickers, told[DAY].waiting) == ([], (PERP.venue,))


# the surface is worked out once


def test_a_surface_is_worked_out_once_a_day_whoever_asks(plenty: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(chain: Any, when: Any) -> pa.Table:
        asked.append(when[0])
        return surfaces.surface_by_expiry(chain, when)

    monkeypatch.setattr(fundamental, "surface_by_expiry", counted)
    with TemporaryDirectory() as folder:
        report = write_days(
            local_ground(Path(folder)).store, FEATURES, LAST_THREE, ALL, fundamental_rows(plenty, LAST_THREE, ALL)
        )
    assert report.failures == ()
    assert len(asked) == len(set(asked)) == len(LAST_THREE)


def test_a_days_surfaces_are_let_go_of_when_the_day_is_done(plenty: ObjectStore) -> None:
    alive = []
    for each in fundamental_rows(plenty, LAST_THREE, Selection.of(INVERSE)):
        list(each.read(Rejects()))
        del each
        gc.collect()
        alive.append(sum(isinstance(found, fundamental._Chain) for found in gc.get_objects()))
    assert alive == [1, 1, 1]


def test_only_what_can_matter_is_read(local: Ground) -> None:
    made = world(DAYS[1:4], count=5)
    made.fill(local.store, DAYS[1:4])
    gone = Instrument.parse("deribit:Option:BTC-USD-90-240228-P")
    put(local.store, "options_chain", gone, tick(-90_000, type="put", strike_price=90.0), day=DAYS[1])
    watched = Watched(local.store)
    for each in fundamental_rows(watched, [DAY], Selection.of(PERP)):
        list(each.read(Rejects()))
    ticked = [key for key in watched.named("open") if "market-data-tick" in key]
    opened = {key.rpartition("/")[2] for key in ticked if "liquidations" not in key}
    assert opened == {f"{PERP.id}.parquet"}
    # that the venue's liquidations are known is told by those of its other instruments, too
    assert {key.rpartition("/")[2] for key in ticked} == {f"{PERP.id}.parquet", f"{OTHER.id}.parquet"}
    watched.calls.clear()
    for each in fundamental_rows(watched, [DAY], Selection.of(INVERSE)):
        list(each.read(Rejects()))
    opened = {key.rpartition("/")[2] for key in watched.named("open") if "options_chain" in key}
    assert opened == {f"{option.id}.parquet" for option in OPTIONS}


def test_an_option_that_cannot_be_read_fails_once_by_its_file_and_the_other_columns_land(local: Ground) -> None:
    world(DAYS[1:4], count=5).fill(local.store, DAYS[1:4])
    for layout in CHAIN.layouts:
        local.write(CHAIN.path(layout, DAY, OPTIONS[0]), b"no parquet")
    report = write_days(local.store, FEATURES, [DAY], ALL, fundamental_rows(local.store, [DAY], ALL))
    assert {file.instrument for file in report.files} == {PERP, SPOT, DATED, INVERSE}
    (failure,) = report.failures
    assert OPTIONS[0].id in failure.message
    found = MarketDataLake(store=local.store).features(INVERSE, FEATURES.name, DAY, DAY + timedelta(days=1))
    assert found.column("open_interest").null_count < found.num_rows
    assert all(found.column(name).null_count == found.num_rows for name in surfaces.SURFACE_COLUMNS)


def test_a_master_that_cannot_be_read_fails_its_own_day_alone(local: Ground) -> None:
    days = DAYS[1:4]
    world(days, count=5).fill(local.store, days)
    for layout in INSTRUMENTS.layouts:
        local.write(INSTRUMENTS.path(layout, days[1]), b"no parquet")
    linear = Contract(False, 1.0, VolumeUnit.BASE)
    for dataset, made in (
        (FEATURES, fundamental_rows(local.store, days, ALL)),
        (DATASETS["ohlcv_1m"], first_candles(local.store, days, ALL, lambda _: linear, FLAT)),
    ):
        report = write_days(local.store, dataset, days, ALL, made)
        (failure,) = report.failures
        assert failure.day == days[1]
        assert "instruments" in failure.message
        assert {file.day for file in report.files} == {days[0], days[2]}


def test_minutes_close_at_every_close_of_every_timeframe() -> None:
    closes = fundamental._minutes(DAY)
    assert len(closes) == 1_440
    assert np.all(np.diff(closes) == 60_000_000)
    assert pa.scalar(START + timedelta(days=1), pa.timestamp("us", "UTC")).value == closes[-1]
