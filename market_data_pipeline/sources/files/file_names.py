"""What the path of a vendor's file tells: vendor, data type, day, venue and symbol. No file is opened here."""

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from market_data_pipeline.model.datasets import DATASETS, Kind
from market_data_pipeline.sources.formats.binance_csv import Market
from market_data_pipeline.sources.symbols import GROUPED

TICK_TYPES = tuple(name for name, dataset in DATASETS.items() if dataset.kind is Kind.TICKS)


class Vendor(StrEnum):
    """Who wrote a file, and so in which form it is."""

    TARDIS = "Tardis"
    BINANCE = "Binance"


@dataclass(frozen=True, slots=True)
class VendorFile:
    """A file that a vendor's naming rule tells.

    Attributes:
        path: where it lies.
        vendor: in whose form it is.
        data_type: the tick dataset.
        day: the vendor's day.
        venue: the data vendor's exchange id; None where the path does not tell it.
        symbol: the symbol as in the file's name.
    """

    path: Path
    vendor: Vendor
    data_type: str
    day: date
    venue: str | None
    symbol: str

    @property
    def group(self) -> str | None:
        """SPOT, PERPETUALS, FUTURES or OPTIONS, where the file holds all of a venue's instruments of that type."""
        return self.symbol.upper() if self.vendor is Vendor.TARDIS and self.symbol.upper() in GROUPED else None


_TYPES = "|".join(sorted(TICK_TYPES, key=len, reverse=True))
_EXCHANGE = r"(?P<venue>[a-z0-9]+(?:-[a-z0-9]+)*)"
_SYMBOL = r"(?P<symbol>[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*?)"
_DAY = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TARDIS_NAME = re.compile(rf"{_EXCHANGE}_(?P<data_type>{_TYPES})_{_DAY}_{_SYMBOL}\.csv(?:\.gz)?")
_TARDIS_TREE = re.compile(
    rf"(?:.*/)?{_EXCHANGE}/(?P<data_type>{_TYPES})/"
    rf"(?P<year>[0-9]{{4}})/(?P<month>[0-9]{{2}})/(?P<day>[0-9]{{2}})/{_SYMBOL}\.csv(?:\.gz)?"
)
_BINANCE_NAME = re.compile(rf"(?P<symbol>[^./\x00-\x1f\x7f-][^/\x00-\x1f\x7f-]*)-trades-{_DAY}\.(?:zip|csv|csv\.gz)")
_BINANCE_TREE = re.compile(r".*/(?P<market>spot|futures/um|futures/cm)/daily/trades/(?:[^/]+/)?[^/]+")
_TREE_MARKETS = {"spot": Market.SPOT, "futures/um": Market.UM, "futures/cm": Market.CM}
_FOLDERS = {"spot": Market.SPOT, "um": Market.UM, "cm": Market.CM} | {market.value: market for market in Market}
_DATE = re.compile(r"[0-9]{6}")


def recognise(root: Path, path: Path) -> VendorFile | None:
    """What a path below the source's folder tells; None where no vendor's naming rule fits.

    Args:
        root: the source's folder.
        path: a file below it.
    """
    name = path.name
    if match := _TARDIS_NAME.fullmatch(name):
        return _file(path, Vendor.TARDIS, match.groupdict())
    if match := _BINANCE_NAME.fullmatch(name):
        market = _market(root, path, match["symbol"])
        return _file(path, Vendor.BINANCE, match.groupdict() | {"data_type": "trades", "venue": market})
    if name.endswith((".csv", ".csv.gz")) and (match := _TARDIS_TREE.fullmatch(path.as_posix())):
        return _file(path, Vendor.TARDIS, match.groupdict())
    return None


def _file(path: Path, vendor: Vendor, parts: dict[str, str | None]) -> VendorFile | None:
    try:
        day = date(int(parts["year"] or 0), int(parts["month"] or 0), int(parts["day"] or 0))
    except ValueError:
        return None
    venue = parts["venue"]
    return VendorFile(path, vendor, parts["data_type"] or "", day, str(venue) if venue else None, parts["symbol"] or "")


def _market(root: Path, path: Path, symbol: str) -> Market | None:
    """The archive's tree first, then the nearest folder that names a market, then a symbol that only one market has.

    The tree may begin above the source's folder; a single folder name counts only below it, where it is meant so.
    """
    if match := _BINANCE_TREE.fullmatch(path.as_posix()):
        return _TREE_MARKETS[match["market"]]
    for part in path.relative_to(root).parts[-2::-1]:
        if part in _FOLDERS:
            return _FOLDERS[part]
    pair, _, rest = symbol.rpartition("_")
    if rest == "PERP" and pair:
        return Market.CM
    if _DATE.fullmatch(rest) and pair:
        return Market.CM if pair.endswith("USD") else Market.UM
    return None
