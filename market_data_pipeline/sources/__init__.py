"""Floor 2: where ticks come from. One contract; each source turns its vendor's form into the dataset's own columns."""

from pathlib import Path

from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.sources.contract import Source

__all__ = ["NAMES", "Source", "open_source"]

NAMES = ("sample", "files")
"""What MARKET_DATA_SOURCE can be."""


def open_source(name: str, path: Path | None = None) -> Source:
    """The source of this name.

    Args:
        name: one of NAMES.
        path: the folder of `files`.

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
    raise SettingError(f"MARKET_DATA_SOURCE is {name!r}; expected {' or '.join(NAMES)}")
