"""Damage of every kind, one at a time: it is found in the right words, and mended so that everything agrees again."""

import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake import verified
from market_data_pipeline.lake.differences import Difference, Kind
from market_data_pipeline.lake.records import record_key
from market_data_pipeline.lake.repaired import repair
from market_data_pipeline.lake.splicing import MONTH_DIGESTS
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    DAYS,
    HOURLY,
    MAPS,
    PERP,
    SOME,
    TRADES,
    Look,
    Watched,
    contents,
    hourly,
    ingest,
    made_ticks,
    made_trades,
    rows_of,
    write,
)
from market_data_pipeline_tests.parity import assert_layouts_agree
from market_data_pipeline_tests.store_fixtures import Ground

KEPT = [DATASETS[name] for name in SOME if name != "ohlcv_5m"]
MINUTES = DATASETS["ohlcv_1m"]
DAY = DAYS[0]


def look(ground: Ground, full: bool = False, datasets: Sequence[Dataset] = tuple(KEPT)) -> list[Difference]:
    return list(verify(ground.again(), datasets, DAYS[0], DAYS[-1], full=full, pause=0))


def mend(ground: Ground, datasets: Sequence[Dataset] = tuple(KEPT)) -> list[tuple[str, bool]]:
    found = repair(ground.again(), datasets, DAYS[0], DAYS[-1], pause=0)
    return [(str(each.difference), each.mended) for each in found]


@pytest.fixture
def lake(ground: Ground) -> Ground:
    """A lake of three days in two months, on each store."""
    return filled(ground)


def filled(ground: Ground) -> Ground:
    """The same on one store."""
    ingest(ground.store, made_ticks(instruments=(BTC_USD, PERP)), only=[dataset.name for dataset in KEPT])
    return ground


def key_of(dataset: Dataset, layout: str, instrument: Instrument | None = PERP, day=DAY) -> str:
    return dataset.path(dataset.layout(layout), day, instrument)


def overwrite(lake: Ground, key: str, change: Callable[[bytes], bytes]) -> None:
    """A new object under the key."""
    lake.write(key, change(lake.get(key) or b""))


def flip(content: bytes, at: int = 60) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def rot(lake: Ground, key: str, at: int = 60) -> None:
    """One bit in the file itself, under all its names; the file stays as old as it was."""
    path: Path = lake.store.root / key  # type: ignore[attr-defined]
    path.chmod(0o644)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewritten(change: Callable[[list[pa.Table]], list[pa.Table]]) -> Callable[[bytes], bytes]:
    """A month file with other row groups and the same footer entries."""

    def rewrite(content: bytes) -> bytes:
        file = pq.ParquetFile(io.BytesIO(content))
        tables = change([file.read_row_group(group) for group in range(file.num_row_groups)])
        sink = io.BytesIO()
        digests = file.metadata.metadata[MONTH_DIGESTS]
        with pq.ParquetWriter(sink, file.schema_arrow.remove_metadata()) as writer:
            for table in tables:
                writer.write_table(table)
            writer.add_key_value_metadata({MONTH_DIGESTS: digests})
        return sink.getvalue()

    return rewrite


def with_another_price(tables: list[pa.Table]) -> list[pa.Table]:
    first = tables[0]
    place = first.schema.get_field_index("close")
    closes = first.column("close").to_pylist()
    closes[2] += 1
    return [first.set_column(place, first.schema.field(place), pa.array(closes)), *tables[1:]]


def delete(lake: Ground, key: str) -> None:
    lake.store.delete(key)


def stale_record(lake: Ground) -> None:
    """What a run leaves that is killed before it records what it wrote."""
    key = record_key(TRADES, DAY)
    old = lake.get(key) or b""
    changed = rows_of(DAY, PERP, made_trades(DAY, PERP, count=20, seed=9))
    write_days(lake.again(), TRADES, [DAY], Selection.of(PERP), [changed])
    lake.write(key, old)


@dataclass(frozen=True)
class Damage:
    """Something that is done to a lake, and what verify says of it."""

    act: Callable[[Ground], object]
    said: str
    only: str = ""
    full: bool = False


DAMAGES = {
    "a copy is gone": Damage(
        lambda lake: delete(lake, key_of(TRADES, "by_type")),
        r"by_type/.*nothing lies here; expected the file of by_date",
    ),
    "a copy has another size": Damage(
        lambda lake: lake.write(key_of(TRADES, "by_venue"), b"short"),
        r"by_venue/.*: 5 bytes; expected .* as in by_date",
    ),
    "a copy has other bytes": Damage(
        lambda lake: overwrite(lake, key_of(TRADES, "by_venue"), flip),
        r"by_venue/.*other bytes; expected those of by_d",
    ),
    "a copy too many": Damage(
        lambda lake: lake.write(key_of(TRADES, "by_type", BTC_USD).replace("BTC-USD", "ETH-USD"), b"x"),
        r"by_type/.*ETH-USD.parquet: 1 bytes; expected nothing, as by_date has none",
    ),
    "a copy too many in a venue of its own": Damage(
        lambda lake: lake.write(key_of(TRADES, "by_venue", Instrument.parse("kraken:SPOT_PAIR:ETH-USD")), b"x"),
        r"by_venue/venue-kraken/.*: 1 bytes; expected nothing, as by_date has none",
    ),
    "ticks in by_date are gone": Damage(
        lambda lake: delete(lake, key_of(TRADES, "by_date")), r"by_date/.*trades.*nothing lies here; .*, as recorded"
    ),
    "ticks in by_date are junk": Damage(
        lambda lake: lake.write(key_of(TRADES, "by_date"), b"junk"), r"by_date/.*: 4 bytes; expected .*, as recorded"
    ),
    "a bit of the one file of all tick layouts": Damage(
        lambda lake: rot(lake, key_of(TRADES, "by_date")),
        r"by_date/.*content of CRC-32C \w+; .*materialize",
        "lost",
        True,
    ),
    "a bit of a candle file": Damage(
        lambda lake: rot(lake, key_of(MINUTES, "by_date")),
        r"by_date/.*ohlcv_1m.parquet: content of CRC-32C",
        "local",
        True,
    ),
    "a bit of a candle file's footer": Damage(
        lambda lake: rot(lake, key_of(MINUTES, "by_date"), -300 + len(lake.get(key_of(MINUTES, "by_date")) or b"")),
        r"by_date/.*ohlcv_1m.parquet: content of CRC-32C",
        "local",
        True,
    ),
    "candles in by_date have other bytes": Damage(
        lambda lake: overwrite(lake, key_of(MINUTES, "by_date"), flip), r"by_date/.*CRC-32C .*, as recorded"
    ),
    "candles in by_date are gone": Damage(
        lambda lake: delete(lake, key_of(MINUTES, "by_date")), r"by_date/.*ohlcv_1m.parquet: nothing lies here"
    ),
    "a map is gone": Damage(
        lambda lake: delete(lake, key_of(MAPS, "by_date", None)), r"available_instruments.parquet: nothing lies here"
    ),
    "a month file is gone": Damage(
        lambda lake: delete(lake, key_of(MINUTES, "by_venue")),
        r"by_venue/.*nothing lies here; expected the rows of 2 days",
    ),
    "a month file cannot be read": Damage(
        lambda lake: overwrite(lake, key_of(MINUTES, "by_instrument_id"), lambda content: content[:-9]),
        r"by_instrument_id/.*cannot be read",
    ),
    "a month file lacks a row group": Damage(
        lambda lake: overwrite(lake, key_of(MINUTES, "by_venue"), rewritten(lambda tables: tables[:-1])),
        r"by_venue/.*: 0 rows on 2024-02-29; expected \d+, as in by_date",
    ),
    "a month file has a row too many": Damage(
        lambda lake: overwrite(
            lake, key_of(MINUTES, "by_timeframe"), rewritten(lambda tables: [*tables, tables[-1].slice(0, 1)])
        ),
        r"by_timeframe/.* rows on 2024-02-29; expected \d+, as in by_date",
    ),
    "a month file has another price": Damage(
        lambda lake: overwrite(lake, key_of(MINUTES, "by_venue"), rewritten(with_another_price)),
        r"by_venue/.*other rows from the day's row 2 on on 2024-02-28; expected those of by_date",
        full=True,
    ),
    "a month file of the map lacks rows": Damage(
        lambda lake: overwrite(lake, key_of(MAPS, "by_venue", PERP), rewritten(lambda tables: tables[1:])),
        r"by_venue/.*_availability.parquet: 0 rows on 2024-02-28; expected 1",
    ),
    "a month file of a group that is gone": Damage(
        lambda lake: lake.write(
            key_of(MINUTES, "by_venue", BTC_USD).replace("binance", "kraken"),
            lake.get(key_of(MINUTES, "by_venue")) or b"",
        ),
        r"by_venue/venue-kraken/.*rows of a day that by_date has not on 2024-02-28; expected none",
    ),
    "a record is gone": Damage(
        lambda lake: delete(lake, record_key(TRADES, DAY)), r"trades_checksums.parquet: there is no record"
    ),
    "a record cannot be read": Damage(
        lambda lake: lake.write(record_key(MINUTES, DAY), b"PAR1 torn PAR1"),
        r"ohlcv_1m_checksums.parquet: cannot be read",
    ),
    "a record is out of date": Damage(stale_record, r"by_date/.*bytes; expected .*, as recorded"),
}


def test_a_lake_in_order_has_no_difference(lake: Ground) -> None:
    before = contents(lake)
    assert look(lake) == []
    assert look(lake, full=True) == []
    assert mend(lake) == []
    assert contents(lake) == before


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (where, name)
        for name, damage in DAMAGES.items()
        for where in ("local", "gcs")
        if damage.only in ("", where) or (damage.only == "lost" and where == "local")
    ],
)
def test_each_damage_is_found_and_mended(request: pytest.FixtureRequest, where: str, name: str) -> None:
    lake = filled(request.getfixturevalue(where))
    damage = DAMAGES[name]
    before = contents(lake)
    damage.act(lake)
    if damage.full:
        assert look(lake) == []
    found = [str(each) for each in look(lake, damage.full)]
    assert [text for text in found if re.search(damage.said, text)], found
    assert all("market-data repair" in text for text in found)
    lost = damage.only == "lost"
    mended = mend(lake)
    assert {done for _, done in mended} == {not lost}, mended
    assert (look(lake, full=True) == []) is not lost
    if lost:
        write(lake.again(), TRADES, {(DAY, PERP): made_trades(DAY, PERP)}, selection=Selection.of(PERP))
        assert look(lake, full=True) == []
    assert_layouts_agree(lake.again(), SOME)
    Look(lake).assert_layouts_agree(KEPT)
    if damage.act is not stale_record:
        assert contents(lake) == before
    assert mend(lake) == []


@pytest.mark.parametrize(
    ("stray", "said"),
    [
        (
            "market-data-tick/raw_tick_data/by_date/notes.txt",
            r"belongs to no layout; .*move it out of the lake, or delete",
        ),
        ("market-data-candles/daily/by_date/year=2024/month=02/x.parquet", r"a Hive-style path .* year-2023/month-05"),
        (
            key_of(TRADES, "by_date").replace("BTC-USD", "btc-usd"),
            r"case of letters alone; expected .*/deribit:Perp:BTC-USD.parquet; rename it",
        ),
        (
            key_of(TRADES, "by_type").replace("SPOT", "spot").replace("Perp", "PERP"),
            r"case of letters alone; expected .*/deribit:Perp:BTC-USD.parquet; rename it",
        ),
    ],
)
def test_what_belongs_nowhere_is_told_and_left_alone(lake: Ground, stray: str, said: str) -> None:
    lake.write(stray, b"x")
    (found,) = look(lake)
    assert (found.kind, found.key) == (Kind.STRAY, stray)
    assert re.search(said, str(found)), str(found)
    assert mend(lake) == [(str(found), False)]
    assert lake.get(stray) == b"x"


def test_other_days_and_other_datasets_are_not_looked_at(lake: Ground) -> None:
    delete(lake, key_of(TRADES, "by_type"))
    assert list(verify(lake.again(), KEPT, DAYS[1], DAYS[2], full=True, pause=0)) == []
    assert look(lake, datasets=[MINUTES, MAPS]) == []
    assert len(look(lake, datasets=[TRADES])) == 1


def test_a_damaged_day_in_a_month_file_leaves_its_other_days_what_they_were(lake: Ground) -> None:
    key = key_of(MINUTES, "by_venue")
    before = lake.get(key)
    lake.write(key, b"junk")
    repaired = list(repair(lake.again(), [MINUTES], DAYS[1], DAYS[1], pause=0))
    assert [each.mended for each in repaired] == [True]
    assert lake.get(key) == before


def test_nothing_is_restored_over_a_sound_file_that_is_not_yet_recorded(local: Ground) -> None:
    write(local.store, HOURLY, {(DAY, PERP): hourly(DAY)})
    recorded = local.get(record_key(HOURLY, DAY)) or b""
    month_files = {layout.name: local.get(key_of(HOURLY, layout.name)) for layout in HOURLY.month_layouts}
    newer = {(DAY, PERP): hourly(DAY, price=333.0)}
    write(local.store, HOURLY, newer)
    # as a run leaves it that has landed the day file and no more
    local.write(record_key(HOURLY, DAY), recorded)
    for name, content in month_files.items():
        local.write(key_of(HOURLY, name), content or b"")
    assert all(done for _, done in mend(local, [HOURLY]))
    assert look(local, full=True, datasets=[HOURLY]) == []
    assert Look(local).rows(HOURLY).column("open").to_pylist() == [333.0, 334.0, 335.0]


def test_what_is_lost_stays_in_the_record_and_is_told_again(lake: Ground) -> None:
    for layout in TRADES.day_layouts:
        delete(lake, key_of(TRADES, layout.name))
    told = mend(lake)
    assert [done for _, done in told] == [False]
    assert "materialize it again" in told[0][0]
    assert mend(lake) == told


def test_a_run_beside_it_is_no_difference_once_it_is_done(lake: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        write(lake.again(), TRADES, {(DAY, PERP): made_trades(DAY, PERP)}, selection=Selection.of(PERP))

    delete(lake, key_of(TRADES, "by_venue"))
    assert look(lake) != []
    monkeypatch.setattr(verified.time, "sleep", lambda _: run())
    assert look(lake) == []


def test_a_cheap_look_opens_no_day_file(lake: Ground) -> None:
    watched = Watched(lake.again())
    list(verify(watched, [TRADES, MINUTES], DAYS[0], DAYS[-1], pause=0))
    assert [key for key in watched.named("open") if "/day-" in key] == []
    assert watched.named("put") == watched.named("delete") == []
