"""Names from outside stay in their folders, through the whole files source and into the lake."""

import gzip
import tempfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import MarketDataError, SourceError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.sources.files.source import FilesSource
from market_data_pipeline_tests.sources.vendor_files import TARDIS_HEADER, tardis_line

DAY = date(2024, 8, 8)
TRADES = DATASETS["trades"]

_odd = st.sampled_from(
    ["..", ".", "%2e%2e", "%2F", "\\", "~", "-", "_", ":", "*", " ", "\n", "é", "\u2215", "..\\..", "$(x)"]
)
_symbols = st.lists(_odd | st.sampled_from(["BTCUSDT", "BTC", "USDT", "SPOT", "C:"]), min_size=1, max_size=4).map(
    "".join
)
_venues = st.sampled_from(["binance", "deribit", "unknown", "a-b"])
_ids = st.sampled_from(
    ["binance:SPOT_PAIR:../../BTC-USDT", "binance:SPOT_PAIR:BTC-USDT", "/etc:Perp:X-Y", "deribit:Perp:..-USD"]
)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@settings(max_examples=60)
@given(st.lists(st.tuples(_venues, _symbols), min_size=1, max_size=4), st.none() | st.tuples(_venues, _symbols, _ids))
def test_whatever_files_are_called_only_the_lake_is_written(
    files: list[tuple[str, str]], declared: tuple[str, str, str] | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="confined-") as name:
        folder = Path(name)
        source, lake = folder / "deep" / "source", folder / "deep" / "lake"
        source.mkdir(parents=True)
        content = gzip.compress("\n".join([TARDIS_HEADER, tardis_line(), ""]).encode())
        for venue, symbol in files:
            (source / f"{venue}_trades_{DAY}_{symbol.replace('/', '')}.csv.gz").write_bytes(content)
        if declared:
            line = ",".join(f'"{value}"' for value in declared)
            (source / "instruments.csv").write_text(f"venue,symbol,instrument_id\n{line}\n", encoding="utf-8")
        before = tree(folder)
        store = LocalStore(lake)
        try:
            rows = FilesSource(source).files("trades", DAY, Selection())
            write_days(store, TRADES, [DAY], Selection(), rows)
        except MarketDataError:
            pass
        written = tree(folder) - before
        assert all(path.startswith("deep/lake") for path in written), written
        for info in store.list("market-data-tick/"):
            assert any(_is_of(layout, info.key) for layout in TRADES.layouts), info.key


def _is_of(layout: object, key: str) -> bool:
    try:
        return bool(layout.parse(key))  # type: ignore[attr-defined]
    except MarketDataError:
        return False


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    name = f"binance_trades_{DAY}_BTCUSDT.csv.gz"
    (outside / name).write_bytes(gzip.compress("\n".join([TARDIS_HEADER, tardis_line(), ""]).encode()))
    (source / name).symlink_to(outside / name)
    (source / "folder").symlink_to(outside)
    assert list(FilesSource(source).files("trades", DAY, Selection())) == []


def test_a_mapping_file_that_leads_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:x:0:0\n")
    source = tmp_path / "source"
    source.mkdir()
    (source / "instruments.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match=r"instruments.csv: a link that leads out of the folder") as caught:
        list(FilesSource(source).files("trades", DAY, Selection()))
    assert "x:0:0" not in str(caught.value)


@pytest.mark.parametrize("strange", ["\n", "\x1b", "\x7f"])
def test_a_name_with_control_characters_is_no_vendors_name(tmp_path: Path, strange: str) -> None:
    (tmp_path / f"binance_trades_{DAY}_BTC{strange}USDT.csv.gz").write_bytes(b"")
    (tmp_path / f"BTC{strange}USDT-trades-{DAY}.zip").write_bytes(b"")
    assert list(FilesSource(tmp_path).files("trades", DAY, Selection())) == []
