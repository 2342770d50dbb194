"""What is odd: each rule by rows that just pass and just fail, however they are cut; clean streams have nothing odd."""

import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.transforms.quality import (
    FLAWS,
    Flaw,
    Life,
    Oddity,
    Thresholds,
    columns_of,
    oddities,
    rules_of,
)
from market_data_pipeline.transforms.quality import ids as ids_rules
from market_data_pipeline.transforms.quality.ids import Ids, hashed
from market_data_pipeline.transforms.quality.terms import Largest
from market_data_pipeline_tests.transforms.test_real_candles import FIXTURES, ONE, bars

DAY = date(2024, 8, 8)
START = microseconds(midnight(DAY))
SECOND, MINUTE = 1_000_000, 60_000_000
BTC = Instrument.parse("binance:SPOT_PAIR:BTC-USDT")
FUTURE = Instrument.parse("deribit:Future:BTC-USD-240808")
OPTION = Instrument.parse("deribit:Option:BTC-USD-50000-241225-C")
WHOLE = Life(DAY, since=START)


def found(
    name: str,
    rows: pa.Table,
    *,
    instrument: Instrument = BTC,
    life: Life = WHOLE,
    cut: int | None = None,
    **limits: float,
) -> list[Oddity]:
    """What is odd about some rows, in pieces of `cut` rows."""
    rules = rules_of(DATASETS[name], instrument, life, Thresholds(**limits))
    rows = rows.select(columns_of(rules))
    step = cut or max(rows.num_rows, 1)
    return list(oddities(rules, [rows.slice(at, step) for at in range(0, rows.num_rows, step)]))


def flaws(name: str, rows: pa.Table, **more: Any) -> list[Flaw]:
    return [each.flaw for each in found(name, rows, **more)]


def trades(
    stamps: Sequence[int] | np.ndarray[Any, Any] | None = None,
    *,
    local: Sequence[int] | np.ndarray[Any, Any] | None = None,
    ids: Sequence[str | None] | None = None,
    prices: Sequence[float] | np.ndarray[Any, Any] | None = None,
    amounts: Sequence[float] | None = None,
) -> pa.Table:
    """Trades at some microseconds of the day: every 30 s by default, in steps of a thousandth."""
    at = np.arange(0, 86_400, 30) * SECOND if stamps is None else np.asarray(stamps, np.int64)
    count = len(at)
    return pa.table(
        {
            "timestamp": pa.array(at + START).view(TIME),
            "local_timestamp": pa.array((at if local is None else np.asarray(local, np.int64)) + START).view(TIME),
            "id": pa.array([str(1_000 + n) for n in range(count)] if ids is None else ids, pa.string()),
            "price": pa.array(100.0 + 0.1 * (np.arange(count) % 2) if prices is None else np.asarray(prices, float)),
            "amount": pa.array([1.0] * count if amounts is None else amounts, pa.float64()),
        }
    )


def changed(rows: pa.Table, name: str, values: dict[int, Any]) -> pa.Table:
    listed = rows.column(name).to_pylist()
    for row, value in values.items():
        listed[row] = value
    return rows.set_column(rows.schema.get_field_index(name), name, pa.array(listed, rows.schema.field(name).type))


def without(rows: pa.Table, *spans: tuple[int, int]) -> pa.Table:
    keep = [not any(start <= row < stop for start, stop in spans) for row in range(rows.num_rows)]
    return rows.filter(pa.array(keep))


CUTS = pytest.mark.parametrize("cut", [None, 97, 1000])


@pytest.mark.parametrize("name", FLAWS)
def test_no_rows_are_not_odd(name: str) -> None:
    assert flaws(name, DATASETS[name].own_schema.empty_table()) == []


def test_steady_trades_are_not_odd() -> None:
    assert flaws("trades", trades()) == []


# ids


@CUTS
@pytest.mark.parametrize("ids", ["{}", "BTC-{}", "a-longer-text-than-sixteen-bytes-{}"])
def test_an_id_that_comes_again_is_told_with_its_time(ids: str, cut: int | None) -> None:
    rows = trades(ids=[ids.format(n) for n in range(2880)])
    assert flaws("trades", rows, cut=cut) == []
    for row, of in ((1, 0), (2879, 3), (1441, 1439)):
        (odd,) = found("trades", changed(rows, "id", {row: ids.format(of)}), cut=cut, missing_ids=1)
        assert odd.flaw is Flaw.DUPLICATE_IDS
        assert "1 row of 2880" in odd.text
        seconds = 30 * row
        assert f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" in odd.text


def test_as_many_duplicates_as_the_threshold_are_let_pass() -> None:
    rows = changed(trades(), "id", {10: "1009", 20: "1019"})
    assert flaws("trades", rows, duplicate_ids=2, missing_ids=2) == []
    assert flaws("trades", rows, duplicate_ids=1, missing_ids=2) == [Flaw.DUPLICATE_IDS]


@CUTS
@pytest.mark.parametrize("text", ["x1", "007", "-5", "0x10", "9" * 19])
def test_an_id_of_another_kind_hides_no_number_that_comes_again(text: str, cut: int | None) -> None:
    rows = changed(trades(), "id", {1500: text, 1600: "1010"})
    (odd, holes) = found("trades", rows, cut=cut)
    assert "1 row of 2880 repeat a trade id, first at 13:20:00" in odd.text
    assert "2 of 2880 consecutive trade ids are missing" in holes.text
    (odd,) = found("trades", changed(rows, "id", {1600: text, 1700: "1010"}), cut=cut, missing_ids=9)
    assert "2 rows of 2880 repeat a trade id, first at 13:20:00" in odd.text


@pytest.mark.parametrize("seed", range(8))
def test_ids_are_counted_right_however_many_are_looked_at_together(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids_rules, "_STEP", 3)
    draw = np.random.default_rng(seed)
    there = np.setdiff1d(np.arange(5_000, 9_000), draw.integers(5_001, 8_999, 20))
    again = [there[start : start + draw.integers(1, 900)] for start in draw.integers(0, len(there), 4)]
    numbers = np.concatenate([*np.array_split(draw.permutation(there[:2_000]), 5), there[2_000:], *again])
    rows = trades(np.arange(len(numbers)) * 10 * SECOND // 2, ids=[str(n) for n in numbers])
    twice, holes = found(
        "trades", rows, cut=int(draw.integers(50, 2_000)), life=Life(DAY, None, False), gap_minutes=1e9
    )
    assert twice.text.startswith(f"{len(numbers) - len(there)} rows of {len(numbers)} repeat")
    missing = 4_000 - len(there)
    assert holes.text.startswith(f"{missing} of 4000 consecutive trade ids are missing in ")


def test_texts_of_the_same_number_are_different_ids() -> None:
    assert flaws("trades", trades(ids=[*(f"{n:04}" for n in range(1440)), *(str(n) for n in range(1440))])) == [
        Flaw.DUPLICATE_IDS  # from 1,000 on both are written alike
    ]
    assert flaws("trades", trades(ids=[*(f"{n:05}" for n in range(1440)), *(str(n) for n in range(1440))])) == []


@pytest.mark.parametrize("ids", ["{}", "BTC-{}"])
def test_ids_that_are_not_consecutive_take_few_bytes_each(ids: str) -> None:
    numbers = np.random.default_rng(1).permutation(400_000) * 7
    rows = trades(np.arange(400_000) * 1000, ids=[ids.format(n) for n in numbers]).select(["timestamp", "id"])
    looking = Ids(Thresholds())
    tracemalloc.start()
    for at in range(0, rows.num_rows, 10_000):
        looking.add(rows.slice(at, 10_000))
    held, _ = tracemalloc.get_traced_memory()
    assert list(looking.found()) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 15 * rows.num_rows
    assert peak - held < 110 * 2**18  # some arrays of as many ranges as are looked at together


def test_rows_without_an_id_are_no_duplicates() -> None:
    assert flaws("trades", trades(ids=[None] * 2880)) == []


@CUTS
def test_numbers_that_are_missing_are_told(cut: int | None) -> None:
    rows = without(trades(), (100, 101), (1000, 1003))
    (odd,) = found("trades", rows, cut=cut)
    assert odd.flaw is Flaw.MISSING_IDS
    assert odd.text.startswith("4 of 2880 consecutive trade ids are missing in 2 holes, the largest from 2000 to 2002")
    assert "before 08:21:30" in odd.text
    assert flaws("trades", rows, cut=cut, missing_ids=4) == []


def test_ids_that_are_not_consecutive_have_no_holes() -> None:
    assert flaws("trades", trades(ids=[str(n + n // 50) for n in range(2880)])) == []  # a step in 50 is none
    assert flaws("trades", trades(ids=[str(n + n // 150) for n in range(2880)])) == [Flaw.MISSING_IDS]


@CUTS
def test_a_hole_counts_however_large_it_is(cut: int | None) -> None:
    for size in (1, 400, 2880):
        (odd,) = found("trades", trades(ids=[str(n + size * (n // 2000)) for n in range(2880)]), cut=cut)
        assert odd.text.startswith(f"{size} of {2880 + size} consecutive trade ids are missing in 1 hole, the largest")
        assert f"from 2000 to {1999 + size} before 16:40:00" in odd.text


@CUTS
def test_a_venue_that_counts_anew_leaves_nothing_out(cut: int | None) -> None:
    for size in (2881, 10**12):
        ids = [str(n + size * (n // 2000)) for n in range(2880)]
        assert flaws("trades", trades(ids=ids), cut=cut) == []
    (odd,) = found("trades", without(trades(ids=ids), (100, 103), (2500, 2504)), cut=cut)
    assert odd.text.startswith("7 of 2880 consecutive trade ids are missing in 2 holes, the largest from 1000000002500")


def test_numbers_in_any_order_have_no_holes() -> None:
    order = np.random.default_rng(1).permutation(2880)
    assert flaws("trades", trades(ids=[str(n) for n in order]), cut=100) == []


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), unique=True))
def test_different_texts_have_different_hashes(texts: list[str]) -> None:
    assert len(set(hashed(pa.array(texts, pa.string())).tolist())) == len(texts)


# times


@CUTS
def test_a_tick_that_came_late_is_told_once(cut: int | None) -> None:
    at = np.arange(0, 86_400, 30) * SECOND
    local = at + 5_000
    local[500] += 60 * SECOND + 30 * SECOND
    assert flaws("trades", trades(at, local=local), cut=cut) == []
    local[500] += 1
    (odd,) = found("trades", trades(at, local=local), cut=cut)
    assert odd.flaw is Flaw.OUT_OF_ORDER
    assert odd.text.startswith("1 time a tick came up to 60 s after its turn, first at 04:10:30")
    local[700] += 600 * SECOND
    (odd,) = found("trades", trades(at, local=local), cut=cut)
    assert odd.text.startswith("2 times a tick came up to 570 s after its turn")
    assert flaws("trades", trades(at, local=local), late_seconds=570) == []


def test_a_clock_that_is_off_all_day_is_not_late() -> None:
    at = np.arange(0, 86_400, 30) * SECOND
    assert flaws("trades", trades(at, local=at - 600 * SECOND)) == []


@CUTS
def test_a_file_that_is_not_in_order_is_told(cut: int | None) -> None:
    at = np.arange(0, 86_400, 30) * SECOND
    at[[800, 801]] = at[[801, 800]]
    (odd,) = found("trades", trades(at), cut=cut)
    assert "1 time the exchange's time runs back in the lake's own file, first at 06:40:00" in odd.text


# gaps


@CUTS
def test_a_gap_longer_than_the_threshold_is_told(cut: int | None) -> None:
    at = np.arange(0, 86_400, 30) * SECOND
    shift = np.where(np.arange(2880) >= 1000, 570 * SECOND, 0)
    inside = (at + shift)[:2861]
    assert flaws("trades", trades(inside), cut=cut) == []
    inside[1000:] += 1
    (odd,) = found("trades", trades(inside), cut=cut)
    assert odd.flaw is Flaw.GAPS
    assert odd.text.startswith("1 gap: 08:19:30.000 to 08:29:30.000")
    assert flaws("trades", trades(inside), cut=cut, gap_minutes=11) == []


def test_a_gap_must_be_long_for_the_instrument() -> None:
    every = np.arange(0, 1440, 4) * MINUTE
    gap = without(trades(every), (100, 109))
    assert flaws("trades", gap, missing_ids=9) == []  # 40 minutes, where pauses last 4
    assert flaws("trades", without(trades(every), (100, 110)), missing_ids=10) == [Flaw.GAPS]
    assert flaws("trades", gap, missing_ids=9, gap_factor=9.9) == [Flaw.GAPS]


@pytest.mark.parametrize("minutes", [[], [700], [10, 1000], [*range(59)]])
def test_what_trades_now_and_then_has_no_gaps(minutes: list[int]) -> None:
    burst = np.concatenate([np.arange(50) * 1000 + minute * MINUTE for minute in minutes] or [[]])
    assert flaws("trades", trades(np.sort(burst))) == []


def test_the_edges_of_the_day_count_where_the_instrument_was_there() -> None:
    at = np.arange(7 * 60, 15 * 60) * MINUTE
    early, late = "00:00:00.000 to 07:00:00.000", "14:59:00.000 to 00:00:00.000"
    for from_start, to_end in ((True, True), (False, True), (True, False), (False, False)):
        texts = [
            each.text for each in found("trades", trades(at), life=Life(DAY, START if from_start else None, to_end))
        ]
        assert (early in "".join(texts), late in "".join(texts)) == (from_start, to_end)
    # a tick before midnight proves that it was there
    (odd,) = found("trades", trades(np.r_[-SECOND, at]), life=Life(DAY, None, False))
    assert early in odd.text


@CUTS
def test_a_rhythm_is_told_by_seconds_too(cut: int | None) -> None:
    # in one burst of less than twenty minutes they are none
    for seconds, each, odd in ((299, 4, False), (300, 4, True), (1_140, 1, False), (3_000, 1, True)):
        at = np.sort(np.r_[np.arange(seconds), np.arange(seconds), 0]) * each * SECOND
        assert flaws("trades", trades(at), cut=cut) == [Flaw.GAPS] * odd
    (told,) = found("trades", trades(at), cut=cut)
    assert told.text.startswith("1 gap: 00:49:59.000 to 00:00:00.000, on a day where up to 10 minutes are usual")


@pytest.mark.parametrize("seed", range(10))
def test_what_trades_in_bursts_has_no_gaps(seed: int) -> None:
    draw = np.random.default_rng(seed)
    starts = draw.integers(0, 86_400, 14)
    at = np.sort((starts[:, None] + draw.exponential(3, (14, 60)).cumsum(axis=1)).ravel())
    assert flaws("trades", trades((at[at < 86_400] * SECOND).astype(np.int64))) == []


@CUTS
def test_a_gap_over_midnight_counts_from_the_last_tick_before_it(cut: int | None) -> None:
    def gaps(before: int, after: int, every: int = MINUTE) -> list[str]:
        at = np.arange(after, 86_400 * SECOND, every)
        return [each.text for each in found("trades", trades(at), life=Life(DAY, START - before), cut=cut)]

    assert gaps(5 * MINUTE, 5 * MINUTE) == []
    (text,) = gaps(5 * MINUTE, 5 * MINUTE + 1)
    assert text.startswith("1 gap: 23:55:00.000 of the day before to 00:05:00.000,")
    # what was a gap before midnight was told there, by the instrument's own rhythm
    assert gaps(10 * MINUTE + 1, MINUTE) == []
    assert gaps(30 * MINUTE, 15 * MINUTE, 4 * MINUTE)[0].startswith("1 gap: 23:30:00.000 of the day before")
    assert gaps(45 * MINUTE, 15 * MINUTE, 4 * MINUTE) == []
    # a tick of the day's own file may come before midnight, or the other day's last one after it
    for stray, odd in ((-4 * MINUTE, False), (-6 * MINUTE, True), (4 * MINUTE, False)):
        at = np.r_[min(stray, MINUTE), np.arange(4 * MINUTE + 2, 86_400 * SECOND, MINUTE)]
        life = Life(DAY, START + max(stray, -9 * MINUTE))
        assert flaws("trades", trades(at), life=life, cut=cut) == [Flaw.GAPS] * odd


def test_liquidations_have_no_gaps() -> None:
    at = np.r_[np.arange(200), np.arange(1000, 1200)] * MINUTE
    assert flaws("liquidations", trades(at)) == []
    for name in ("derivative_ticker", "options_chain", "trades"):
        assert flaws(name, trades(at)) == [Flaw.GAPS]


# prices


def moving(count: int = 2880, step: float = 0.001) -> np.ndarray[Any, Any]:
    """Prices that rise and fall by a thousandth."""
    return 100.0 * (1 + step * (np.arange(count) % 2))


@CUTS
@pytest.mark.parametrize("row", [1, 1000, 1440, 2878])
def test_a_price_that_jumps_and_returns_is_told(row: int, cut: int | None) -> None:
    prices = moving()
    for factor, odd in ((1.0199, False), (1.0201, True), (1 / 1.0199, False), (1 / 1.0201, True)):
        prices[row] = prices[row - 1] * factor
        assert flaws("trades", trades(prices=prices), cut=cut) == [Flaw.PRICE_JUMPS] * odd, factor
    prices[row] = 150
    (told,) = found("trades", trades(prices=prices), cut=cut)
    assert told.text.startswith("1 price lies apart, first at ")
    assert f"{30 * row // 3600:02}:{30 * row // 60 % 60:02}:{30 * row % 60:02}.000: 150 beside 100" in told.text
    assert flaws("trades", trades(prices=prices), cut=cut, jump=0.6) == []


@CUTS
def test_a_wrong_price_of_several_trades_is_one_jump(cut: int | None) -> None:
    prices = moving()
    prices[1000:1004] = 120
    (told,) = found("trades", trades(prices=prices), cut=cut)
    assert told.text.startswith("1 price lies apart")


@CUTS
@pytest.mark.parametrize("wrong", [[150.0, 60.0], [60.0, 61.0, 62.0], [130.0, 131.0, 129.0, 130.5]])
@pytest.mark.parametrize("row", [0, 1, 96, 1000, -5, -4])
def test_some_wrong_prices_in_a_row_are_one_jump(wrong: list[float], row: int, cut: int | None) -> None:
    prices = moving()
    prices[row : row + len(wrong) or None] = wrong
    (told,) = found("trades", trades(prices=prices), cut=cut)
    assert told.text.startswith("1 price lies apart")
    assert f": {wrong[0]:g} beside 100" in told.text or (row == -4 and f": {wrong[-1]:g} beside 100" in told.text)


@CUTS
def test_the_first_jump_is_named_whatever_its_length(cut: int | None) -> None:
    prices = moving()
    prices[100:102], prices[1000], prices[1500:1502] = (130, 131), 140, (120, 121)
    (told,) = found("trades", trades(prices=prices), cut=cut)
    assert told.text.startswith("3 prices lie apart, first at 00:50:00.000: 130 beside 100.1; the largest at 08:20:00")


@CUTS
def test_five_prices_in_a_row_are_a_market_that_moves(cut: int | None) -> None:
    prices = moving()
    prices[1000:1005] = [130, 131, 129, 130, 131]
    assert flaws("trades", trades(prices=prices), cut=cut) == []


@CUTS
@pytest.mark.parametrize(("row", "clock"), [(0, "00:00:00"), (2879, "23:59:30")])
def test_the_first_and_the_last_price_of_a_day_are_compared(row: int, clock: str, cut: int | None) -> None:
    prices = moving()
    for factor, odd in ((1.018, False), (1.03, True), (1 / 1.03, True)):
        prices[row] = 100 * factor
        assert flaws("trades", trades(prices=prices), cut=cut) == [Flaw.PRICE_JUMPS] * odd, factor
    (told,) = found("trades", trades(prices=prices), cut=cut)
    assert told.text.startswith(f"1 price lies apart, first at {clock}.000: 97.0874 beside 100")
    # nobody knows what a price was before an instrument began, or after it ended
    assert flaws("trades", trades(prices=prices), life=Life(DAY, None, False), cut=cut) == []


@pytest.mark.parametrize("prices", [np.r_[np.full(5, 100.0), moving() * 1.3], np.r_[moving(), np.full(5, 130.0)]])
def test_a_market_that_moves_near_midnight_and_stays_is_none(prices: np.ndarray[Any, Any]) -> None:
    prices = prices + 0.01 * (np.arange(len(prices)) % 2)
    assert flaws("trades", trades(np.arange(len(prices)) * 29_900_000, prices=prices)) == []


@pytest.mark.parametrize("cut", [None, 5_000])
def test_a_lower_threshold_still_finds_the_largest_jump(cut: int | None) -> None:
    bounces = 3 * Largest.MOST
    prices = 100 + 0.1 * (np.arange(bounces) % 2)
    prices[-50] = 150
    rows = trades(np.arange(bounces) * 2_880_000, prices=prices)
    for limits in ({}, {"jump": 0}):
        (told,) = found("trades", rows, cut=cut, **limits)
        assert told.text.startswith("1 price lies apart, first at 23:57:36.000: 150 beside 100.1")
    (told,) = found("trades", rows, cut=cut, jump=0, jump_factor=0)
    assert told.text.startswith(f"at least {Largest.MOST} prices lie apart")
    assert "the largest at 23:57:36.000: 150 beside 100.1" in told.text


@pytest.mark.parametrize("limits", [{"gap_minutes": 0.0, "gap_factor": 0.0}, {"jump": 0.0, "jump_factor": 0.0}])
def test_thresholds_of_nothing_take_no_more_memory(limits: dict[str, float]) -> None:
    stamps = np.arange(400_000) * 216_000
    rows = trades(stamps, ids=[None] * len(stamps))
    rules = rules_of(DATASETS["trades"], BTC, WHOLE, Thresholds(**limits))
    pieces = [rows.slice(at, 10_000).select(columns_of(rules)) for at in range(0, len(stamps), 10_000)]
    tracemalloc.start()
    assert len(list(oddities(rules, pieces))) == 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**20


def test_a_jump_must_be_large_beside_the_instruments_own_moves() -> None:
    prices = moving(step=0.01)
    prices[1001] = 109
    assert flaws("trades", trades(prices=prices)) == []
    prices[1001] = 112
    assert flaws("trades", trades(prices=prices)) == [Flaw.PRICE_JUMPS]


@pytest.mark.parametrize("after", [[130.0] * 500, [118.0] * 500, list(np.linspace(130, 100, 500))])
def test_a_price_that_moves_and_stays_is_none(after: list[float]) -> None:
    prices = moving()
    prices[1000:1500] = after
    prices[1500:] *= after[-1] / 100
    assert flaws("trades", trades(prices=prices)) == []


def test_few_moves_tell_nothing() -> None:
    prices = np.full(2880, 100.0)
    prices[1000] = 150
    assert flaws("trades", trades(prices=prices)) == []


@CUTS
@pytest.mark.parametrize("name", ["trades", "liquidations"])
def test_what_is_not_above_zero_is_told(name: str, cut: int | None) -> None:
    for column in ("price", "amount"):
        for value in (0.0, -1.0, None):
            rows = changed(trades(), column, {7: value, 9: value})
            (odd,) = found(name, rows, cut=cut)
            assert odd.flaw is Flaw.NOT_POSITIVE
            assert odd.text == "2 rows have a price or an amount that is not above 0, first at 00:03:30.000"


# books


def books(depth: int = 5, count: int = 10_000) -> pa.Table:
    """Sound books, one every 8 s and some."""
    stamps = START + np.arange(count) * (86_400 * SECOND // count)
    columns: dict[str, Any] = {"timestamp": pa.array(stamps).view(TIME), "local_timestamp": pa.array(stamps).view(TIME)}
    for level in range(1, depth + 1):
        columns[f"ask_price_{level}"] = np.full(count, 100.0 + level)
        columns[f"bid_price_{level}"] = np.full(count, 100.0 - level)
    return pa.table(columns)


@CUTS
@pytest.mark.parametrize("depth", [5, 25])
def test_a_sound_book_is_not_odd(depth: int, cut: int | None) -> None:
    rows = books(depth, 2_000)
    assert flaws(f"book_snapshot_{depth}", rows, cut=cut) == []
    # fewer levels than there are columns
    shallow = changed(changed(rows, f"ask_price_{depth}", {5: None}), f"bid_price_{depth}", {6: None})
    assert flaws(f"book_snapshot_{depth}", shallow, cut=cut) == []


@CUTS
@pytest.mark.parametrize("bid", [101.0, 103.0])
def test_a_book_that_is_crossed_or_locked_for_too_long_is_told(bid: float, cut: int | None) -> None:
    # one of 9,999 spans of time is just above the threshold, a little less is below
    crossed = changed(books(), "bid_price_1", {4000: bid})
    (odd,) = found("book_snapshot_5", crossed, cut=cut)
    assert odd.flaw is Flaw.CROSSED_BOOKS
    assert "0.010% of the time (1 snapshot), first at 09:36:00" in odd.text
    assert flaws("book_snapshot_5", crossed, cut=cut, crossed_share=0.00011) == []


@CUTS
@pytest.mark.parametrize("side", ["bid", "ask"])
def test_a_side_that_is_missing_for_too_long_is_told(side: str, cut: int | None) -> None:
    empty = dict.fromkeys(range(100))
    rows = books()
    for level in range(1, 6):
        rows = changed(rows, f"{side}_price_{level}", {row: value for row, value in empty.items() if row < 99})
    assert flaws("book_snapshot_5", rows, cut=cut) == []
    for level in range(1, 6):
        rows = changed(rows, f"{side}_price_{level}", empty)
    (odd,) = found("book_snapshot_5", rows, cut=cut)
    assert odd.flaw is Flaw.ONE_SIDED_BOOKS
    assert flaws("book_snapshot_5", rows, cut=cut, instrument=OPTION) == []


@CUTS
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("ask_price_3", 102.0),
        ("ask_price_2", 103.5),
        ("bid_price_5", 96.0),
        ("bid_price_2", 96.5),
        ("ask_price_3", None),
    ],
)
def test_levels_that_are_not_in_order_are_told(column: str, value: float | None, cut: int | None) -> None:
    (odd,) = found("book_snapshot_5", changed(books(), column, {5000: value}), cut=cut)
    assert odd.flaw is Flaw.LEVEL_ORDER
    assert odd.text == "1 snapshot has levels that are not in order of price, first at 12:00:00.000"


# candles


def minutes(closes: np.ndarray[Any, Any]) -> pa.Table:
    """1m candles that open where the one before closed, with a little shadow on each side."""
    opens = np.r_[closes[0], closes[:-1]]
    return pa.table(
        {
            "timestamp": pa.array(START + np.arange(len(closes)) * MINUTE).view(TIME),
            "open": opens,
            "high": np.maximum(opens, closes) * 1.0001,
            "low": np.minimum(opens, closes) / 1.0001,
            "close": closes,
        }
    )


MINUTES = minutes(moving(1440, 0.0005))


@CUTS
@pytest.mark.parametrize(("column", "value"), [("high", 110.0), ("low", 90.0)])
def test_a_wick_is_told(column: str, value: float, cut: int | None) -> None:
    assert flaws("ohlcv_1m", MINUTES, cut=cut) == []
    (odd,) = found("ohlcv_1m", changed(MINUTES, column, {600: value}), cut=cut)
    assert odd.flaw is Flaw.PRICE_JUMPS
    assert f"first at 10:00:00.000: {value:g} beside 100" in odd.text
    assert flaws("ohlcv_1m", changed(MINUTES, column, {600: value}), cut=cut, jump=0.12) == []


@CUTS
def test_a_candle_of_a_wrong_price_is_told(cut: int | None) -> None:
    rows = MINUTES
    for column in ("open", "high", "low", "close"):
        rows = changed(rows, column, {600: 50.0})
    assert flaws("ohlcv_1m", rows, cut=cut) == [Flaw.PRICE_JUMPS]


@CUTS
def test_a_price_that_stands_still_is_told(cut: int | None) -> None:
    def still(count: int) -> pa.Table:
        rows = MINUTES
        price = rows.column("close")[599].as_py()
        for column in ("open", "high", "low", "close"):
            rows = changed(rows, column, dict.fromkeys(range(600, 600 + count), price))
        return rows

    assert flaws("ohlcv_1m", still(59), cut=cut) == []
    (odd,) = found("ohlcv_1m", still(60), cut=cut)
    assert odd.flaw is Flaw.FLAT_PRICES
    assert odd.text.startswith("1 stretch without a move of the price: 09:59:00.000 to 11:00:00.000")
    nulls = still(60)
    for column in ("open", "high", "low", "close"):
        nulls = changed(nulls, column, dict.fromkeys(range(600, 660)))
    assert flaws("ohlcv_1m", nulls, cut=cut) == [Flaw.FLAT_PRICES]
    assert flaws("ohlcv_1m", without(MINUTES, (600, 660)), cut=cut) == [Flaw.FLAT_PRICES]


# all together


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(200, 5_000), st.sampled_from([0.0001, 0.001, 0.01]), st.integers(1, 3_000))
def test_clean_streams_have_nothing_odd(seed: int, count: int, step: float, cut: int) -> None:
    draw = np.random.default_rng(seed)
    at = np.sort(draw.integers(-2 * SECOND, 86_402 * SECOND, count))
    prices = 100 * np.exp(np.cumsum(draw.normal(0, step / 10, count))) * (1 + step * draw.integers(0, 2, count))
    local = at + draw.integers(1_000, 5 * SECOND, count)
    ids = [str(7_000 + n) for n in range(count)]
    rows = trades(at, local=local, ids=ids, prices=prices, amounts=draw.exponential(1, count) + 1e-6)
    assert [each.text for each in found("trades", rows, cut=cut)] == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 900))
def test_what_is_found_does_not_depend_on_how_rows_were_cut(seed: int, cut: int) -> None:
    draw = np.random.default_rng(seed)
    at = np.sort(draw.integers(0, 86_400 * SECOND, 900))
    at[draw.integers(0, 800) :] += draw.integers(0, 7_200) * SECOND
    prices = moving(900)
    prices[draw.integers(0, 900, 3)] *= draw.choice([1.5, 0.5, 1.01], 3)
    rows = trades(
        at,
        local=at + draw.integers(0, 100 * SECOND, 900),
        ids=[str(n) for n in np.r_[0:900] + 3 * (np.arange(900) > draw.integers(0, 900))],
        prices=prices,
    )
    rows = changed(rows, "id", {int(draw.integers(18, 900)): "17"})
    assert found("trades", rows, cut=cut) == found("trades", rows)


# the recorded data among the fixtures


def test_recorded_trades_end_where_the_recording_does() -> None:
    told = pq.read_table(FIXTURES / "candles" / "binance_trades_2019-10-11_2019-10-13_XRPETH.parquet")
    stamps = told.column("timestamp").cast(TIME)
    rows = told.set_column(0, "timestamp", stamps).append_column("local_timestamp", stamps)
    rows = rows.set_column(rows.schema.get_field_index("id"), "id", told.column("id").cast(pa.string()))
    days = np.asarray(stamps.combine_chunks().view(pa.int64())) // (86_400 * SECOND)
    texts = {}
    for number in np.unique(days).tolist():
        day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)).date()
        texts[day] = [
            each.text
            for each in found(
                "trades", rows.filter(pa.array(days == number)), life=Life(day, since=microseconds(midnight(day)))
            )
        ]
    assert texts == {
        date(2019, 10, 11): [],
        date(2019, 10, 12): [],
        date(2019, 10, 13): ["1 gap: 11:19:28.844 to 00:00:00.000, on a day where up to 60 minutes are usual"],
    }


def test_a_real_hole_in_recorded_candles_is_found() -> None:
    whole, torn = date(2016, 10, 8), date(2018, 4, 4)
    for day, told in ((whole, []), (torn, ["16:47:00.000 to 00:00:00.000"])):
        rows = bars(f"coinbase_minute_{day}_BTCUSD.csv.gz", day, ONE.length)
        texts = [each.text for each in found("ohlcv_1m", rows, life=Life(day, since=microseconds(midnight(day))))]
        assert len(texts) == len(told)
        assert all(span in text for span, text in zip(told, texts, strict=True))
