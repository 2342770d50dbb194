"""A day of both vendors for the vendor server: real rows where there are fixtures, made-up ones beside them.

Run by hand: `python -m market_data_pipeline_tests.sources.vendor_days --port 9100`, then see docs/vendors.md.
"""

import argparse
import gzip
import threading
from datetime import date, timedelta
from pathlib import Path

from market_data_pipeline_tests.sources.vendor_files import (
    CM,
    CM_HEADER,
    DAY,
    SPOT_MS,
    TARDIS_HEADER,
    UM,
    UM_HEADER,
    tardis_line,
)
from market_data_pipeline_tests.sources.vendor_server import VendorServer

FIXTURES = Path(__file__).parents[1] / "fixtures"
SAMPLES = sorted((FIXTURES / "tardis_samples").glob("*.csv"))
REAL_TARDIS = FIXTURES / "tardis" / f"binance-futures_trades_{DAY}_BTCUSDT.csv.gz"
REAL_UM = FIXTURES / "binance/futures/um/daily/trades/BTCUSDT" / f"BTCUSDT-trades-{DAY}.csv.gz"
REAL_KLINES = FIXTURES / "candles" / f"binance-futures_klines_1m_{DAY}_BTCUSDT.csv"
EXPORTED = DAY + timedelta(days=30)
NEW_YEAR = date(2025, 1, 1)

_MIDNIGHT = 1_723_161_600_000
"""The end of DAY in milliseconds."""
_ALL = ("trades", "book_snapshot_5", "book_snapshot_25", "derivative_ticker", "liquidations")
SPOT_US = (
    "4426817354,93548.80000000,0.00012000,11.22585600,1735689600023177,False,True",
    "4426817355,93548.81000000,0.50000000,46774.40500000,1735689600023178,True,True",
)
CM_KLINE = "1723118400000,55105.3,55110.0,55100.1,55102.2,120,1723118459999,0.21776480,7,50,0.09073,0"

_CM_MINUTE = "1723118400000,55105.3,55105.3,55105.3,55105.3,12,1723118459999,0.02177648,1,0,0.00000000,0"
"""The minute of the one coin-margined trade."""


def symbol(
    name: str, kind: str, types: tuple[str, ...] = _ALL, since: str = "2019-11-17", to: date | str = EXPORTED
) -> dict[str, object]:
    """A symbol as the API of exchanges tells it."""
    times = {"availableSince": f"{since}T00:00:00.000Z", "availableTo": f"{to}T00:00:00.000Z"}
    return {"id": name, "type": kind, "dataTypes": list(types)} | times


def put_exchange(server: VendorServer, exchange: str, *symbols: dict[str, object]) -> str:
    """What there is of an exchange; the address of the answer."""
    datasets = {"formats": ["csv"], "exportedUntil": f"{EXPORTED}T00:00:00.000Z", "symbols": symbols}
    return server.put_json(f"/api/exchanges/{exchange}", {"id": exchange, "enabled": True, "datasets": datasets})


def put_day(server: VendorServer) -> None:
    """A whole day (DAY) of both vendors, and the days of the vendor's own samples."""
    put_exchange(
        server,
        "binance-futures",
        symbol("PERPETUALS", "perpetual"),
        symbol("BTCUSDT", "perpetual"),
        symbol("ETHUSDT", "perpetual"),
    )
    put_exchange(server, "binance", symbol("SPOT", "spot", ("trades",)), symbol("BTCUSDT", "spot", ("trades",)))
    put_exchange(server, "bitmex", symbol("XBTUSD", "perpetual"), symbol("ETHUSD", "perpetual"))
    put_exchange(
        server,
        "deribit",
        symbol("BTC-PERPETUAL", "perpetual", ("trades",)),
        symbol("OPTIONS", "option", ("trades", "options_chain")),
        symbol("BTC-FS-27SEP24_PERP", "combo", ("trades",)),
    )
    server.put_tardis("binance-futures", "trades", DAY, "BTCUSDT", gzip.decompress(REAL_TARDIS.read_bytes()))
    for exchange, name in (("binance-futures", "ETHUSDT"), ("binance", "BTCUSDT"), ("deribit", "BTC-PERPETUAL")):
        lines = [TARDIS_HEADER, *(tardis_line(exchange=exchange, symbol=name, id=n) for n in range(3))]
        server.put_tardis(exchange, "trades", DAY, name, text(lines))
    for sample in SAMPLES:
        exchange, data_type, day, name = sample_parts(sample)
        server.put_tardis(exchange, data_type, day, name, sample.read_bytes())

        if data_type not in ("trades", "options_chain"):
            for name in ("BTCUSDT", "ETHUSDT"):
                server.put_tardis("binance-futures", data_type, DAY, name, as_of_day(sample, "binance-futures", name))

    server.put_binance(um("BTCUSDT", DAY), gzip.decompress(REAL_UM.read_bytes()))
    server.put_binance(um("ETHUSDT", DAY), text([UM_HEADER, UM]))
    server.put_binance(f"spot/daily/trades/BTCUSDT/BTCUSDT-trades-{DAY}.zip", text([SPOT_MS]))
    server.put_binance(f"spot/daily/trades/BTCUSDT/BTCUSDT-trades-{NEW_YEAR}.zip", text(SPOT_US))
    server.put_binance(f"futures/cm/daily/trades/BTCUSD_PERP/BTCUSD_PERP-trades-{DAY}.zip", text([CM_HEADER, CM]))
    server.put_binance(f"futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-{DAY}.zip", text(real_klines()))
    server.put_binance(f"futures/cm/daily/klines/BTCUSD_PERP/1m/BTCUSD_PERP-1m-{DAY}.zip", text([_CM_MINUTE]))


def as_of_day(sample: Path, exchange: str, name: str) -> bytes:
    """The rows of one of the vendor's samples as if they were of DAY, and of another instrument."""
    _, _, day, _ = sample_parts(sample)
    shift = (DAY - day) // timedelta(microseconds=1)
    header, *lines = (line.split(",") for line in sample.read_text().splitlines())
    rows = [header]
    for cells in lines:
        row = dict(zip(header, cells, strict=True)) | {"exchange": exchange, "symbol": name}
        rows.append([str(int(cell) + shift) if cell and "timestamp" in at else cell for at, cell in row.items()])
    return text([",".join(row) for row in rows])


def real_klines() -> list[str]:
    """The exchange's own candles that there are of DAY."""
    return [line for line in REAL_KLINES.read_text().split() if int(line.split(",")[0]) < _MIDNIGHT]


def um(name: str, day: date) -> str:
    """Where the archive has trades of a USDT-margined symbol, below `/data`."""
    return f"futures/um/daily/trades/{name}/{name}-trades-{day}.zip"


def sample_parts(sample: Path) -> tuple[str, str, date, str]:
    """Exchange, data type, day and symbol in the name of one of the vendor's samples."""
    exchange, rest = sample.stem.split("_", 1)
    data_type, day, name = rest.rsplit("_", 2)
    return exchange, data_type, date.fromisoformat(day), name


def text(lines: list[str] | tuple[str, ...]) -> bytes:
    """Lines as a file holds them."""
    return "".join(f"{line}\n" for line in lines).encode()


def main() -> None:
    """Serves a day of both vendors until it is stopped."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=9100)
    with VendorServer(arguments.parse_args().port) as server:
        put_day(server)
        print(f"serving on {server.url}; stop it with Ctrl-C")
        threading.Event().wait()


if __name__ == "__main__":
    main()
