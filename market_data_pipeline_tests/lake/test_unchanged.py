"""A day file is not made again when what it would be made from is what it was made from; over both stores."""

import ast
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import market_data_pipeline
from market_data_pipeline.lake import unchanged
from market_data_pipeline.lake.month_rows import digest_of_files
from market_data_pipeline.lake.records import read_record, record_key
from market_data_pipeline.lake.repaired import repair
from market_data_pipeline.lake.splicing import MONTH_DIGESTS
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.lake.writer import WriteReport, write_days
from market_data_pipeline.model.errors import LakeError, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Reject, Rejects
from market_data_pipeline_tests.lake.made_up import (
    ALL,
    BTC_USD,
    DAYS,
    PERP,
    TRADES,
    Look,
    Watched,
    contents,
    made_trades,
)
from market_data_pipeline_tests.lake.made_up import write as write_untold
from market_data_pipeline_tests.store_fixtures import Ground

DAY = DAYS[0]
BOTH = sorted((BTC_USD, PERP))


@dataclass
class Vendor:
    """Tells what its rows are made from, and counts how often they are read."""

    texts: dict[Instrument, str | None] = field(default_factory=lambda: dict.fromkeys(BOTH, "first"))
    seeds: dict[Instrument, int] = field(default_factory=dict)
    lines: tuple[int, ...] = ()
    reading: Callable[[], object] = lambda: None
    read: list[Instrument] = field(default_factory=list)
    recalled: dict[Instrument, Mapping[str, int]] = field(default_factory=dict)

    def rows(self) -> Iterator[DayRows]:
        for instrument in self.texts:
            facts: dict[str, int] = {}

            def read(rejects: Rejects, instrument=instrument, facts=facts) -> Iterator[pa.RecordBatch]:
                self.read.append(instrument)
                facts["rows of the vendor"] = 16 + self.seeds.get(instrument, 0)
                yield from made_trades(DAY, instrument, seed=self.seeds.get(instrument, 0)).to_batches()
                for line in self.lines:
                    rejects.counts["side"] += 1
                    rejects.places["side"] = f"line {line}"
                    rejects.rows.append(Reject("a.csv", line, "side", "?"))
                self.reading()

            def made_from(_: object, instrument=instrument) -> str | None:
                return self.texts[instrument]

            def recall(told: Mapping[str, int], instrument=instrument) -> None:
                self.recalled[instrument] = told

            yield DayRows(DAY, instrument, f"{instrument}.csv", read, made_from, facts, recall)

    def write(self, store: ObjectStore, selection: Selection = ALL) -> WriteReport:
        self.read.clear()
        self.recalled.clear()
        report = write_days(store, TRADES, [DAY], selection, self.rows())
        self.read.sort()  # several are read at once
        return report


def test_what_was_made_from_the_same_is_not_read_and_is_reported_as_ever(ground: Ground) -> None:
    vendor = Vendor()
    first = vendor.write(ground.store)
    assert vendor.read == BOTH
    before = contents(ground)
    second = vendor.write(ground.again())
    assert vendor.read == []
    assert contents(ground) == before
    assert second.bytes_written == 0
    told = [(f.instrument, f.origin, f.span, f.size, f.crc32c, f.facts, bool(f.rejects)) for f in first.files]
    assert told == [(f.instrument, f.origin, f.span, f.size, f.crc32c, f.facts, bool(f.rejects)) for f in second.files]
    assert [(f.changed, f.before) for f in second.files] == [(False, None)] * 2
    assert second.landed == (DAY,)
    assert second.removed == second.failures == ()
    assert vendor.recalled == {each: {"rows of the vendor": 16} for each in BOTH}
    vendor.write(ground.again(), Selection.of(PERP))
    Look(ground).assert_layouts_agree([TRADES])


def test_what_is_made_from_something_else_is_made_anew(ground: Ground) -> None:
    vendor = Vendor()
    vendor.write(ground.store)
    vendor.texts[PERP] = "second"
    vendor.seeds[PERP] = 1
    report = vendor.write(ground.again())
    assert vendor.read == [PERP]
    assert [(file.instrument, file.changed) for file in report.files] == [(BTC_USD, False), (PERP, True)]
    Look(ground).assert_layouts_agree([TRADES])
    vendor.write(ground.again())
    assert vendor.read == []
    assert vendor.recalled[PERP] == {"rows of the vendor": 17}


def test_other_code_makes_everything_anew_once(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Vendor()
    vendor.write(ground.store)
    monkeypatch.setattr(unchanged, "CODE", "of tomorrow")
    report = vendor.write(ground.again())
    assert vendor.read == BOTH
    assert not any(file.changed for file in report.files)  # it made the same of it
    vendor.write(ground.again())
    assert vendor.read == []


def test_every_module_counts_as_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "transforms").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(market_data_pipeline, "__file__", str(package / "__init__.py"))
    found = {unchanged._code()}
    for name, text in (("transforms/a.py", "x = 1"), ("transforms/a.py", "x = 2"), ("b.py", "")):
        (package / name).write_text(text)
        found.add(unchanged._code())
    monkeypatch.setattr(unchanged, "version", lambda name: "99")
    assert len(found | {unchanged._code()}) == 5


def test_the_libraries_that_make_values_count_as_code() -> None:
    package = Path(market_data_pipeline.__file__).parent
    used = set()
    for path in (package / "transforms").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                used.add((node.module or "").split(".")[0])
    known = {name.lower() for name in unchanged.LIBRARIES}
    distributions = packages_distributions()
    foreign = used - set(sys.stdlib_module_names) - {"market_data_pipeline", "threadpoolctl"}
    assert {"numpy", "pyarrow", "talib"} <= foreign
    assert [name for name in sorted(foreign) if known.isdisjoint(map(str.lower, distributions[name]))] == []


def test_rows_that_cannot_tell_are_read_each_time(ground: Ground) -> None:
    vendor = Vendor(dict.fromkeys(BOTH, None))
    for _ in range(2):
        vendor.write(ground.again())
        assert vendor.read == BOTH
    told = read_record(ground.again(), TRADES, DAY) or {}
    assert {(each.made_from, *each.facts) for each in told.values()} == {(None,)}


@pytest.mark.parametrize("layout", TRADES.layouts, ids=lambda layout: layout.name)
@pytest.mark.parametrize("damage", ["gone", "other bytes of the same size", "of another tool"])
def test_a_file_that_is_not_what_was_recorded_is_made_anew(ground: Ground, layout, damage: str) -> None:
    vendor = Vendor()
    vendor.write(ground.store)
    before = contents(ground)
    key = TRADES.path(layout, DAY, PERP)
    content = before[key] or b""
    if damage == "gone":
        ground.store.delete(key)
    elif damage == "of another tool":
        ground.write(key, before[TRADES.path(layout, DAY, BTC_USD)] or b"")
    else:
        ground.write(key, content[:40] + bytes([content[40] ^ 1]) + content[41:])
    report = vendor.write(ground.again())
    assert vendor.read == [PERP]
    assert [file.instrument for file in report.files if file.changed] == [PERP]
    assert contents(ground) == before


def test_a_file_is_read_each_time_while_rows_of_it_are_set_aside(ground: Ground) -> None:
    vendor = Vendor(lines=(3,))
    vendor.write(ground.store)
    report = vendor.write(ground.again())
    assert vendor.read == BOTH
    assert [file.rejects.counts for file in report.files] == [{"side": 1}] * 2
    aside = {name for name in ground.names() if "/quarantine/" in name and "/checksums/" not in name}
    assert len(aside) == 2
    vendor.lines = ()  # the code knows better now
    vendor.write(ground.again())
    vendor.write(ground.again())
    assert vendor.read == []
    assert not aside & ground.names()


def test_what_changes_while_it_is_read_is_read_again(ground: Ground) -> None:
    vendor = Vendor()

    def meanwhile() -> None:
        vendor.texts[PERP] = "in between"

    vendor.reading = meanwhile
    vendor.write(ground.store)
    # it has become again what it was before: what was read of it was something else
    vendor.texts[PERP], vendor.reading = "first", lambda: None
    vendor.write(ground.again())
    assert vendor.read == [PERP]
    vendor.write(ground.again())
    assert vendor.read == []


def test_a_file_that_another_run_replaces_meanwhile_keeps_nothing_of_the_old_one(ground: Ground) -> None:
    vendor = Vendor()
    vendor.write(ground.store)
    before = contents(ground)
    other = {(DAY, PERP): made_trades(DAY, PERP, seed=7)}
    listed = iter([True])

    class Overtaken(Watched):
        def list(self, prefix: str):
            found = list(self._store.list(prefix))
            if "/by_date/" in prefix and "trades" in prefix and next(listed, False):
                write_untold(ground.again(), TRADES, other, selection=Selection.of(PERP))
            return iter(found)

    vendor.write(Overtaken(ground.again()))
    Look(ground).assert_layouts_agree([TRADES])
    vendor.write(ground.again())
    assert contents(ground) == before


def test_an_instrument_that_the_source_no_longer_has_goes(ground: Ground) -> None:
    vendor = Vendor()
    vendor.write(ground.store)
    del vendor.texts[BTC_USD]
    report = vendor.write(ground.again())
    assert (vendor.read, report.removed) == ([], ((DAY, BTC_USD),))
    Look(ground).assert_layouts_agree([TRADES])


def test_who_cannot_be_asked_is_read_and_says_so(ground: Ground) -> None:
    def refuse(_: object) -> str:
        raise SourceError("the mapping file is malformed")

    rows = DayRows(DAY, PERP, "a.csv", lambda _: iter(made_trades(DAY, PERP).to_batches()), refuse)
    report = write_days(ground.store, TRADES, [DAY], ALL, [rows])
    assert [file.changed for file in report.files] == [True]


def test_a_record_of_before_is_read_and_gets_what_it_lacks(ground: Ground) -> None:
    vendor, key = Vendor(), record_key(TRADES, DAY)
    write_untold(ground.store, TRADES, {(DAYS[1], PERP): made_trades(DAYS[1], PERP)})
    vendor.write(ground.store)
    wanted = contents(ground)
    _without(ground, key, ["made_from", "facts"])
    assert list(verify(ground.again(), [TRADES], DAY, DAYS[1], full=True, pause=0)) == []
    assert list(repair(ground.again(), [TRADES], DAY, DAYS[1], pause=0)) == []
    vendor.write(ground.again())
    assert vendor.read == BOTH
    assert contents(ground) == wanted
    _without(ground, key, ["crc32c"])
    with pytest.raises(LakeError, match="`market-data repair` makes it anew"):
        vendor.write(ground.again())


def _without(ground: Ground, key: str, names: list[str]) -> None:
    """Writes a record anew without some columns, its digests of what is left."""
    whole = pq.ParquetFile(io.BytesIO(ground.get(key) or b""))
    sink, digests = io.BytesIO(), {}
    with pq.ParquetWriter(sink, whole.read().drop_columns(names).schema) as writer:
        for group in range(whole.num_row_groups):
            table = whole.read_row_group(group)
            files = [(row["instrument_id"], row["crc32c"]) for row in table.to_pylist()]
            digests[str(table["date"][0])] = digest_of_files(files)
            writer.write_table(table.drop_columns(names))
        writer.add_key_value_metadata({MONTH_DIGESTS: json.dumps(digests).encode()})
    ground.write(key, sink.getvalue())
