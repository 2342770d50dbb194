import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.sources.selecting import may_be_meant, named, types_meant, venues_meant
from market_data_pipeline.sources.symbols import VENUES

SPOT, PERPETUAL, FUTURE = InstrumentType.SPOT, InstrumentType.PERPETUAL, InstrumentType.FUTURE


@pytest.mark.parametrize(
    ("selection", "venues"),
    [
        ("binance:*", ["binance"]),
        ("binance*:*", [venue for venue in VENUES if venue.startswith("binance")]),
        ("BINANCE:SPOT:BTC-USDT", ["binance"]),
        ("b*usdt", [venue for venue in VENUES if venue.startswith("b")]),
        ("*:option:*", list(VENUES)),
        ("d[ey]*:perp:*", ["deribit", "dydx", "dydx-v4"]),
        ("okex-?wap:*", ["okex-swap"]),
        (["deribit:*", "gemini:*"], ["deribit", "gemini"]),
        ("nowhere:*", []),
        (None, list(VENUES)),
    ],
)
def test_the_venues_that_can_be_meant(selection, venues):
    assert list(venues_meant(Selection.of(selection), VENUES)) == venues


def test_the_types_that_can_be_meant():
    assert types_meant(Selection.of("deribit:perp:*"), "deribit") == {PERPETUAL}
    assert types_meant(Selection.of("deribit:P*"), "deribit") == {PERPETUAL}
    assert types_meant(Selection.of("deribit:*-C"), "deribit") == set(InstrumentType)
    assert types_meant(Selection.of("deribit:perp:*"), "binance") == set()


def test_what_is_named_one_by_one():
    ids = ["deribit:Perp:BTC-USD", "binance:SPOT_PAIR:BTC-USDT"]
    assert named(Selection.of([*ids, "deribit:*"]), "deribit") == (Instrument.parse(ids[0]),)


@pytest.mark.parametrize(
    ("selection", "kind", "symbol", "meant"),
    [
        ("binance:*", SPOT, "QQQZZZ", True),
        ("binance:*:QQ-*", SPOT, "QQQZZZ", True),
        ("binance:*:BTC-*", SPOT, "QQQZZZ", False),
        ("binance:SPOT_PAIR:QQQ-ZZZ", SPOT, "QQQZZZ", True),
        ("binance:perp:*", SPOT, "QQQZZZ", False),
        ("binance:*:BTC-*", FUTURE, "QQQ_240927", True),
        ("deribit:*", SPOT, "QQQZZZ", False),
    ],
)
def test_whether_an_unknown_symbol_may_be_meant(selection, kind, symbol, meant):
    assert may_be_meant(Selection.of(selection), "binance", kind, symbol) is meant


@given(st.text("b*?:-[a]", min_size=1, max_size=8), st.text("ab-", max_size=5), st.text("ab:-", max_size=5))
def test_no_venue_of_a_matching_id_is_left_out(pattern, venue, rest):
    if fnmatch.fnmatchcase(f"{venue}:{rest}", pattern):
        assert venues_meant(Selection((pattern,)), [venue]) == (venue,)
