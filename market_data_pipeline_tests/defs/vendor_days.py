"""Folders of small vendor files for tests: Tardis' trades of two venues and several instruments."""

import gzip
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np

from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.settings import Settings

SYMBOLS = {
    ("binance", "BTCUSDT"): "binance:SPOT_PAIR:BTC-USDT",
    ("binance", "ETHUSDT"): "binance:SPOT_PAIR:ETH-USDT",
    ("deribit", "BTC-PERPETUAL"): "deribit:Perp:BTC-USD",
    ("deribit", "ETH-PERPETUAL"): "deribit:Perp:ETH-USD",
    ("deribit", "BTC-27SEP24-60000-C"): "deribit:Option:BTC-USD-60000-240927-C",
}
HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def file_of(folder: Path, venue: str, symbol: str, day: date) -> Path:
    """Where the file of a day lies, by the vendor's name."""
    return folder / f"{venue}_trades_{day}_{symbol}.csv.gz"


def write_days(folder: Path, days: Iterable[date], trades: int = 60) -> None:
    """Files of all symbols for some days; their exchange times reach over midnight both ways."""
    folder.mkdir(parents=True, exist_ok=True)
    for day in days:
        for number, (venue, symbol) in enumerate(SYMBOLS):
            draw = np.random.default_rng([day.toordinal(), number])
            millis = np.sort(draw.integers(0, 86_400_000, trades))
            millis[0], millis[-1] = -1_000 - number, 86_401_000 + number
            stamps = millis * 1000 + microseconds(midnight(day))
            prices = np.round(100 * (number + 1) + draw.normal(0, 1, trades).cumsum(), 1)
            lines = [
                f"{venue},{symbol},{stamp},{stamp + 2000},{at},{'buy' if at % 3 else 'sell'},{price},{at % 7 + 10}\n"
                for at, (stamp, price) in enumerate(zip(stamps.tolist(), prices.tolist(), strict=True))
            ]
            write(file_of(folder, venue, symbol, day), HEADER + "".join(lines))


def settings_of(folder: Path, days: Iterable[date]) -> Settings:
    """Settings of a lake in a folder, whose source are such files of some days beside it."""
    write_days(folder / "files", days)
    return Settings(lake=str(folder / "lake"), source="files", source_path=folder / "files")


def write(path: Path, text: str) -> None:
    """A gzip file with this text; the same text makes the same bytes."""
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
