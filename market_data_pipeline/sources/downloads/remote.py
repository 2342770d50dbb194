"""Where the vendors are and how much may be fetched and kept: the settings of the sources that use the network."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from market_data_pipeline.model.errors import SettingError

_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Remote:
    """What the sources `tardis` and `binance` depend on.

    Attributes:
        tardis_url: where Tardis' files lie, without `/v1`.
        tardis_api_url: Tardis' API of exchanges and instruments, with its version.
        tardis_key: the key for both; empty for none. It is in no repr.
        binance_url: where the files of Binance's archive lie, without `/data`.
        binance_list_url: the S3 bucket that lists them.
        downloads: transfers at once, 1 or more.
        cache: the folder of the cache.
        cache_bytes: what it may hold; 0 for no cache.

    Raises:
        SettingError: an address is none, or holds credentials; the key holds what no key holds. Neither is shown.
    """

    tardis_url: str = "https://datasets.tardis.dev"
    tardis_api_url: str = "https://api.tardis.dev/v1"
    tardis_key: str = field(default="", repr=False)
    binance_url: str = "https://data.binance.vision"
    binance_list_url: str = "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision"
    downloads: int = 4
    cache: Path = Path(".cache/market-data")
    cache_bytes: int = 20_000_000_000

    def __post_init__(self) -> None:
        for name, setting in _ADDRESSES.items():
            _check_address(setting, getattr(self, name))
            object.__setattr__(self, name, getattr(self, name).rstrip("/"))
        if self.tardis_key and not _KEY.fullmatch(self.tardis_key):
            raise SettingError("TARDIS_API_KEY holds spaces, line ends or letters that no key has; copy it again")


_ADDRESSES = {
    "tardis_url": "TARDIS_BASE_URL",
    "tardis_api_url": "TARDIS_API_URL",
    "binance_url": "BINANCE_BASE_URL",
    "binance_list_url": "BINANCE_LIST_URL",
}


def _check_address(setting: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        sound = False
    if "@" in url:
        raise SettingError(f"{setting} holds a user name or password; addresses stand in messages, so leave them out")
    if not sound:
        given = repr(url.partition("?")[0].partition("#")[0])
        raise SettingError(f"{setting} is {given}; expected an address such as https://example.org, without ? and #")
