"""The commands that look at the lake, on a terminal and in a pipe."""

import csv
import gzip
import io
import json
import os
import pty
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from market_data_pipeline import MarketDataLake, terminal
from market_data_pipeline.cli import main
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline_tests.defs.running import pipeline
from market_data_pipeline_tests.defs.vendor_days import HEADER, SYMBOLS, file_of, settings_of, write
from market_data_pipeline_tests.lake.made_up import BTC_USD, DAYS, FUTURE, INSTRUMENTS, ingest, made_ticks

FIRST, LAST = str(DAYS[0]), str(DAYS[-1])
COMMAND = Path(sys.executable).with_name("market-data")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of some days, of which an instrument lacks one."""
    folder = tmp_path_factory.mktemp("looked") / "lake"
    ticks = made_ticks()
    del ticks[DAYS[-1], FUTURE]
    ingest(open_store(folder), ticks)
    return folder


def told(lake: Path, *arguments: str) -> Result:
    """What a command tells in a pipe."""
    return CliRunner().invoke(main, arguments, env={"MARKET_DATA_LAKE": str(lake)})


def on_a_terminal(lake: Path, *arguments: str, width: int = 100) -> str:
    """What a command tells on a terminal of this width."""
    parent, child = pty.openpty()
    environment = os.environ | {"MARKET_DATA_LAKE": str(lake), "COLUMNS": str(width), "TERM": "xterm"}
    with subprocess.Popen([COMMAND, *arguments], stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        found = b""
        while True:
            try:
                found += (piece := os.read(parent, 1 << 16))
            except OSError:  # the other end is closed
                break
            if not piece:
                break
    os.close(parent)
    assert process.returncode == 0, found.decode()
    return found.decode()


def lines(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout), delimiter="\t"))


def objects(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_ls_tells_of_each_dataset_what_coverage_adds_up_to(lake: Path) -> None:
    reader = MarketDataLake(lake)
    found = {row["dataset"]: row for row in objects(told(lake, "ls", "--json"))}
    assert next(iter(found)) == "trades"
    assert set(found) >= {"trades", "ohlcv_1m", "ohlcv_1d", "available_instruments"}
    for name, row in found.items():
        rows = reader.coverage(name, DAYS[0], DAYS[-1] + timedelta(days=1)).to_pylist()
        there = [each for each in rows if each["rows"]]
        assert row["files"] == len(there)
        assert row["bytes"] == sum(each["bytes"] for each in there)
        assert (row["first"], row["last"], row["days"]) == (FIRST, LAST, len(DAYS))
        named = len({each["instrument_id"] for each in there})
        assert row["instruments"] == (None if name == "available_instruments" else named)
    assert [row["dataset"] for row in lines(told(lake, "ls"))] == list(found)


def test_ls_of_a_dataset_tells_its_days(lake: Path) -> None:
    rows = lines(told(lake, "ls", "trades"))
    assert [row["day"] for row in rows] == [str(day) for day in DAYS]
    assert [int(row["files"]) for row in rows] == [len(INSTRUMENTS)] * (len(DAYS) - 1) + [len(INSTRUMENTS) - 1]
    assert lines(told(lake, "ls", "trades", FIRST, FIRST)) == rows[:1]
    assert lines(told(lake, "ls", "trades", FIRST)) == rows[:1]
    assert "6" in on_a_terminal(lake, "ls", "trades")


def test_coverage_in_a_pipe_is_the_readers(lake: Path) -> None:
    found = objects(told(lake, "coverage", "trades", FIRST, LAST, "--json"))
    expected = MarketDataLake(lake).coverage("trades", DAYS[0], DAYS[-1] + timedelta(days=1)).to_pylist()
    assert [(row["date"], row["instrument_id"], row["rows"]) for row in found] == [
        (str(row["date"]), row["instrument_id"], row["rows"]) for row in expected
    ]
    assert [row["rows"] for row in lines(told(lake, "coverage", "trades", FIRST, LAST))] == [
        str(row["rows"]) for row in expected
    ]
    some = objects(told(lake, "coverage", "trades", FIRST, LAST, "--json", "--instruments", "deribit:*"))
    assert {str(row["instrument_id"]).partition(":")[0] for row in some} == {"deribit"}


def test_coverage_on_a_terminal_has_a_mark_for_each_day(lake: Path) -> None:
    before = DAYS[0] - timedelta(days=1)
    text = on_a_terminal(lake, "coverage", "trades", str(before), LAST)
    (line,) = [line for line in text.splitlines() if line.startswith(FUTURE.id)]
    plain = "".join(mark for mark in line if mark in "·░▒▓█")
    assert len(plain) == len(DAYS) + 1
    assert (plain[0], plain[-1]) == ("·", "·")
    assert "·" not in plain[1:-1]
    assert f"{len(INSTRUMENTS)} instruments, {len(DAYS) + 1} days, {len(INSTRUMENTS) + 1} instrument-days" in text


def test_show_in_a_pipe_gives_all_rows(lake: Path) -> None:
    reader, end = MarketDataLake(lake), DAYS[0] + timedelta(days=1)
    expected = reader.candles(BTC_USD, "1h", DAYS[0], end)
    found = lines(told(lake, "show", BTC_USD.id, FIRST))
    assert [float(row["close"]) for row in found] == expected.column("close").to_pylist()
    assert [row["timestamp"] for row in found] == [at.isoformat() for at in expected.column("timestamp").to_pylist()]
    ticks = objects(told(lake, "show", BTC_USD.id, FIRST, LAST, "--dataset", "trades", "--json"))
    there = reader.ticks(BTC_USD, "trades", DAYS[0], DAYS[-1] + timedelta(days=1))
    assert [row["id"] for row in ticks] == there.column("id").to_pylist()
    listed = objects(told(lake, "show", BTC_USD.id, FIRST, "--dataset", "available_instruments", "--json"))
    assert [row["instrument_id"] for row in listed] == [BTC_USD.id]


def test_show_on_a_terminal_draws_candles_and_what_fits(lake: Path) -> None:
    text = on_a_terminal(lake, "show", BTC_USD.id, FIRST, "-n", "3")
    for part in (f"{BTC_USD}, ohlcv_1h", "volume (base)", "█", "the last 3 of", "more columns do not fit"):
        assert part in text
    ticks = on_a_terminal(lake, "show", BTC_USD.id, FIRST, LAST, "--dataset", "trades", "-n", "30", width=160)
    end = DAYS[-1] + timedelta(days=1)
    rows = MarketDataLake(lake).ticks(BTC_USD, "trades", DAYS[0], end)
    assert f"the last 30 of {rows.num_rows} rows" in ticks
    for name in rows.column("id").to_pylist()[-30:]:
        assert f" {name} " in ticks
    assert max(len(line) for line in text.replace("\x1b[0m", "").splitlines() if line.startswith("│")) <= 100


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather", "csv", "csv.gz"])
def test_what_is_exported_reads_back(lake: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    columns = ["timestamp", "instrument_id", "id", "price"]
    asked = ["trades", FIRST, LAST, "--to", str(target), "--columns", ",".join(columns), "--instruments", "binance:*"]
    done = told(lake, "export", *asked)
    assert done.exit_code == 0, done.output
    end = DAYS[-1] + timedelta(days=1)
    expected = MarketDataLake(lake).ticks("binance:*", "trades", DAYS[0], end, columns=columns)
    assert f"{expected.num_rows:,} rows" in done.output.replace("\n", " ")
    match ending:
        case "parquet":
            found = pq.read_table(target).to_pylist()
        case "arrow" | "feather":
            with pa.OSFile(str(target)) as file:
                found = pa.ipc.open_file(file).read_all().to_pylist()
        case _:
            content = target.read_bytes()
            text = (gzip.decompress(content) if ending.endswith("gz") else content).decode()
            rows = list(csv.DictReader(io.StringIO(text)))
            assert [(row["instrument_id"], row["id"], float(row["price"])) for row in rows] == [
                (row["instrument_id"], row["id"], row["price"]) for row in expected.to_pylist()
            ]
            found = expected.to_pylist()
    assert found == expected.to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_the_map_is_exported_with_its_dates(lake: Path, tmp_path: Path) -> None:
    expected = MarketDataLake(lake).universe(DAYS[0], DAYS[-1] + timedelta(days=1), observed=True)
    for ending in ("parquet", "arrow"):
        target = tmp_path / f"map.{ending}"
        assert told(lake, "export", "available_instruments", FIRST, LAST, "--to", str(target)).exit_code == 0
    found = pq.read_table(tmp_path / "map.parquet")
    assert found.column_names == ["date", *(name for name in expected.column_names if name != "date")]
    assert found.select(expected.column_names).to_pylist() == expected.to_pylist()
    asked = ("available_instruments", FIRST, LAST, "--to", str(tmp_path / "map.csv"), "--columns")
    assert told(lake, "export", *asked, "date,instrument_id").exit_code == 0
    assert len((tmp_path / "map.csv").read_text().splitlines()) == expected.num_rows + 1
    assert "has no column 'year'" in told(lake, "export", *asked, "year", "--force").output


def test_rows_that_were_set_aside_are_shown_and_exported(tmp_path: Path) -> None:
    day, key = date(2024, 8, 8), ("deribit", "ETH-PERPETUAL")
    settings = settings_of(tmp_path, [day])
    rows = [f"deribit,ETH-PERPETUAL,1723118400000000,1723118400000000,1,buy,{price},10\n" for price in (1, -1, 0)]
    write(file_of(tmp_path / "files", *key, day), HEADER + "".join(rows))
    with pipeline(settings) as running:
        assert running.run(day, assets=["trades"]).succeeded
    lake = tmp_path / "lake"
    found = lines(told(lake, "show", SYMBOLS[key], str(day), "--dataset", "quarantine_trades"))
    assert [(row["line"], row["text"]) for row in found] == [("3", rows[1].strip()), ("4", rows[2].strip())]
    target = tmp_path / "aside.parquet"
    done = told(lake, "export", "quarantine_trades", str(day), str(day), "--to", str(target))
    assert done.exit_code == 0, done.output
    exported = pq.read_table(target)
    assert exported.column("line").to_pylist() == [3, 4]
    assert set(exported.column("instrument_id").to_pylist()) == {SYMBOLS[key]}
    assert "no dataset" in told(lake, "export", "quarantine_candles", str(day), str(day), "--to", "x.csv").stderr


def test_text_is_one_line_whatever_it_holds() -> None:
    assert terminal._text(["a\tb", "c\nd\\"]) == "a\\tb,c\\nd\\\\"


def test_an_export_replaces_only_when_told_to(lake: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    target.write_text("mine")
    asked = ("export", "ohlcv_1h", FIRST, LAST, "--to", str(target))
    refused = told(lake, *asked)
    assert refused.exit_code == 1
    assert "is there already; --force replaces it" in refused.output
    assert target.read_text() == "mine"
    assert told(lake, *asked, "--force").exit_code == 0
    end = DAYS[-1] + timedelta(days=1)
    assert pq.read_table(target).num_rows == MarketDataLake(lake).candles(None, "1h", DAYS[0], end).num_rows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "nothing"), "'nothing' is no dataset; there are trades"),
        (("coverage", "trades", LAST, FIRST), "the range ends"),
        (("show", "BTC", FIRST), "BTC"),
        (("export", "trades", FIRST, LAST, "--to", "x.xlsx"), "ends in .parquet, .arrow"),
        (("export", "trades", FIRST, LAST, "--to", "x.csv", "--columns", "a"), "trades has no column 'a'"),
        (("export", "trades", "2020-01-01", "2020-01-02", "--to", "x.csv"), "nothing lies there"),
        (("export", "available_instruments", FIRST, LAST, "--to", "x.csv"), "CSV has no lists"),
        (("export", "trades", FIRST, LAST, "--to", "no/such/folder/x.csv"), "cannot be written"),
        (("export", "instruments", FIRST, LAST, "--to", "x.csv"), "ask for that"),
    ],
)
def test_what_cannot_be_is_named(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = told(lake, *arguments)
    assert done.exit_code == 1, done.output
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_lies_there_is_told_what_to_do(tmp_path: Path) -> None:
    for arguments in (("ls",), ("coverage", "trades", FIRST, LAST), ("show", BTC_USD.id, FIRST)):
        done = told(tmp_path / "empty", *arguments)
        assert done.exit_code == 0, done.output
        assert done.stdout == ""
        assert "market-data ls" in done.stderr


def test_a_pipe_that_is_closed_ends_it_silently(lake: Path) -> None:
    environment = os.environ | {"MARKET_DATA_LAKE": str(lake)}
    command = f"{COMMAND} show {BTC_USD.id} {FIRST} {LAST} --timeframe 1m | head -1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("timestamp\tclose_time")
    assert done.stderr == ""
    assert date.fromisoformat(FIRST) == DAYS[0]


def test_sql_answers_with_one_line_a_row(lake: Path) -> None:
    query = "select date, count(*) as n, max(timestamp) as last from trades where venue = 'deribit' group by date"
    rows = objects(told(lake, "sql", f"{query} order by date", "--json"))
    assert [row["date"] for row in rows] == [str(day) for day in DAYS]
    assert [row["n"] for row in rows] == [48, 48, 32]
    found = lines(told(lake, "sql", f"{query} order by date"))
    assert [(row["date"], int(row["n"]), row["last"]) for row in found] == [tuple(row.values()) for row in rows]
    shown = on_a_terminal(lake, "sql", f"{query} order by date")
    assert "3 rows" in shown
    assert LAST in shown


def test_sql_takes_days_of_which_both_are_included(lake: Path) -> None:
    query = "select distinct timestamp::date as day from ohlcv_1m order by day"
    for options, expected in (
        ((), DAYS),
        (("--from", str(DAYS[1])), DAYS[1:]),
        (("--to", str(DAYS[1])), DAYS[:2]),
        (("--from", str(DAYS[1]), "--to", str(DAYS[1])), DAYS[1:2]),
    ):
        assert [row["day"] for row in lines(told(lake, "sql", query, *options))] == [str(day) for day in expected]


def test_sql_gives_json_that_is_json(lake: Path) -> None:
    (row,) = objects(
        told(lake, "sql", "select 'nan'::double as a, 'inf'::double as b, 'x'::blob as c, 1.5 as d", "--json")
    )
    assert row == {"a": None, "b": None, "c": "78", "d": "1.5"}
    (row,) = objects(told(lake, "sql", "select ['nan'::double, 2] as a, {'b': [{'c': '-inf'::double}]} as d", "--json"))
    assert row == {"a": [None, 2.0], "d": {"b": [{"c": None}]}}


@pytest.mark.parametrize("arguments", [("select 'infinity'::date",), ("select 1", "--to", "9999-12-31")])
def test_sql_of_times_that_nobody_has_ends_with_a_clear_error(lake: Path, arguments: tuple[str, ...]) -> None:
    done = told(lake, "sql", *arguments)
    assert done.exit_code == 1
    assert "outside the years 1 to 9999" in done.output


def test_sql_without_rows_has_its_columns(lake: Path) -> None:
    done = told(lake, "sql", "select price, amount from liquidations")
    assert (done.exit_code, done.stdout) == (0, "price\tamount\n")
    assert told(lake, "sql", "from liquidations", "--json").stdout == ""
    assert "price" in on_a_terminal(lake, "sql", "select price from liquidations")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("from tradez",), "The datasets are trades, book_snapshot_5"),
        (("copy trades to 'x.csv'",), "a query only reads"),
        (("selec",), "syntax error"),
        (("from trades", "--from", LAST, "--to", FIRST), "before it starts"),
        (("from trades", "--from", "yesterday"), "write it as 2024-08-08"),
    ],
)
def test_sql_that_cannot_be_answered_ends_with_a_clear_error(
    lake: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = told(lake, "sql", *arguments)
    assert done.exit_code != 0
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
