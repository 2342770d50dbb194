import gzip
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data_pipeline.model.datasets import DATASETS, Kind
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources.formats import unpack, usable
from market_data_pipeline.sources.formats.binance_csv import Market, market_by_columns, read_binance_trades
from market_data_pipeline.sources.formats.tardis_csv import read_tardis, vendor_name
from market_data_pipeline_tests.sources.vendor_files import (
    CM,
    CM_HEADER,
    DAY,
    NOON,
    SPOT_MS,
    SPOT_US,
    TARDIS_HEADER,
    UM,
    UM_HEADER,
    tardis_line,
    write,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
SAMPLES = FIXTURES / "tardis_samples"
TRADES = DATASETS["trades"]


def tardis(path, data_type="trades", day=DAY, exchange="binance-futures", symbol="BTCUSDT"):
    rejects = Rejects()
    batches = list(read_tardis(path, DATASETS[data_type], day, exchange, symbol, rejects))
    return pa.Table.from_batches(batches, DATASETS[data_type].own_schema), rejects


def binance(path, market=Market.UM, day=DAY):
    rejects = Rejects()
    batches = list(read_binance_trades(path, market, day, rejects))
    return pa.Table.from_batches(batches, TRADES.own_schema), rejects


@pytest.fixture
def trades(tmp_path):
    return lambda *lines, header=TARDIS_HEADER: write(tmp_path / "t.csv.gz", [header, *lines])


class TestRealFiles:
    def test_the_two_vendors_agree_on_a_real_day(self):
        ours, rejects = tardis(FIXTURES / "tardis" / "binance-futures_trades_2024-08-08_BTCUSDT.csv.gz")
        folder = FIXTURES / "binance" / "futures" / "um" / "daily" / "trades" / "BTCUSDT"
        theirs, others = binance(folder / "BTCUSDT-trades-2024-08-08.csv.gz")
        assert not rejects
        assert not others
        assert ours.num_rows == 21_313
        own = ["timestamp", "id", "side", "price", "amount"]
        assert ours.sort_by("id").select(own).to_pylist() == theirs.sort_by("id").select(own).to_pylist()
        assert theirs["local_timestamp"] == theirs["timestamp"]
        # the capture's clock runs behind the exchange's
        delay = pc.subtract(ours["local_timestamp"], ours["timestamp"]).cast(pa.int64())
        assert -1_300_000 < pc.min(delay).as_py() < pc.max(delay).as_py() < -1_000_000

    def test_real_minutes_have_the_exchanges_volume(self):
        rows, _ = tardis(FIXTURES / "tardis" / "binance-futures_trades_2024-08-08_BTCUSDT.csv.gz")
        last = rows.filter(pc.greater_equal(rows["timestamp"], datetime(2024, 8, 8, 23, 55, tzinfo=UTC)))
        assert last.num_rows == 19_562
        assert pc.sum(last["amount"]).as_py() == pytest.approx(2303.399, abs=1e-9)
        assert (last["price"][0].as_py(), last["price"][-1].as_py()) == (61807.7, 61659.8)

    @pytest.mark.parametrize(
        ("name", "data_type", "exchange", "symbol", "day", "first"),
        [
            (
                "bitmex_trades_2020-03-01_XBTUSD.csv",
                "trades",
                "bitmex",
                "XBTUSD",
                date(2020, 3, 1),
                {"id": "ccc3c1fa-212c-e8b0-1706-9b9c4f3d5ecf", "side": "sell", "price": 8531.5, "amount": 2152.0},
            ),
            (
                "binance-futures_liquidations_2021-09-19_BTCUSDT.csv",
                "liquidations",
                "binance-futures",
                "BTCUSDT",
                date(2021, 9, 19),
                {"id": None, "side": "sell", "price": 48283.81, "amount": 0.01},
            ),
            (
                "bitmex_derivative_ticker_2020-04-01_ETHUSD.csv",
                "derivative_ticker",
                "bitmex",
                "ETHUSD",
                date(2020, 4, 1),
                {
                    "timestamp": datetime(2020, 3, 31, 23, 59, 59, 651000, UTC),
                    "funding_timestamp": datetime(2020, 4, 1, 4, tzinfo=UTC),
                    "funding_rate": 0.0001,
                    "open_interest": 45921455.0,
                    "mark_price": 133.15,
                },
            ),
            (
                "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv",
                "book_snapshot_5",
                "binance-futures",
                "BTCUSDT",
                date(2020, 9, 1),
                {"ask_price_1": 11657.08, "ask_amount_1": 1.714, "bid_price_1": 11657.07, "bid_amount_5": 0.111},
            ),
            (
                "binance-futures_book_snapshot_25_2020-09-01_BTCUSDT.csv",
                "book_snapshot_25",
                "binance-futures",
                "BTCUSDT",
                date(2020, 9, 1),
                {"ask_price_1": 11657.08, "ask_price_25": 11659.34, "bid_price_25": 11653.25, "bid_amount_25": 1.003},
            ),
        ],
    )
    def test_the_vendors_samples(self, name, data_type, exchange, symbol, day, first):
        rows, rejects = tardis(SAMPLES / name, data_type, day, exchange, symbol)
        assert not rejects
        assert rows.num_rows == len((SAMPLES / name).read_text().splitlines()) - 1
        assert {column: rows[column][0].as_py() for column in first} == first

    def test_an_options_chain(self, tmp_path):
        lines = (SAMPLES / "deribit_options_chain_2020-06-08_OPTIONS.csv").read_text().splitlines()
        own = [lines[0], *(line for line in lines if "BTC-9JUN20-9875-P" in line)]
        path = write(tmp_path / "o.csv.gz", own)
        rows, rejects = tardis(path, "options_chain", date(2020, 6, 8), "deribit", "BTC-9JUN20-9875-P")
        assert not rejects
        first = rows.slice(0, 1).to_pylist()[0]
        assert (first["type"], first["strike_price"], first["bid_iv"], first["rho"]) == ("put", 9875, 55.91, -0.22796)
        assert first["expiration"] == datetime(2020, 6, 9, 8, tzinfo=UTC)
        assert first["underlying_index"] == "SYN.BTC-9JUN20"

    @pytest.mark.parametrize(
        ("exchange", "told", "percent"),
        [("okex-options", 0.779, 77.9), ("binance-european-options", 0.5, 50.0), ("bybit-options", 77.9, 77.9)],
    )
    def test_volatilities_are_in_percent_whatever_the_venue_tells(self, tmp_path, exchange, told, percent):
        names = [vendor_name(column.name) for column in DATASETS["options_chain"].columns]
        at = "1591574400000000"
        row = dict.fromkeys(names, "") | {"timestamp": at, "local_timestamp": at, "type": "put", "strike_price": "9875"}
        row |= {"expiration": "1591689600000000", "mark_iv": str(told), "bid_iv": str(told), "delta": "-0.25"}
        made = [",".join(["exchange", "symbol", *names]), ",".join([exchange, "X", *row.values()])]
        rows, rejects = tardis(write(tmp_path / "o.csv.gz", made), "options_chain", date(2020, 6, 8), exchange, "X")
        assert not rejects
        (found,) = rows.select(["bid_iv", "ask_iv", "mark_iv", "delta"]).to_pylist()
        assert found["mark_iv"] == found["bid_iv"] == pytest.approx(percent)
        assert (found["ask_iv"], found["delta"]) == (None, -0.25)


def test_every_tick_dataset_has_its_vendors_columns():
    assert vendor_name("ask_price_1") == "asks[0].price"
    assert vendor_name("bid_amount_25") == "bids[24].amount"
    header = (SAMPLES / "binance-futures_book_snapshot_25_2020-09-01_BTCUSDT.csv").read_text().split("\n", 1)[0]
    assert header.split(",")[2:] == [vendor_name(column.name) for column in DATASETS["book_snapshot_25"].columns]
    assert [name for name, dataset in DATASETS.items() if dataset.kind is Kind.TICKS]


class TestTardis:
    def test_columns_in_any_order_and_new_ones_at_the_end(self, tmp_path):
        header = "amount,price,side,id,local_timestamp,timestamp,symbol,exchange,liquidity"
        row = f"0.5,61000.5,sell,x,{NOON + 1},{NOON},BTCUSDT,binance-futures,maker"
        path = write(tmp_path / "t.csv", [header, row])
        rows, _ = tardis(path)
        assert rows.select(["id", "side", "price", "amount"]).to_pylist() == [
            {"id": "x", "side": "sell", "price": 61000.5, "amount": 0.5}
        ]

    def test_an_empty_day_is_no_error(self, tmp_path):
        for lines in ([], [TARDIS_HEADER]):
            rows, rejects = tardis(write(tmp_path / "t.csv.gz", lines))
            assert rows.num_rows == 0
            assert not rejects

    def test_empty_values(self, trades, tmp_path):
        rows, _ = tardis(trades(tardis_line(id="", local_timestamp="")))
        assert rows["id"].to_pylist() == [None]
        assert rows["local_timestamp"] == rows["timestamp"]
        lines = (SAMPLES / "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv").read_text().splitlines()[:2]
        thin = write(tmp_path / "b.csv", [lines[0], lines[1].rsplit(",", 2)[0] + ",,"])
        book, _ = tardis(thin, "book_snapshot_5", date(2020, 9, 1))
        assert book["bid_price_5"].to_pylist() == book["bid_amount_5"].to_pylist() == [None]

    @pytest.mark.parametrize("ending", ["\r\n", "\n"])
    def test_line_ends_and_a_byte_order_mark(self, tmp_path, ending):
        path = tmp_path / "t.csv"
        path.write_text("\ufeff" + ending.join([TARDIS_HEADER, tardis_line(), tardis_line()]), newline="")
        assert tardis(path)[0].num_rows == 2

    @pytest.mark.parametrize(
        ("changed", "complaint"),
        [
            ({"price": "abc"}, "price 'abc' is no number"),
            ({"price": "nan"}, "price 'nan' is no number"),
            ({"price": "-inf"}, "price '-inf' is no number"),
            ({"price": "1e999"}, "price '1e999' is no number"),
            ({"price": "0x1p3"}, "price '0x1p3' is no number"),
            ({"price": "NULL"}, "price 'NULL' is no number"),
            ({"price": ""}, "price is empty, but a value is needed"),
            ({"amount": "1_0"}, "amount '1_0' is no number"),
            ({"amount": '"1.0"'}, "amount '\"1.0\"' is no number"),
            ({"timestamp": ""}, "timestamp is empty"),
            ({"timestamp": "1.5"}, "timestamp '1.5' is no whole number"),
            ({"timestamp": hex(NOON)}, "timestamp '0x.*' is no whole number"),
            ({"local_timestamp": "0X10"}, "local_timestamp '0X10' is no whole number"),
            ({"timestamp": "9" * 30}, "timestamp '9*' is too large"),
            ({"amount": "1,2"}, "9 columns, expected 8; found 'binance-futures,BTCUSDT"),
        ],
    )
    def test_what_is_no_number_is_named_by_file_line_and_column(self, trades, monkeypatch, changed, complaint):
        monkeypatch.setattr(unpack, "BLOCK", 500)
        good = [tardis_line(id=f"{i}0x") for i in range(40)]
        path = trades(*good, tardis_line(**changed), tardis_line(price="later"))
        with pytest.raises(SourceError, match=rf"t\.csv\.gz line 42: {complaint}"):
            tardis(path)

    def test_an_empty_line_amid_the_rows_is_an_error(self, trades):
        with pytest.raises(SourceError, match="line 3: 1 columns, expected 8"):
            tardis(trades(tardis_line(), "", tardis_line()))

    def test_what_is_no_utf8_is_named(self, tmp_path):
        path = tmp_path / "t.csv.gz"
        path.write_bytes(gzip.compress(f"{TARDIS_HEADER}\n{tardis_line(id='é')}\n".encode("latin-1")))
        with pytest.raises(SourceError, match=r"line 2: id .* is no UTF-8 text"):
            tardis(path)

    @pytest.mark.parametrize(
        ("header", "complaint"),
        [
            (
                TARDIS_HEADER.replace("price", "prix"),
                "column 'price' is missing from the header 'exchange,.*prix,amount'",
            ),
            (f"{TARDIS_HEADER},price", "column 'price' stands twice in"),
            (tardis_line(), "column 'exchange' is missing"),
        ],
    )
    def test_a_missing_column_is_named_with_the_header(self, trades, header, complaint):
        with pytest.raises(SourceError, match=rf"t\.csv\.gz line 1: {complaint}"):
            tardis(trades(tardis_line(), header=header))

    def test_rows_that_cannot_be_used_are_counted_by_reason(self, trades, monkeypatch):
        monkeypatch.setattr(unpack, "BLOCK", 300)
        bad = [
            {"price": "0"},
            {"price": "-1", "amount": "0"},
            {"amount": "0.000"},
            {"side": "BUY"},
            {"side": ""},
            {"exchange": "binance"},
            {"symbol": "ETHUSDT"},
            {"timestamp": NOON - 36 * 3_600_000_000 - 1},
            {"timestamp": NOON + 36 * 3_600_000_000},
        ]
        path = trades(tardis_line(id="kept"), *(tardis_line(**row) for row in bad), tardis_line(id="too"))
        rows, rejects = tardis(path)
        assert rows["id"].to_pylist() == ["kept", "too"]
        assert rejects.because == {
            f"price is not above 0 (first in {path} line 3: '0.0')": 2,
            f"amount is not above 0 (first in {path} line 5: '0.0')": 1,
            f"side is not buy, sell or unknown (first in {path} line 6: 'BUY')": 2,
            f"exchange is not binance-futures (first in {path} line 8: 'binance')": 1,
            f"symbol is not BTCUSDT (first in {path} line 9: 'ETHUSDT')": 1,
            f"timestamp is further than a day from 2024-08-08 (first in {path} line 10: '{NOON - 129_600_000_001}')": 2,
        }

    def test_numbers_that_would_overflow_are_set_aside(self, trades):
        path = trades(tardis_line(price="1" + 30 * "0"), tardis_line(amount="1e308"), tardis_line(price="1e31"))
        rows, rejects = tardis(path)
        assert rows["price"].to_pylist() == [1e30]
        assert rejects.because == {
            f"amount is above 1e+30 (first in {path} line 3: '1e+308')": 1,
            f"price is above 1e+30 (first in {path} line 4: '1e+31')": 1,
        }

    def test_rows_set_aside_are_kept_as_they_stood(self, trades, monkeypatch):
        monkeypatch.setattr(unpack, "BLOCK", 300)
        monkeypatch.setattr(usable, "KEPT_OF_A_REASON", 2)
        lines = [tardis_line(), *(tardis_line(price="0", id=f"n{n}") for n in range(3)), tardis_line(side="BUY")]
        path = trades(*lines)
        _, rejects = tardis(path)
        assert [(row.origin, row.line, row.reason, row.text) for row in rejects.rows] == [
            (path.name, 3, "price is not above 0", lines[1]),
            (path.name, 4, "price is not above 0", lines[2]),
            (path.name, 6, "side is not buy, sell or unknown", lines[4]),
        ]
        assert rejects.counts == {"price is not above 0": 3, "side is not buy, sell or unknown": 1}

    def test_a_rotten_file_keeps_a_bounded_number_of_bounded_rows(self, trades, monkeypatch):
        monkeypatch.setattr(usable, "KEPT_OF_A_FILE", 3)
        monkeypatch.setattr(usable, "LONGEST_TEXT", 20)
        bad = [{"price": "0"}, {"side": "x"}, {"price": "0"}, {"side": "x"}, {"amount": "0"}]
        _, rejects = tardis(trades(tardis_line(), *(tardis_line(**row) for row in bad)))
        assert len(rejects.rows) == 3
        assert sum(rejects.counts.values()) == 5
        assert all(len(row.text) == 20 for row in rejects.rows)

    def test_a_day_to_either_side_is_kept(self, trades):
        edges = [NOON - 36 * 3_600_000_000, NOON + 36 * 3_600_000_000 - 1]
        assert tardis(trades(*(tardis_line(timestamp=edge) for edge in edges)))[0].num_rows == 2

    def test_a_file_of_which_no_row_can_be_used_is_an_error(self, trades):
        path = trades(*(tardis_line(timestamp=(NOON + i) * 1000) for i in range(3)))
        with pytest.raises(SourceError, match="none of its 3 rows can be used; timestamp is further than a day"):
            tardis(path)

    def test_symbols_are_compared_as_file_names_have_them(self, tmp_path):
        path = write(tmp_path / "t.csv", [TARDIS_HEADER, tardis_line(exchange="kraken", symbol="xbt/USD")])
        assert tardis(path, exchange="kraken", symbol="XBT-USD")[0].num_rows == 1

    def test_order_is_the_files_own_across_blocks(self, trades, monkeypatch):
        monkeypatch.setattr(unpack, "BLOCK", 10_000)
        path = trades(*(tardis_line(id=i) for i in range(5000)))
        batches = list(read_tardis(path, TRADES, DAY, "binance-futures", "BTCUSDT", Counter()))
        assert len(batches) > 10
        assert [text for batch in batches for text in batch.column("id").to_pylist()] == [str(i) for i in range(5000)]
        assert all(batch.schema.equals(TRADES.own_schema) for batch in batches)


class TestBinance:
    def test_spot_in_milliseconds(self, tmp_path):
        rows, rejects = binance(write(tmp_path / "s.zip", [SPOT_MS]), Market.SPOT)
        assert not rejects
        assert rows.to_pylist() == [
            {
                "timestamp": datetime(2024, 8, 8, 12, 0, 0, 123000, UTC),
                "local_timestamp": datetime(2024, 8, 8, 12, 0, 0, 123000, UTC),
                "id": "3723812345",
                "side": "sell",
                "price": 55010.01,
                "amount": 0.001,
            }
        ]

    def test_spot_in_microseconds(self, tmp_path):
        rows, _ = binance(write(tmp_path / "s.zip", [SPOT_US]), Market.SPOT, date(2025, 1, 1))
        assert rows["timestamp"].to_pylist() == [datetime(2025, 1, 1, 0, 0, 0, 23177, UTC)]
        assert rows["side"].to_pylist() == ["buy"]

    @pytest.mark.parametrize("header", [[], [UM_HEADER], ["id,price,qty,quoteQty,time,isBuyerMaker"]])
    @pytest.mark.parametrize("suffix", ["zip", "csv", "csv.gz"])
    def test_um_with_and_without_header(self, tmp_path, header, suffix):
        rows, _ = binance(write(tmp_path / f"u.{suffix}", [*header, UM]))
        assert rows.select(["id", "side", "price", "amount"]).to_pylist() == [
            {"id": "5266583935", "side": "buy", "price": 61800.3, "amount": 0.006}
        ]

    @pytest.mark.parametrize("header", [[], [CM_HEADER]])
    def test_cm_counts_contracts(self, tmp_path, header):
        rows, _ = binance(write(tmp_path / "c.zip", [*header, CM]), Market.CM)
        assert rows["amount"].to_pylist() == [12.0]
        assert rows["side"].to_pylist() == ["sell"]

    @pytest.mark.parametrize(("text", "side"), [("True", "sell"), ("true", "sell"), ("1", "sell"), ("0", "buy")])
    def test_the_buyer_as_maker_means_the_taker_sold(self, tmp_path, text, side):
        rows, _ = binance(write(tmp_path / "u.csv", [UM.replace("false", text)]))
        assert rows["side"].to_pylist() == [side]

    @pytest.mark.parametrize(
        ("market", "lines", "complaint"),
        [
            (Market.SPOT, [UM], "taken for trades of binance, .*6 columns"),
            (Market.UM, [SPOT_MS], "taken for trades of binance-futures, .*7 columns"),
            (Market.UM, [CM_HEADER, CM], "taken for trades of binance-futures, .*base_qty"),
            (Market.SPOT, [UM_HEADER, UM], "taken for trades of binance, "),
            (Market.UM, ["id,price,qty,time", "1,2,3,4"], "column 'is_buyer_maker' is missing from the header"),
            (Market.UM, [UM, UM.replace("61800.30", "abc")], "line 2: price 'abc' is no number"),
            (Market.UM, [UM_HEADER, UM, UM.replace("false", "maybe")], "line 3: is_buyer_maker 'maybe' is neither"),
            (Market.UM, [UM.replace("1723118400322", "")], "line 1: time is empty"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, market, lines, complaint):
        with pytest.raises(SourceError, match=rf"u\.csv.* {complaint}"):
            binance(write(tmp_path / "u.csv", lines), market)

    def test_rows_that_cannot_be_used_are_counted(self, tmp_path):
        path = write(tmp_path / "u.csv", [UM, UM.replace("0.006", "0"), UM.replace("1723118400322", "9" * 18), UM])
        rows, rejects = binance(path)
        assert rows.num_rows == 2
        assert [(row.line, row.text) for row in sorted(rejects.rows, key=lambda row: row.line)] == [
            (2, UM.replace("0.006", "0")),
            (3, UM.replace("1723118400322", "9" * 18)),
        ]
        assert rejects.because == {
            f"qty is not above 0 (first in {path} line 2: '0.0')": 1,
            f"timestamp is further than a day from 2024-08-08 (first in {path} line 3: '{'9' * 18}')": 1,
        }

    def test_numbers_that_would_overflow_are_set_aside(self, tmp_path):
        path = write(tmp_path / "u.csv", [UM, UM.replace("0.006", "1e308"), UM.replace("61800.30", "1" + 31 * "0")])
        rows, rejects = binance(path)
        assert rows.num_rows == 1
        assert rejects.because == {
            f"qty is above 1e+30 (first in {path} line 2: '1e+308')": 1,
            f"price is above 1e+30 (first in {path} line 3: '1e+31')": 1,
        }

    def test_an_empty_archive_is_an_empty_day(self, tmp_path):
        for lines in ([], [UM_HEADER]):
            assert binance(write(tmp_path / "u.zip", lines))[0].num_rows == 0

    def test_columns_tell_the_market(self, tmp_path):
        for lines, market in (
            ([SPOT_MS], Market.SPOT),
            ([UM], Market.UM),
            ([UM_HEADER], Market.UM),
            ([CM_HEADER], Market.CM),
            ([], None),
            (["1,2"], None),
        ):
            assert market_by_columns(write(tmp_path / "x.zip", lines)) is market
