"""Writing files as the vendors write them, for tests."""

import gzip
import zipfile
from datetime import date
from pathlib import Path

DAY = date(2024, 8, 8)
NOON = 1_723_118_400_000_000
"""12:00 of DAY in microseconds."""
TARDIS_HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
UM_HEADER = "id,price,qty,quote_qty,time,is_buyer_maker"
CM_HEADER = "id,price,qty,base_qty,time,is_buyer_maker"

SPOT_MS = "3723812345,55010.01000000,0.00100000,55.01001000,1723118400123,True,True"
SPOT_US = "4426817354,93548.80000000,0.00012000,11.22585600,1735689600023177,False,True"
UM = "5266583935,61800.30,0.006,370.8018,1723118400322,false"
CM = "842671012,55105.3,12,0.02177648,1723118400511,true"


def tardis_line(**changed: object) -> str:
    row = {
        "exchange": "binance-futures",
        "symbol": "BTCUSDT",
        "timestamp": NOON,
        "local_timestamp": NOON + 3_217,
        "id": "5266583935",
        "side": "buy",
        "price": "61800.30",
        "amount": "0.006",
    } | changed
    return ",".join(str(value) for value in row.values())


def write(path: Path, lines: list[str]) -> Path:
    """Writes lines in the form that the file's name asks for; no lines make an empty text."""
    text = "".join(f"{line}\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text, mtime=0))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", text)
    else:
        path.write_bytes(text)
    return path


def write_trades(folder: Path, symbol: str = "BTCUSDT", rows: int = 3, exchange: str = "binance-futures") -> Path:
    """A Tardis file of trades, flat in the folder."""
    lines = [tardis_line(exchange=exchange, symbol=symbol, timestamp=NOON + i * 1000, id=i) for i in range(rows)]
    return write(folder / f"{exchange}_trades_{DAY}_{symbol}.csv.gz", [TARDIS_HEADER, *lines])
