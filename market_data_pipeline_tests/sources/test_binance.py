import hashlib
from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc
import pytest

from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.sources import open_source
from market_data_pipeline.sources.binance.archive import symbol_of
from market_data_pipeline.sources.binance.source import BinanceSource
from market_data_pipeline.sources.formats.binance_klines import KLINES
from market_data_pipeline.sources.symbols import instrument_of
from market_data_pipeline_tests.sources.conftest import QUICK
from market_data_pipeline_tests.sources.source_contract import SourceContract, read
from market_data_pipeline_tests.sources.vendor_days import CM_KLINE, NEW_YEAR, put_day, real_klines, text, um
from market_data_pipeline_tests.sources.vendor_files import DAY, UM, UM_HEADER
from market_data_pipeline_tests.sources.vendor_server import Fault

BTC = Instrument.parse("binance-futures:Perp:BTC-USDT")
COIN = Instrument.parse("binance-delivery:Perp:BTC-USD")


@pytest.fixture
def client(vendor, tmp_path):
    def make(**more) -> BinanceSource:
        return BinanceSource(vendor.remote(cache=tmp_path / "cache", **more), QUICK)

    return make


def found(source: BinanceSource, day: date, selection=None):
    return list(source.files("trades", day, Selection.of(selection)))


def failure(files) -> str:
    (file,) = files
    with pytest.raises(SourceError) as caught:
        read(file)
    return str(caught.value)


class TestBinance(SourceContract):
    day = DAY
    empty_day = date(2018, 12, 1)

    @pytest.fixture(params=[10**9, 0], ids=["cache", "no cache"])
    def source(self, vendor, client, request):
        put_day(vendor)
        vendor.page = 1
        return client(cache_bytes=request.param)


def test_all_markets_of_a_day(vendor, client):
    put_day(vendor)
    files = found(client(), DAY)
    assert [(file.instrument.id, read(file)[0].num_rows) for file in files] == [
        ("binance:SPOT_PAIR:BTC-USDT", 1),
        ("binance-futures:Perp:BTC-USDT", 21_313),
        ("binance-futures:Perp:ETH-USDT", 1),
        ("binance-delivery:Perp:BTC-USD", 1),
    ]
    assert files[1].origin == f"{vendor.url}/data/{um('BTCUSDT', DAY)}"


def test_microseconds_of_spot_from_2025_on(vendor, client):
    put_day(vendor)
    (file,) = found(client(), NEW_YEAR, "binance:*")
    assert read(file)[0]["timestamp"][0].as_py() == datetime(2025, 1, 1, 0, 0, 0, 23_177, tzinfo=UTC)


def test_what_is_named_and_meant_by_a_glob_comes_once(vendor, client):
    put_day(vendor)
    files = found(client(), DAY, [BTC, "binance-futures:*"])
    assert [file.instrument.symbol for file in files] == ["BTC-USDT", "ETH-USDT"]


def test_an_exact_id_needs_no_list(vendor, client):
    put_day(vendor)
    (file,) = found(client(), DAY, BTC)
    assert read(file)[0].num_rows == 21_313
    assert vendor.asked("/bucket") == []


def test_only_markets_and_symbols_that_can_be_meant_are_looked_at(vendor, client):
    put_day(vendor)
    assert len(found(client(), DAY, "binance-futures:*:ETH-*")) == 1
    prefixes = [request.query["prefix"] for request in vendor.requests]
    assert prefixes == ["data/futures/um/daily/trades/", f"data/{um('ETHUSDT', DAY)}"]


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_lists_come_in_pages(vendor, client, page):
    names = [f"A{n}USDT" for n in range(7)]
    for name in names:
        vendor.put_binance(um(name, DAY), text([UM]))
    vendor.page = page
    assert [file.origin.split("/")[-2] for file in found(client(), DAY, "binance-futures:*")] == names


def test_a_list_that_is_none_fails_its_market_alone(vendor, client):
    put_day(vendor)
    for body, why in ((b"<html></html>", "no list of a bucket"), (b"nothing", "no XML")):
        vendor.faults[:] = [Fault("/bucket", status=200, body=body)]
        broken, *others = found(client(), DAY, ["binance:*", "binance-futures:*"])
        assert why in failure([broken])
        assert len(others) == 2
    endless = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    vendor.faults[:] = [Fault("/bucket", times=99, status=200, body=endless)]
    assert "does not end" in failure(found(client(), DAY, "binance:*"))


def test_a_day_without_a_file_is_an_error_only_if_the_instrument_was_named(vendor, client):
    put_day(vendor)
    later = DAY + timedelta(days=1)
    assert found(client(), later, "binance-futures:*") == []
    why = failure(found(client(), later, BTC))
    assert "BTCUSDT-trades-2024-08-09.zip.CHECKSUM: HTTP 404" in why
    assert "nothing was traded, it was not listed, or the day is not there yet" in why
    named, listed = found(client(), DAY, ["binance-futures:Perp:LTC-USDT", "binance-futures:*:ETH-*"])
    assert "LTCUSDT-trades-2024-08-08" in failure([named])
    assert read(listed)[0].num_rows == 1


def test_symbols_without_a_rule_are_told_of_if_they_may_be_meant_and_have_the_day(vendor, client):
    put_day(vendor)
    vendor.put_binance(f"spot/daily/trades/QQQZZZ/QQQZZZ-trades-{DAY}.zip", text([]))
    *_, unknown = found(client(), DAY, "binance:*")
    assert "1 symbols of binance may be meant, but no rule tells what they are: QQQZZZ" in failure([unknown])
    assert len(found(client(), DAY, "binance:*:BTC-*")) == 1
    assert "QQQZZZ" in failure(found(client(), DAY, "binance:*:QQQ-*"))
    assert found(client(), NEW_YEAR, "binance:*:QQQ-*") == []


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_a_wrong_checksum_is_fetched_again_and_then_an_error(vendor, client, cache_bytes):
    put_day(vendor)
    path = f"/data/{um('ETHUSDT', DAY)}"
    eth = Instrument.parse("binance-futures:Perp:ETH-USDT")
    right = vendor.files[f"{path}.CHECKSUM"].content
    source = client(cache_bytes=cache_bytes)
    vendor.put(f"{path}.CHECKSUM", b"0" * 64 + b"  ETHUSDT.zip\n")
    assert f"the vendor's checksum file says {'0' * 64}; fetched 3 times" in failure(found(source, DAY, eth))
    vendor.put(f"{path}.CHECKSUM", b"not a checksum")
    assert ".CHECKSUM: holds no sha256" in failure(found(source, DAY, eth))
    vendor.put(f"{path}.CHECKSUM", right)
    assert read(*found(source, DAY, eth))[0].num_rows == 1
    del vendor.files[f"{path}.CHECKSUM"]
    assert ".CHECKSUM: HTTP 404" in failure(found(source, DAY, eth))


def test_a_damaged_transfer_is_fetched_again(vendor, client):
    put_day(vendor)
    path = f"/data/{um('ETHUSDT', DAY)}"
    whole, checksum = vendor.files[path].content, vendor.files[f"{path}.CHECKSUM"].content
    vendor.put(path, whole[:50] + b"?" + whole[51:])
    # the checksum is asked for first, then the damaged file
    vendor.faults.append(Fault(path, times=2, after=lambda: len(vendor.asked(path)) > 1 and vendor.put(path, whole)))
    rows, _ = read(*found(client(), DAY, "binance-futures:Perp:ETH-USDT"))
    assert rows.num_rows == 1
    assert [request.path.endswith("CHECKSUM") for request in vendor.requests] == [True, False, True, False]
    assert checksum == vendor.files[f"{path}.CHECKSUM"].content


def test_a_kept_file_costs_one_look_at_its_checksum(vendor, client):
    put_day(vendor)
    source = client(cache_bytes=10**9)
    read(*found(source, DAY, BTC))
    vendor.requests.clear()
    assert read(*found(source, DAY, BTC))[0].num_rows == 21_313
    assert [request.path[-9:] for request in vendor.requests] == [".CHECKSUM"]
    vendor.put_binance(um("BTCUSDT", DAY), text([UM_HEADER, UM]))
    assert read(*found(source, DAY, BTC))[0].num_rows == 1


@pytest.mark.parametrize(
    ("venue", "symbol"),
    [
        ("binance", "BTCUSDT"),
        ("binance", "ETHBTC"),
        ("binance", "1000SATSUSDT"),
        ("binance-futures", "BTCUSDT_240927"),
        ("binance-futures", "1000PEPEUSDT"),
        ("binance-delivery", "BTCUSD_PERP"),
        ("binance-delivery", "ETHUSD_240927"),
    ],
)
def test_symbols_lead_back(venue, symbol):
    assert symbol_of(instrument_of(venue, symbol)) == symbol


@pytest.mark.parametrize(
    "id_", ["binance:SPOT_PAIR:ZZZA-EUR", "binance:SPOT_PAIR:BTC-XXX", "binance-futures:Perp:BTC-BRL"]
)
def test_an_id_that_has_no_symbol_is_refused(client, id_):
    with pytest.raises(InstrumentError):
        symbol_of(Instrument.parse(id_))
    assert "quote assets" in failure(found(client(), DAY, id_))


def test_the_exchanges_own_candles(vendor, client):
    put_day(vendor)
    rows = client().klines(BTC, DAY)
    assert rows.schema == KLINES
    lines = [line.split(",") for line in real_klines()]
    assert rows.num_rows == len(lines) == 8
    expected = {"open": 1, "high": 2, "low": 3, "close": 4, "volume": 5, "quote_volume": 7, "buy_volume": 9}
    for name, place in (expected | {"buy_quote_volume": 10, "base_volume": 5, "trade_count": 8}).items():
        assert rows[name].to_pylist() == [float(line[place]) for line in lines], name
    assert rows["timestamp"][0].as_py() == datetime(2024, 8, 8, 23, 52, tzinfo=UTC)
    assert client().klines(BTC, NEW_YEAR) is None
    assert client().klines(Instrument.parse("deribit:Perp:BTC-USD"), DAY) is None


COIN_KLINES = f"futures/cm/daily/klines/BTCUSD_PERP/1m/BTCUSD_PERP-1m-{DAY}.zip"


def test_coin_margined_candles_count_contracts(vendor, client):
    vendor.put_binance(COIN_KLINES, text([CM_KLINE]))
    (row,) = client().klines(COIN, DAY).to_pylist()
    assert (row["volume"], row["buy_volume"], row["trade_count"]) == (120, 50, 7)
    assert (row["quote_volume"], row["buy_quote_volume"]) == (12_000, 5_000)
    assert row["base_volume"] == 0.21776480
    # the archive's own number for the base agrees with the price of the minute
    assert row["quote_volume"] / row["base_volume"] == pytest.approx(55_105.3, rel=1e-3)


def test_klines_with_a_header_and_in_microseconds(vendor, client):
    vendor.put_binance(COIN_KLINES, text([CM_KLINE]))
    header = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,x,ignore"
    plain = client().klines(COIN, DAY)
    micro = CM_KLINE.replace("1723118400000", "1723118400000000")
    for lines in ([header, CM_KLINE], [micro], [header, micro]):
        vendor.put_binance(COIN_KLINES, text(lines))
        assert client().klines(COIN, DAY) == plain
    vendor.put_binance(COIN_KLINES, text([]))
    assert client().klines(COIN, DAY).num_rows == 0
    for lines, why in (
        ([CM_KLINE, CM_KLINE], "not all minutes of 2024-08-08, in order of time"),
        ([CM_KLINE.replace("1723118400000", "1723075140000")], "not all minutes of"),
        ([CM_KLINE.replace("1723118400000", "1723118400001")], "not all minutes of"),
        ([CM_KLINE.replace("1723118400000", "1723161600000")], "not all minutes of"),
        ([UM], "6 columns, expected 12"),
        ([CM_KLINE.replace(",120,", ",much,")], r"line 1: volume 'much' is no number"),
    ):
        vendor.put_binance(COIN_KLINES, text(lines))
        with pytest.raises(SourceError, match=why):
            client().klines(COIN, DAY)


def test_candles_of_the_real_trades_are_the_exchanges(vendor, client):
    put_day(vendor)
    source = client()
    trades, _ = read(*found(source, DAY, BTC))
    minute = source.klines(BTC, DAY)[-1:]
    inside = trades.filter(pc.field("timestamp") >= minute["timestamp"][0])
    assert inside.num_rows == minute["trade_count"][0].as_py()
    assert pc.sum(inside["amount"]).as_py() == pytest.approx(minute["volume"][0].as_py())


def test_contracts_and_names(vendor, client):
    assert client().contract(COIN) == Contract(True, 100.0, VolumeUnit.CONTRACTS)
    assert client().listings(DAY, Selection()) is None
    assert "only trades" in client().describe("liquidations")
    assert list(client().files("liquidations", DAY, Selection())) == []
    assert open_source("binance", None, vendor.remote()).name == "binance"


def test_the_checksums_of_the_server_are_right(vendor):
    url = vendor.put_binance(um("BTCUSDT", DAY), b"1\n")
    path = url.removeprefix(vendor.url)
    assert (
        vendor.files[f"{path}.CHECKSUM"].content.split()[0].decode()
        == hashlib.sha256(vendor.files[path].content).hexdigest()
    )
