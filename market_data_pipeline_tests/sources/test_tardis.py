import json
import logging
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources import open_source
from market_data_pipeline.sources.downloads.http import Refused
from market_data_pipeline.sources.formats.tardis_csv import read_tardis
from market_data_pipeline.sources.symbols import instrument_of
from market_data_pipeline.sources.tardis import api
from market_data_pipeline.sources.tardis import source as tardis
from market_data_pipeline.sources.tardis.master import as_of
from market_data_pipeline.sources.tardis.source import TardisSource
from market_data_pipeline_tests.sources.conftest import QUICK
from market_data_pipeline_tests.sources.source_contract import SourceContract, read
from market_data_pipeline_tests.sources.vendor_days import (
    EXPORTED,
    SAMPLES,
    put_day,
    put_exchange,
    sample_parts,
    symbol,
    text,
)
from market_data_pipeline_tests.sources.vendor_files import DAY, TARDIS_HEADER, tardis_line
from market_data_pipeline_tests.sources.vendor_server import Fault

KEY = "TD.secret-key_0123456789"
BTC = Instrument.parse("binance-futures:Perp:BTC-USDT")
# records as the vendor gives them (nautechsystems/nautilus_trader, crates/adapters/tardis/test_data, LGPL-3.0)
XBTUSD = {
    "id": "XBTUSD",
    "datasetId": "XBTUSD",
    "exchange": "bitmex",
    "baseCurrency": "BTC",
    "quoteCurrency": "USD",
    "settlementCurrency": "BTC",
    "type": "perpetual",
    "active": True,
    "availableSince": "2019-03-30T00:00:00.000Z",
    "priceIncrement": 0.1,
    "amountIncrement": 100,
    "inverse": True,
    "contractType": "inverse_perpetual",
    "contractMultiplier": 1,
    "underlyingIndex": ".BXBT",
    "changes": [
        {"until": "2021-06-08T04:30:00.000Z", "amountIncrement": 1, "minTradeAmount": 1},
        {"until": "2024-07-31T04:00:00.000Z", "priceIncrement": 0.5},
        {"until": "2024-10-22T00:00:00.000Z", "makerFee": 0.0002, "takerFee": 0.00075},
    ],
}
PUT = {
    "id": "BTC-25APR25-200000-P",
    "datasetId": "BTC-25APR25-200000-P",
    "exchange": "deribit",
    "baseCurrency": "BTC",
    "quoteCurrency": "BTC",
    "type": "option",
    "availableSince": "2025-01-31T00:00:00.000Z",
    "expiry": "2025-04-25T08:00:00.000Z",
    "priceIncrement": 0.0001,
    "amountIncrement": 0.1,
    "inverse": True,
    "contractMultiplier": 1,
    "strikePrice": 200000,
    "optionType": "put",
    "listing": "2025-01-31T20:38:40.000Z",
}


@pytest.fixture
def client(vendor, tmp_path):
    def make(**more) -> TardisSource:
        return TardisSource(vendor.remote(cache=tmp_path / "cache", **more), QUICK)

    return make


def found(source: TardisSource, day: date, selection, data_type: str = "trades"):
    return list(source.files(data_type, day, Selection.of(selection)))


def batches(file) -> list:
    return list(file.read(Rejects()))


def failure(files) -> str:
    (file,) = files
    with pytest.raises(SourceError) as caught:
        read(file)
    return str(caught.value)


class TestTardis(SourceContract):
    day = DAY
    empty_day = date(2018, 12, 1)
    everything = Selection.of("binance*:*:*-*t")
    told_ahead = False  # without a key only the first day of a month can be had

    @pytest.fixture(params=[10**9, 0], ids=["cache", "no cache"])
    def source(self, vendor, client, request):
        put_day(vendor)
        # not all venues of the glob are there: their lists are empty
        for venue in ("binance-us", "binance-delivery", "binance-options", "binance-european-options"):
            put_exchange(vendor, venue)
        return client(cache_bytes=request.param)


def test_with_a_key_there_is_every_day_and_without_one_the_first_of_each_month(client):
    first, second = date(2024, 8, 1), date(2024, 8, 2)
    assert client().days_with("trades", [first, second], Selection()) == {first}
    assert client(tardis_key="key").days_with("trades", [first, second], Selection()) == {first, second}


@pytest.mark.parametrize("cache_bytes", [10**9, 0])
@pytest.mark.parametrize("sample", [path for path in SAMPLES if "options_chain" not in path.name], ids=lambda p: p.stem)
def test_the_vendors_samples_come_over_the_network_as_they_are(vendor, client, sample: Path, cache_bytes):
    put_day(vendor)
    exchange, data_type, day, name = sample_parts(sample)
    rows, rejects = read(*found(client(cache_bytes=cache_bytes), day, instrument_of(exchange, name), data_type))
    dataset = DATASETS[data_type]
    assert rows.to_batches() == list(read_tardis(sample, dataset, day, exchange, name, Counter()))
    assert rows.num_rows >= 9
    assert not rejects


def test_a_real_day_comes_whole_although_the_line_keeps_breaking(vendor, client):
    put_day(vendor)
    for cache_bytes in (0, 10**9):
        vendor.faults[:] = [Fault("/BTCUSDT.csv.gz", times=10, cut=40_000)]
        rows, _ = read(*found(client(cache_bytes=cache_bytes), DAY, BTC))
        assert rows.num_rows == 21_313


def test_the_address_is_the_vendors(vendor, client):
    put_exchange(vendor, "kraken", symbol("XBT/USD", "spot", ("trades",)))
    (file,) = found(client(), DAY, "kraken:SPOT_PAIR:BTC-USD")
    assert file.origin == f"{vendor.url}/v1/kraken/trades/2024/08/08/XBT-USD.csv.gz"
    assert file.instrument == Instrument.parse("kraken:SPOT_PAIR:BTC-USD")


def test_an_id_finds_its_symbol_in_the_vendors_list(vendor, client):
    put_exchange(vendor, "bitmex", symbol("XBTUSD", "perpetual"), symbol("ETHUSD", "perpetual"))
    (file,) = found(client(), DAY, "bitmex:Perp:BTC-USD")
    assert file.origin.endswith("/XBTUSD.csv.gz")
    why = failure(found(client(), DAY, "bitmex:Perp:LTC-USD"))
    assert "bitmex:Perp:LTC-USD: Tardis has no symbol of it" in why
    assert f"{vendor.url}/api/exchanges/bitmex" in why


def test_what_is_named_and_meant_by_a_glob_comes_once(vendor, client):
    put_day(vendor)
    files = found(client(), DAY, [BTC, "binance-futures:*"])
    assert [file.instrument.symbol for file in files] == ["BTC-USDT", "ETH-USDT"]


def test_only_venues_that_can_be_meant_are_asked(vendor, client):
    put_day(vendor)
    source = client()
    assert found(source, DAY, ["deribit:Perp:*", "binance-f*:BTC-*"]) != []
    assert {request.path for request in vendor.requests} == {
        "/api/exchanges/deribit",
        "/api/exchanges/binance-futures",
    }
    for selection in (None, "*:SPOT_PAIR:BTC-USDT", "*btc*"):
        with pytest.raises(SourceError, match="name the exchanges that Tardis is asked for, such as"):
            source.files("trades", DAY, Selection.of(selection))
    with pytest.raises(SourceError, match="name the exchanges"):
        source.listings(DAY, Selection())


def test_a_data_type_that_an_instrument_does_not_have_is_no_error(vendor, client):
    put_day(vendor)
    assert found(client(), DAY, "binance:SPOT_PAIR:BTC-USDT", "liquidations") == []
    assert found(client(), DAY, BTC, "quotes") == []


def test_a_day_without_the_instrument_is_an_error_only_if_it_was_named(vendor, client):
    put_exchange(vendor, "binance-futures", symbol("BTCUSDT", "perpetual", since="2024-08-09"))
    why = failure(found(client(), DAY, BTC))
    assert why == f"{BTC} on {DAY}: Tardis has trades of BTCUSDT from 2024-08-09 on; choose such a day"
    assert found(client(), DAY, "binance-futures:*") == []


def test_an_empty_day_is_an_empty_gzip(vendor, client):
    put_day(vendor)
    vendor.put_tardis("binance-futures", "trades", DAY, "BTCUSDT", b"")
    for cache_bytes in (0, 10**9):
        assert batches(*found(client(cache_bytes=cache_bytes), DAY, BTC)) == []


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_a_missing_file_names_the_remedy(vendor, client, cache_bytes):
    put_day(vendor)
    del vendor.files["/v1/binance-futures/trades/2024/08/08/BTCUSDT.csv.gz"]
    why = failure(found(client(cache_bytes=cache_bytes), DAY, BTC))
    assert why == (
        f"{vendor.url}/v1/binance-futures/trades/2024/08/08/BTCUSDT.csv.gz: HTTP 404 There is no such file; not there, "
        "or not yet: a day is ready about 06:00 UTC on the next"
    )


def test_the_last_day_of_a_symbol_may_lack_a_file(vendor, client):
    put_exchange(vendor, "deribit", symbol("BTC-9AUG24", "future", to=DAY + timedelta(days=1)))
    (file,) = found(client(), DAY + timedelta(days=1), "deribit:*")
    assert batches(file) == []
    assert found(client(), DAY + timedelta(days=2), "deribit:*") == []


def test_a_day_after_the_exports_is_asked_for(vendor, client):
    put_day(vendor)
    assert "not yet" in failure(found(client(), EXPORTED + timedelta(days=3), BTC))


def test_keys(vendor, client, caplog):
    put_day(vendor)
    first = DAY.replace(day=1)
    vendor.key = KEY
    put_text = text([TARDIS_HEADER, tardis_line()])
    vendor.put_tardis("binance-futures", "trades", first, "BTCUSDT", put_text.replace(b"17231184", b"17225136"))
    assert "set TARDIS_API_KEY; without a key only the first day of each month is free" in failure(
        found(client(), DAY, BTC)
    )
    assert read(*found(client(), first, BTC))[0].num_rows == 1
    assert read(*found(client(tardis_key=KEY), DAY, BTC))[0].num_rows == 21_313
    wrong = failure(found(client(tardis_key="TD.wrong"), DAY, BTC))
    assert (
        "HTTP 401 Invalid API key provided: Bearer ***; the vendor does not accept the key in TARDIS_API_KEY" in wrong
    )
    vendor.faults.append(Fault("/v1/", status=403, body=b"no plan"))
    assert "HTTP 403 no plan; your subscription does not include it" in failure(found(client(), DAY, BTC))
    vendor.faults.append(Fault("/v1/", status=400, body=b"bad date"))
    assert "HTTP 400 bad date; the vendor does not understand" in failure(found(client(), DAY, BTC))
    assert KEY not in caplog.text


def test_a_torn_gzip_is_named_and_fetched_anew_the_next_time(vendor, client):
    put_day(vendor)
    path = "/v1/binance-futures/trades/2024/08/08/BTCUSDT.csv.gz"
    whole = vendor.files[path].content
    for cache_bytes in (0, 10**9):
        vendor.put(path, whole[:-1000])
        source = client(cache_bytes=cache_bytes)
        assert f"{vendor.url}{path}: torn or damaged" in failure(found(source, DAY, BTC))
        vendor.put(path, whole)
        assert read(*found(source, DAY, BTC))[0].num_rows == 21_313


def test_a_bad_line_is_named_by_address_and_line(vendor, client):
    put_day(vendor)
    lines = [TARDIS_HEADER, tardis_line(), tardis_line(price="12,5")]
    url = vendor.put_tardis("binance-futures", "trades", DAY, "BTCUSDT", text(lines))
    for cache_bytes in (0, 10**9):
        assert f"{url} line 3: 9 columns, expected 8" in failure(found(client(cache_bytes=cache_bytes), DAY, BTC))


def test_a_file_replaced_between_two_runs_is_read_anew(vendor, client):
    put_day(vendor)
    source = client(cache_bytes=10**9)
    read(*found(source, DAY, BTC))
    vendor.put_tardis("binance-futures", "trades", DAY, "BTCUSDT", text([TARDIS_HEADER, tardis_line()]))
    assert read(*found(source, DAY, BTC))[0].num_rows == 1


def test_symbols_without_a_rule_are_told_of_once(vendor, client):
    unknown = [symbol(f"XBTZ{n}", "future") for n in range(20, 32)]
    put_exchange(vendor, "bitmex", symbol("XBTUSD", "perpetual"), *unknown, symbol("A-B-C", "combo"))
    perpetual, others = found(client(), DAY, "bitmex:*")
    assert perpetual.instrument == Instrument.parse("bitmex:Perp:BTC-USD")
    assert others.instrument is None
    why = failure([others])
    assert "12 symbols of bitmex may be meant, but no rule tells what they are: XBTZ20, XBTZ21" in why
    assert "A-B-C" not in why
    assert len(found(client(), DAY, "bitmex:Perp:*")) == 1
    assert len(found(client(), DAY, "bitmex:Perp:BTC-USD")) == 1


def test_one_exchange_that_fails_does_not_take_the_others_along(vendor, client):
    put_day(vendor)
    del vendor.files["/api/exchanges/deribit"]
    files = found(client(), DAY, ["deribit:*", "bitmex:*"])
    assert [file.instrument and file.instrument.venue for file in files] == [None, "bitmex", "bitmex"]
    assert "/api/exchanges/deribit: HTTP 404" in failure(files[:1])


@pytest.mark.parametrize("answer", [[], {"datasets": {"symbols": [{"id": "X"}]}}, {"datasets": {"symbols": 7}}])
def test_an_answer_of_another_form_is_refused(vendor, client, answer):
    vendor.put_json("/api/exchanges/deribit", answer)
    assert "/api/exchanges/deribit: the answer has another form" in failure(found(client(), DAY, "deribit:*"))


def test_the_list_of_an_exchange_is_asked_for_once_in_a_while(vendor, client, monkeypatch):
    put_day(vendor)
    source = client()
    for _ in range(3):
        found(source, DAY, "deribit:*")
    assert len(vendor.asked("/api/exchanges/deribit")) == 1
    monkeypatch.setattr(api.time, "monotonic", lambda: 1e9)
    found(source, DAY, "deribit:*")
    assert len(vendor.asked("/api/exchanges/deribit")) == 2


def test_an_options_chain_comes_from_one_file_and_is_split(vendor, client):
    put_day(vendor)
    day = date(2020, 6, 8)
    (sample,) = (path for path in SAMPLES if "options_chain" in path.name)
    lines = sample.read_text().splitlines()[1:]
    symbols = Counter(line.split(",")[1] for line in lines)
    assert len(symbols) > 1
    files = found(client(), day, "deribit:Option:*", "options_chain")
    rows = {file.instrument: sum(batch.num_rows for batch in batches(file)) for file in files}
    assert rows == {instrument_of("deribit", name): count for name, count in symbols.items()}
    address = "/v1/deribit/options_chain/2020/06/08/OPTIONS.csv.gz"
    assert {file.origin for file in files} == {f"{vendor.url}{address}"}
    one = next(iter(rows))
    assert [file.instrument for file in found(client(), day, one.id, "options_chain")] == [one]
    assert len(vendor.asked(address)) >= 1
    asked = len(vendor.asked(address))
    assert found(client(), day, "deribit:Perp:*", "options_chain") == []
    assert len(vendor.asked(address)) == asked


def test_of_many_instruments_the_groups_one_file_is_fetched(vendor, client, monkeypatch):
    put_day(vendor)
    monkeypatch.setattr(tardis, "GROUP_FROM", 2)
    body = text(
        [TARDIS_HEADER, *(tardis_line(symbol=name, exchange="binance-futures") for name in ("BTCUSDT", "WHAT?"))]
    )
    vendor.put_tardis("binance-futures", "trades", DAY, "PERPETUALS", body)
    known, unknown = found(client(), DAY, "binance-futures:*")
    assert known.instrument == BTC
    assert sum(batch.num_rows for batch in batches(known)) == 1
    assert "WHAT?" in failure([unknown])
    assert not vendor.asked("/BTCUSDT.csv.gz")


def listing(source: TardisSource, day: date, selection) -> dict[str, dict]:
    return {row["instrument_id"]: row for row in source.listings(day, Selection.of(selection)).to_pylist()}


def test_without_a_key_the_listing_knows_symbols_and_days(vendor, client):
    put_exchange(
        vendor,
        "deribit",
        symbol("BTC-PERPETUAL", "perpetual"),
        symbol("BTC-9AUG24", "future", since="2024-08-08", to="2024-08-10"),
        symbol("BTC-8AUG24-60000-C", "option", since="2024-08-01", to="2024-08-09"),
    )
    source = client()
    rows = listing(source, DAY, "deribit:*")
    assert list(rows) == [
        "deribit:Future:BTC-USD-240809",
        "deribit:Option:BTC-USD-60000-240808-C",
        "deribit:Perp:BTC-USD",
    ]
    option = rows["deribit:Option:BTC-USD-60000-240808-C"]
    assert (option["venue_symbol"], option["strike"], option["option_type"]) == ("BTC-8AUG24-60000-C", 60000, "call")
    assert option["available_to"] == datetime(2024, 8, 9, tzinfo=UTC)
    assert (option["tick_size"], option["known_from"]) == (None, "listing")
    # what is delisted later does not say so before
    assert rows["deribit:Perp:BTC-USD"]["available_to"] is None
    assert list(listing(source, DAY - timedelta(days=1), "deribit:*")) == [
        "deribit:Option:BTC-USD-60000-240808-C",
        "deribit:Perp:BTC-USD",
    ]
    assert list(listing(source, DAY + timedelta(days=1), "deribit:*")) == [
        "deribit:Future:BTC-USD-240809",
        "deribit:Perp:BTC-USD",
    ]
    # an expiry counts, whatever the vendor still says of its own days
    put_exchange(vendor, "deribit", symbol("BTC-9AUG24", "future", since="2024-08-08"))
    assert list(listing(client(), DAY + timedelta(days=1), "deribit:*")) == ["deribit:Future:BTC-USD-240809"]
    assert listing(client(), DAY + timedelta(days=2), "deribit:*") == {}


def test_with_a_key_the_listing_is_the_master_as_it_was_then(vendor, client):
    vendor.key = KEY
    vendor.put_json("/api/instruments/bitmex", [XBTUSD, XBTUSD | {"id": "XBTZ24", "datasetId": "XBTZ24"}])
    source = client(tardis_key=KEY)
    id_ = "bitmex:Perp:BTC-USD"
    expected = {
        date(2019, 3, 30): (0.5, 1.0),
        date(2021, 6, 8): (0.5, 1.0),
        date(2021, 6, 9): (0.5, 100.0),
        date(2024, 7, 31): (0.5, 100.0),
        date(2024, 8, 1): (0.1, 100.0),
    }
    for day, (tick, lot) in expected.items():
        row = listing(source, day, "bitmex:*")[id_]
        assert (row["tick_size"], row["lot_size"]) == (tick, lot), day
    assert (row["settle_asset"], row["underlying"], row["inverse"]) == ("BTC", ".BXBT", True)
    assert (row["contract_multiplier"], row["available_from"]) == (1.0, datetime(2019, 3, 30, tzinfo=UTC))
    assert listing(source, date(2019, 3, 29), "bitmex:*") == {}
    assert len(vendor.requests) == 1


def test_a_listing_stands_from_the_midnight_after_it_until_it_expires(vendor, client):
    vendor.put_json("/api/instruments/deribit", [PUT])
    source = client(tardis_key=KEY)
    id_ = "deribit:Option:BTC-USD-200000-250425-P"
    assert listing(source, date(2025, 1, 31), "deribit:Option:*") == {}
    row = listing(source, date(2025, 2, 1), "deribit:Option:*")[id_]
    assert row["available_from"] == datetime(2025, 1, 31, 20, 38, 40, tzinfo=UTC)
    assert row["expiry"] == row["available_to"] == datetime(2025, 4, 25, 8, tzinfo=UTC)
    assert (row["strike"], row["option_type"]) == (200000.0, "put")
    assert id_ in listing(source, date(2025, 4, 25), "deribit:Option:*")
    assert listing(source, date(2025, 4, 26), "deribit:Option:*") == {}
    assert json.loads(vendor.requests[0].query["filter"]) == {"type": ["option"]}


def test_an_instrument_is_listed_on_the_day_of_its_expiry(vendor, client):
    last = PUT | {"availableTo": "2025-04-25T00:00:00.000Z"}
    vendor.put_json("/api/instruments/deribit", [last])
    assert len(listing(client(tardis_key=KEY), date(2025, 4, 25), "deribit:Option:*")) == 1
    assert listing(client(tardis_key=KEY), date(2025, 4, 26), "deribit:Option:*") == {}
    put_exchange(vendor, "deribit", symbol("BTC-9AUG24", "future", since="2024-08-01", to="2024-08-09"))
    assert list(listing(client(), date(2024, 8, 9), "deribit:*")) == ["deribit:Future:BTC-USD-240809"]
    assert listing(client(), date(2024, 8, 10), "deribit:*") == {}


@pytest.mark.parametrize("answer", [{}, {"id": "deribit", "enabled": True}, {"datasets": {}}, {"datasets": None}])
def test_an_exchange_without_a_list_of_symbols_is_no_exchange_without_symbols(vendor, client, answer):
    vendor.put_json("/api/exchanges/deribit", answer)
    assert "/api/exchanges/deribit: the answer has another form" in failure(found(client(), DAY, "deribit:*"))


def test_a_delisting_is_not_known_before_it_happens(vendor, client):
    vendor.put_json("/api/instruments/bitmex", [XBTUSD | {"availableTo": "2024-09-01T00:00:00.000Z"}])
    source = client(tardis_key=KEY)
    assert listing(source, date(2024, 8, 31), "bitmex:*")["bitmex:Perp:BTC-USD"]["available_to"] is None
    assert listing(source, date(2024, 9, 1), "bitmex:*") == {}


def test_a_key_without_access_to_the_master_falls_back(vendor, client, caplog):
    put_day(vendor)
    vendor.faults.append(Fault("/api/instruments/", times=99, status=403, body=b"needs pro"))
    source = client(tardis_key=KEY)
    with caplog.at_level(logging.WARNING):
        assert list(listing(source, DAY, "deribit:*")) == ["deribit:Perp:BTC-USD"]
    assert "HTTP 403 needs pro" in caplog.text
    vendor.faults[:] = [Fault("/api/instruments/", times=99, status=404)]
    with pytest.raises(Refused):
        client(tardis_key=KEY).listings(DAY, Selection.of("bitmex:*"))


def test_the_earliest_of_later_changes_counts():
    record = {"a": 3, "changes": [{"until": "2021-01-01T00:00:00Z", "a": 1}, {"until": "2022-01-01T00:00:00Z", "a": 2}]}
    values = [as_of(record, datetime(year, 6, 1, tzinfo=UTC))["a"] for year in (2020, 2021, 2022)]
    assert values == [1, 2, 3]


def test_an_instrument_under_two_symbols_on_one_day_is_refused(vendor, client):
    put_exchange(vendor, "bitfinex", symbol("BTCUST", "spot"), symbol("BTC:UST", "spot"))
    assert "Tardis has it as BTCUST and BTC:UST" in failure(found(client(), DAY, "bitfinex:*"))


def test_it_opens_by_its_name(vendor):
    source = open_source("tardis", None, replace(vendor.remote(), downloads=1))
    assert source.name == "tardis"
    assert "first day of each month" in source.describe("trades")


def test_a_connection_that_stays_broken_midway_is_told_as_such(vendor, client):
    put_day(vendor)
    for cache_bytes in (0, 10**9):
        vendor.faults[:] = [Fault("/BTCUSDT.csv.gz", cut=100_000), Fault("/BTCUSDT.csv.gz", times=99, cut=0)]
        why = failure(found(client(cache_bytes=cache_bytes), DAY, BTC))
        assert "BTCUSDT.csv.gz: the connection broke (IncompleteRead); given up after 4 tries in a row" in why


def test_a_file_replaced_while_it_is_streamed_is_told_as_such(vendor, client):
    put_day(vendor)
    other = text([TARDIS_HEADER, tardis_line()])
    cut = Fault(
        "/BTCUSDT.csv.gz",
        cut=100_000,
        after=lambda: vendor.put_tardis("binance-futures", "trades", DAY, "BTCUSDT", other),
    )
    vendor.faults.append(cut)
    assert "another file came to lie there while it was read" in failure(found(client(), DAY, BTC))
