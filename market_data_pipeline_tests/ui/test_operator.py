"""An operator's day, by the buttons of the UI in a real browser."""

from datetime import date
from pathlib import Path

from market_data_pipeline import MarketDataLake
from market_data_pipeline_tests.defs.test_bad_input import BROKEN, no_number
from market_data_pipeline_tests.defs.vendor_days import SYMBOLS, file_of, write_days
from market_data_pipeline_tests.ui.browser import opened_ui

DAY = date(2024, 8, 8)
_COLOUR = """element => {
    for (let each = element; each; each = each.parentElement) {
        const found = getComputedStyle(each).backgroundColor.match(/\\d+(\\.\\d+)?/g).map(Number);
        if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
    }
}"""
"""The colour behind an element, as red, green and blue."""


def test_a_day_and_a_range_are_materialized_by_the_buttons_and_seen(tmp_path: Path) -> None:
    with opened_ui(tmp_path, MARKET_DATA_START="2024-08-01") as ui:
        page = ui.page
        ui.open("asset-groups")
        ui.wait_for("availability")
        page.get_by_role("button", name="Materialize all").click()
        ui.launch(f"{DAY}", "Launch 1 run")
        ui.wait_in("runs", "Success")

        ui.open(f"assets/ohlcv_1h?view=partitions&partition={DAY}")
        ui.wait_for("Materialized (1)")
        picture = page.locator("td img").first
        picture.wait_for()
        assert picture.get_attribute("src").startswith("data:image/svg+xml,")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 480
        red, green, blue = page.get_by_text("Materialized", exact=True).last.evaluate(_COLOUR)
        assert green > max(red, blue)
        table = page.locator("td table")
        table.wait_for()
        assert table.locator("th").all_inner_texts()[:3] == ["timestamp", "open", "high"]
        assert f"{DAY} 00:00:00" in table.inner_text()
        ui.keep("candles")
        ui.open("assets/ohlcv_1h?view=overview")
        ui.wait_for("last price (quote asset) ← ohlcv_15m.close")
        ui.wait_for("One row: one candle of 1h")

        ui.open("asset-groups")
        ui.wait_for("availability")
        page.get_by_role("button", name="Materialize all").click()
        ui.launch("[2024-08-05...2024-08-07]", "Launch backfill")
        ui.wait_in("runs?view=backfills", "Success")
        ui.open(f"assets/available_instruments?view=partitions&partition={DAY}")
        ui.wait_for("Materialized (4)")
        page.locator("td img").wait_for()
        ui.keep("availability")
    lake = MarketDataLake(tmp_path / "lake")
    assert lake.candles("binance:SPOT_PAIR:BTC-USDT", "1h", "2024-08-05", "2024-08-09").num_rows == 4 * 24


def test_a_broken_file_is_told_by_its_check_with_file_line_and_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    write_days(folder, [DAY])
    broken = file_of(folder, *BROKEN, DAY)
    no_number(broken)
    with opened_ui(
        tmp_path, MARKET_DATA_START="2024-08-01", MARKET_DATA_SOURCE="files", MARKET_DATA_SOURCE_PATH=str(folder)
    ) as ui:
        ui.open("asset-groups")
        ui.wait_for("availability")
        ui.page.get_by_role("button", name="Materialize all").click()
        ui.launch(f"{DAY}", "Launch 1 run")
        ui.wait_in("runs", "Success")
        ui.open("assets/trades?view=checks&checkDetail=every_instrument_read")
        said = ui.wait_for(broken.name).inner_text()
        ui.keep("failed-check")
    assert "line 3" in said
    assert "'abc'" in said
    assert SYMBOLS[BROKEN] in said
    assert "What to do: mend or replace" in said
    lake = MarketDataLake(tmp_path / "lake")
    others = set(SYMBOLS.values()) - {SYMBOLS[BROKEN]}
    for rows in (lake.candles(None, "1d", DAY, "2024-08-09"), lake.available_instruments(DAY)):
        assert set(rows.column("instrument_id").to_pylist()) == others
