"""Floor 2: where ticks come from. One contract; each source turns its vendor's form into the dataset's own columns."""

from pathlib import Path

from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.sources.contract import Source
from market_data_pipeline.sources.downloads.remote import Remote

__all__ = ["NAMES", "Remote", "Source", "open_source"]

NAMES = ("sample", "files", "tardis", "binance")
"""What MARKET_DATA_SOURCE can be."""


def open_source(name: str, path: Path | None = None, remote: Remote | None = None) -> Source:
    """The source of this name.

    Args:
        name: one of NAMES.
        path: the folder of `files`.
        remote: where the vendors are, and how much may be fetched and kept; None for the defaults.

    Raises:
        SettingError: there is no such source.
        SourceError: the source cannot be used as it is set up.
    """
    if name == "sample":
        from market_data_pipeline.sources.sample.source import SampleSource

        return SampleSource()
    if name == "files":
        from market_data_pipeline.sources.files.source import FilesSource

        return FilesSource(path)
    if name == "tardis":
        from market_data_pipeline.sources.tardis.source import TardisSource

        return TardisSource(remote or Remote())
    if name == "binance":
        from market_data_pipeline.sources.binance.source import BinanceSource

        return BinanceSource(remote or Remote())
    raise SettingError(f"MARKET_DATA_SOURCE is {name!r}; expected {' or '.join(NAMES)}")
