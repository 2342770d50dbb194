"""Ids: one canonical form, the aliases that are accepted, and nothing else; and selections of ids."""

import re
from datetime import date, datetime
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline_tests.strategies import instruments, options

SPOT = "binance:SPOT_PAIR:BTC-USDT"
PERPETUAL = "deribit:Perp:BTC-USDT"
FUTURE = "deribit:Future:BTC-USD-241225"
OPTION = "deribit:Option:BTC-USD-50000-241225-C"
CANONICAL = (SPOT, PERPETUAL, FUTURE, OPTION)


@pytest.mark.parametrize(
    ("text", "built", "folder", "short_name"),
    [
        (SPOT, Instrument.spot("binance", "BTC", "USDT"), "spot", "btcusdt"),
        (PERPETUAL, Instrument.perpetual("deribit", "BTC", "USDT"), "perpetual", "btcusdt"),
        (FUTURE, Instrument.future("deribit", "BTC", "USD", date(2024, 12, 25)), "future", "btcusd241225"),
        (
            OPTION,
            Instrument.option("deribit", "BTC", "USD", "50000", date(2024, 12, 25), "C"),
            "option",
            "btcusd50000241225c",
        ),
    ],
)
def test_the_canonical_form(text: str, built: Instrument, folder: str, short_name: str) -> None:
    read = Instrument.parse(text)
    assert read == built
    assert str(read) == read.id == text
    assert (read.type.folder, read.short_name) == (folder, short_name)


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("BINANCE:spot_pair:btc-usdt", SPOT),
        ("binance:SPOT:BTC-USDT", SPOT),
        ("binance:Spot:BTC-usdt", SPOT),
        ("deribit:PERP:BTC-USDT", PERPETUAL),
        ("deribit:PERPETUAL:BTC-USDT", PERPETUAL),
        ("deribit:perpetual:BTC-USDT", PERPETUAL),
        ("Deribit:FUTURE:BTC-USD-241225", FUTURE),
        ("deribit:future:btc-usd-241225", FUTURE),
        ("DERIBIT:OPTION:BTC-USD-241225-50000-CALL", OPTION),
        ("deribit:Option:BTC-USD-50000-241225-call", OPTION),
        ("deribit:Option:BTC-USD-241225-50000-C", OPTION),
        ("deribit:OPTION:BTC-USD-241225-50000-PUT", "deribit:Option:BTC-USD-50000-241225-P"),
        ("deribit:option:btc-usd-50000-241225-p", "deribit:Option:BTC-USD-50000-241225-P"),
        ("deribit:option:xrp-usdc-241225-0.5-p", "deribit:Option:XRP-USDC-0.5-241225-P"),
    ],
)
def test_an_alias_becomes_the_canonical_form(alias: str, canonical: str) -> None:
    assert Instrument.parse(alias).id == canonical


@pytest.mark.parametrize(
    ("text", "strike", "expiry"),
    [
        # the strike looks like a date: where both could be one, the canonical order wins
        ("deribit:Option:BTC-USD-240101-241225-C", "240101", date(2024, 12, 25)),
        ("deribit:Option:BTC-USD-241225-240101-C", "241225", date(2024, 1, 1)),
        # six digits that are no date stand only for a strike
        ("deribit:Option:BTC-USD-241225-100000-C", "100000", date(2024, 12, 25)),
        ("deribit:Option:BTC-USD-100000-241225-C", "100000", date(2024, 12, 25)),
        ("deribit:Option:BTC-USD-241301-241225-C", "241301", date(2024, 12, 25)),
        ("deribit:Option:BTC-USD-241225-241301-C", "241301", date(2024, 12, 25)),
    ],
)
def test_a_strike_that_looks_like_a_date(text: str, strike: str, expiry: date) -> None:
    read = Instrument.parse(text)
    assert (read.strike, read.expiry) == (strike, expiry)
    assert Instrument.parse(read.id) == read


@pytest.mark.parametrize("strike", ["0.5", "50000", "50000.0", "0.00000001", "0"])
def test_a_strike_keeps_its_text(strike: str) -> None:
    assert Instrument.parse(f"deribit:Option:BTC-USD-{strike}-241225-C").strike == strike


@pytest.mark.parametrize(
    ("digits", "year"), [("000229", 2000), ("680101", 2068), ("690101", 2069), ("700101", 2070), ("991231", 2099)]
)
def test_a_year_of_two_digits_lies_in_this_century(digits: str, year: int) -> None:
    read = Instrument.parse(f"deribit:Future:BTC-USD-{digits}")
    assert read.expiry is not None
    assert read.expiry.year == year
    assert read.id.endswith(digits)


@given(instruments)
def test_an_id_is_read_back(instrument: Instrument) -> None:
    assert Instrument.parse(str(instrument)) == instrument


def test_the_longest_id_is_read_back() -> None:
    longest = Instrument.option("v" * 32, "B" * 32, "Q" * 32, f"{'1' * 12}.{'2' * 12}", date(2024, 12, 25), "C")
    assert Instrument.parse(longest.id) == longest
    assert Instrument.parse(f"{longest.id}ALL") == longest


@given(instruments, st.randoms())
def test_letter_case_makes_no_difference(instrument: Instrument, random: Random) -> None:
    mixed = "".join(random.choice((letter.lower(), letter.upper())) for letter in instrument.id)
    assert Instrument.parse(mixed) == instrument


@given(options)
def test_an_option_with_its_date_first(option: Instrument) -> None:
    assert option.expiry is not None
    assert option.strike is not None
    assume(not re.fullmatch("[0-9]{6}", option.strike))
    day, side = option.expiry.strftime("%y%m%d"), {"C": "CALL", "P": "PUT"}[str(option.side)]
    text = f"{option.venue}:OPTION:{option.base}-{option.quote}-{day}-{option.strike}-{side}"
    assert Instrument.parse(text) == option


@given(st.lists(instruments))
def test_instruments_sort_as_their_ids_do(some: list[Instrument]) -> None:
    assert [instrument.id for instrument in sorted(some)] == sorted(instrument.id for instrument in some)


REFUSED = {
    "nothing": "",
    "one part": "BTC-USDT",
    "two parts": "binance:BTC-USDT",
    "four parts": f"{SPOT}:1",
    "no venue": ":SPOT_PAIR:BTC-USDT",
    "no type": "binance::BTC-USDT",
    "no symbol": "binance:SPOT_PAIR:",
    "no base": "binance:SPOT_PAIR:-USDT",
    "no quote": "binance:SPOT_PAIR:BTC-",
    "an empty part": "deribit:Future:BTC--USD-241225",
    "an unknown type": "binance:SWAP:BTC-USDT",
    "a folder in the venue": "bin/ance:SPOT_PAIR:BTC-USDT",
    "a folder in the symbol": "binance:SPOT_PAIR:BTC/USDT",
    "a folder above": "..:SPOT_PAIR:BTC-USDT",
    "a folder above in the symbol": "binance:SPOT_PAIR:..-USDT",
    "a backslash": "binance:SPOT_PAIR:BTC\\-USDT",
    "an underscore in the venue": "binance_futures:Perp:BTC-USDT",
    "an underscore in the symbol": "binance:SPOT_PAIR:BTC_USDT",
    "a dash before the venue": "-binance:SPOT_PAIR:BTC-USDT",
    "a dash after the venue": "binance-:SPOT_PAIR:BTC-USDT",
    "two dashes in the venue": "binance--futures:SPOT_PAIR:BTC-USDT",
    "a dot in the venue": "binance.us:SPOT_PAIR:BTC-USDT",
    "a space before": f" {SPOT}",
    "a space after": f"{SPOT} ",
    "a newline after": f"{SPOT}\n",
    "a newline after an option": f"{OPTION}\n",
    "a newline after a date": f"{FUTURE}\n",
    "a null byte": "binance:SPOT_PAIR:BTC\0-USDT",
    "an escape": "binance:SPOT_PAIR:BTC\x1b-USDT",
    "a percent escape": "binance:SPOT_PAIR:BTC%2FX-USDT",
    "an accent": "binance:SPOT_PAIR:BTÇ-USDT",
    "a letter that is K in lower case": "\u212araken:SPOT_PAIR:BTC-USDT",
    "a letter that is I in capitals": "binance:SPOT_PAIR:\u0131CP-USDT",
    "a letter that is SS in capitals": "binance:SPOT_PAIR:\u00df-USDT",
    "a Cyrillic A": "binance:SPOT_PAIR:\u0410DA-USDT",
    "Arabic digits in a date": "deribit:Future:BTC-USD-\u0662\u0664\u0661\u0662\u0662\u0665",
    "full-width digits in a strike": "deribit:Option:BTC-USD-\uff15\uff10-241225-C",
    "a superscript digit": "deribit:Option:BTC-USD-5\u00b2-241225-C",
    "a venue of 33 letters": f"{'v' * 33}:SPOT_PAIR:BTC-USDT",
    "an asset of 33 letters": f"binance:SPOT_PAIR:{'B' * 33}-USDT",
    "a thousand letters": f"binance:SPOT_PAIR:{'B' * 1000}-USDT",
    "a spot pair with a date": "binance:SPOT_PAIR:BTC-USDT-241225",
    "a perpetual with a date": "deribit:Perp:BTC-USD-241225",
    "a future without a date": "deribit:Future:BTC-USD",
    "a future with a strike": "deribit:Future:BTC-USD-50000-241225",
    "an option without a side": "deribit:Option:BTC-USD-50000-241225",
    "an option with another side": "deribit:Option:BTC-USD-50000-241225-X",
    "an option without a strike": "deribit:Option:BTC-USD-241225-C",
    "an option with an empty strike": "deribit:Option:BTC-USD--241225-C",
    "an option without a date": "deribit:Option:BTC-USD-50000-60000-C",
    "a thirteenth month": "deribit:Future:BTC-USD-241301",
    "a thirtieth of February": "deribit:Future:BTC-USD-240230",
    "no leap year": "deribit:Future:BTC-USD-230229",
    "a date of eight digits": "deribit:Future:BTC-USD-20241225",
    "a date of five digits": "deribit:Future:BTC-USD-24125",
    "a date with a space": "deribit:Future:BTC-USD-24 225",
    "a date with a sign": "deribit:Future:BTC-USD-+41225",
    "a date in letters": "deribit:Future:BTC-USD-25DEC24",
    "a thirteenth month of an option": "deribit:Option:BTC-USD-50000-241301-C",
    "a strike with a zero before it": "deribit:Option:BTC-USD-050000-241225-C",
    "a strike with an exponent": "deribit:Option:BTC-USD-1e5-241225-C",
    "a strike without digits before its point": "deribit:Option:BTC-USD-.5-241225-C",
    "a strike without digits after its point": "deribit:Option:BTC-USD-5.-241225-C",
    "a strike of two points": "deribit:Option:BTC-USD-1..5-241225-C",
    "a strike with a sign": "deribit:Option:BTC-USD-+5-241225-C",
    "a strike of 13 digits": f"deribit:Option:BTC-USD-{'1' * 13}-241225-C",
    "a glob": "binance:SPOT_PAIR:*",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InstrumentError, match="instrument id "):
        Instrument.parse(text)


@pytest.mark.parametrize("value", [None, 7, b"binance:SPOT_PAIR:BTC-USDT", ["binance:SPOT_PAIR:BTC-USDT"], {}])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InstrumentError, match="expected a text"):
        Instrument.parse(value)  # type: ignore[arg-type]


BAD = st.sampled_from("/\\_ \t\n\r\0\x1b\x7f%*?[\u2028\u00a0é٣") | st.characters(min_codepoint=128)


@given(instruments, BAD, st.data())
def test_a_bad_character_never_gets_through(instrument: Instrument, bad: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(instrument.id)))
    with pytest.raises(InstrumentError):
        Instrument.parse(instrument.id[:at] + bad + instrument.id[at:])


@given(st.text() | st.text("binaceSPOT_Perp:Future-BUD0123456789.C/\n", max_size=40))
def test_any_text_is_an_id_or_an_instrument_error(text: str) -> None:
    try:
        read = Instrument.parse(text)
    except InstrumentError:
        return
    assert re.fullmatch(r"[a-z0-9-]+:(SPOT_PAIR|Perp|Future|Option):[A-Z0-9.-]+", read.id)


@pytest.mark.parametrize(
    ("venue", "kind", "base", "quote", "expiry", "strike", "side"),
    [
        ("Binance", InstrumentType.SPOT, "BTC", "USDT", None, None, None),
        ("binance", InstrumentType.SPOT, "btc", "USDT", None, None, None),
        ("binance", InstrumentType.SPOT, "BTC", "../USDT", None, None, None),
        ("binance", InstrumentType.SPOT, "BTC", "USDT", date(2024, 1, 1), None, None),
        ("binance", InstrumentType.SPOT, "BTC", "USDT", None, "5", None),
        ("deribit", InstrumentType.FUTURE, "BTC", "USD", None, None, None),
        ("deribit", InstrumentType.FUTURE, "BTC", "USD", date(1999, 12, 31), None, None),
        ("deribit", InstrumentType.FUTURE, "BTC", "USD", date(2100, 1, 1), None, None),
        ("deribit", InstrumentType.FUTURE, "BTC", "USD", datetime(2024, 12, 25, 8), None, None),  # noqa: DTZ001
        ("deribit", InstrumentType.OPTION, "BTC", "USD", date(2024, 1, 1), None, "C"),
        ("deribit", InstrumentType.OPTION, "BTC", "USD", date(2024, 1, 1), "5", None),
        ("deribit", InstrumentType.OPTION, "BTC", "USD", date(2024, 1, 1), "5", "CALL"),
        ("deribit", InstrumentType.OPTION, "BTC", "USD", date(2024, 1, 1), "5e3", "C"),
    ],
)
def test_an_instrument_that_has_no_id_cannot_be_built(
    venue: str, kind: InstrumentType, base: str, quote: str, expiry: date | None, strike: str | None, side: str | None
) -> None:
    with pytest.raises(InstrumentError):
        Instrument(venue, kind, base, quote, expiry, strike, side)


@pytest.mark.parametrize("kind", InstrumentType)
def test_a_type_is_known_by_its_folder_and_by_its_id_part(kind: InstrumentType) -> None:
    assert {InstrumentType.named(name) for name in (kind.folder, kind.folder.upper(), str(kind), kind.lower())} == {
        kind
    }


def test_an_unknown_type_names_those_that_exist() -> None:
    with pytest.raises(InstrumentError, match="'swap' is unknown; expected one of spot, perpetual, future, option"):
        InstrumentType.named("swap")


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        (None, CANONICAL),
        (SPOT, [SPOT]),
        (SPOT.lower(), [SPOT]),
        ([SPOT, OPTION], [SPOT, OPTION]),
        (Instrument.parse(FUTURE), [FUTURE]),
        ([Instrument.parse(FUTURE), "BINANCE:spot:btc-usdt"], [FUTURE, SPOT]),
        ("*", CANONICAL),
        ("binance:*", [SPOT]),
        ("BINANCE:*:btc-*", [SPOT]),
        ("binance:SPOT:*", [SPOT]),
        ("*:perpetual:*", [PERPETUAL]),
        ("deribit:*", [PERPETUAL, FUTURE, OPTION]),
        ("*:Future:*", [FUTURE]),
        ("*-USDT", [SPOT, PERPETUAL]),
        ("*:btc-usd", []),
        ("*-241225-?", [OPTION]),
        ("*:[sp]*:*", [SPOT, PERPETUAL]),
        (["binance:*", FUTURE], [SPOT, FUTURE]),
        ("nowhere:*", []),
    ],
)
def test_a_selection(pattern: str | list[str | Instrument] | None, chosen: list[str]) -> None:
    selection = Selection.of(pattern)
    assert [text for text in CANONICAL if Instrument.parse(text) in selection] == sorted(chosen, key=CANONICAL.index)
    assert selection.everything is (pattern is None)


@pytest.mark.parametrize(
    ("pattern", "exact"),
    [
        (None, None),
        ("binance:*", None),
        ([SPOT, "deribit:*"], None),
        (OPTION.lower(), [OPTION]),
        ([OPTION, SPOT, SPOT.upper()], [SPOT, OPTION]),
    ],
)
def test_a_selection_of_ids_alone_is_exact(pattern: str | list[str] | None, exact: list[str] | None) -> None:
    found = Selection.of(pattern).exact
    assert (found and [instrument.id for instrument in found]) == exact


@pytest.mark.parametrize("pattern", [[], "", "BTC-USDT", ["binance:*", "nonsense"], "binance:SPOT_PAIR:BTC/USDT"])
def test_a_selection_of_nothing_or_of_nonsense_is_refused(pattern: str | list[str]) -> None:
    with pytest.raises(InstrumentError):
        Selection.of(pattern)


@pytest.mark.parametrize(
    "other",
    [
        "binance:SPOT_PAIR:BTC-USDT",
        "binance:SPOT_PAIR:BTC-US",
        "binance:Perp:BTC-USD",
        "binance-us:SPOT_PAIR:BTC-USD",
        "binance:SPOT_PAIR:WBTC-USD",
    ],
)
def test_an_id_selects_itself_alone(other: str) -> None:
    selection = Selection.of("binance:SPOT_PAIR:BTC-USD")
    assert Instrument.parse("binance:SPOT_PAIR:BTC-USD") in selection
    assert Instrument.parse(other) not in selection


@pytest.mark.parametrize(("pattern", "text"), [(None, "all instruments"), ([SPOT, FUTURE], f"{SPOT}, {FUTURE}")])
def test_a_selection_names_itself(pattern: list[str] | None, text: str) -> None:
    assert str(Selection.of(pattern)) == text


@pytest.mark.parametrize(
    ("pattern", "venue", "held"),
    [
        (None, "deribit", True),
        (SPOT, "binance", True),
        (SPOT, "binance-us", False),
        (SPOT, "bin", False),
        ("*", "deribit", True),
        ("binance:*", "binance", True),
        ("binance*", "binance-us", True),
        ("binance:*", "binance-us", False),
        ("*BTC*", "deribit", True),
        ("*:Perp:*", "deribit", True),
        ("b*e:*:BTC-*", "binance", True),
        ("b*e:*:BTC-*", "deribit", False),
        ("[bd]*:option:*", "deribit", True),
        ("[!d]*:option:*", "deribit", False),
        ("?eribit:*", "deribit", True),
        ("????:*", "deribit", False),
        (["kraken:*", OPTION], "deribit", True),
        (["kraken:*", SPOT], "deribit", False),
    ],
)
def test_a_selection_tells_whether_a_venue_can_be_in_it(
    pattern: str | list[str] | None, venue: str, held: bool
) -> None:
    assert Selection.of(pattern).may_hold(f"{venue}:") is held


@given(instruments, st.lists(st.sampled_from(["*", "?", "[a-z]", "same"]), max_size=12), st.integers(0, 40))
def test_a_venue_that_has_a_selected_instrument_can_be_in_it(
    instrument: Instrument, marks: list[str], start: int
) -> None:
    letters = list(instrument.id)
    for place, mark in enumerate(marks, start):
        if mark != "same" and place < len(letters):
            letters[place] = mark
    pattern = "".join(letters)
    assume(any(mark in pattern for mark in "*?["))
    selection = Selection.of(["nowhere:*", pattern])
    assume(instrument in selection)
    assert selection.may_hold(f"{instrument.venue}:")
    assert selection.may_hold(f"{instrument.venue}:{instrument.type}:")
