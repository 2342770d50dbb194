"""The `files` source: a folder of files bought or downloaded from vendors (Tardis, Binance's public archive)."""

import stat
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.sources.files.day_rows import day_rows
from market_data_pipeline.sources.files.file_names import TICK_TYPES
from market_data_pipeline.sources.files.folder_index import FolderIndex, Listing, inside
from market_data_pipeline.sources.files.mapping import MAPPING_NAME, Mapping, read_mapping
from market_data_pipeline.sources.files.states import state_of

_SETTING = "MARKET_DATA_SOURCE_PATH"


class FilesSource:
    """Ticks from a folder of vendors' files, looked through recursively.

    Known are Tardis' files, by name (`{exchange}_{data_type}_{YYYY-MM-DD}_{SYMBOL}.csv.gz`) or lying as in the vendor's
    URLs (`{exchange}/{data_type}/{YYYY}/{MM}/{DD}/{SYMBOL}.csv.gz`), also the grouped ones (SYMBOL is SPOT, PERPETUALS,
    FUTURES or OPTIONS), which are split by instrument; and trades of Binance's public archive
    (`{SYMBOL}-trades-{YYYY-MM-DD}.zip`), in its tree or under a folder that names the market (`spot`, `um`, `cm` or
    the venue), else told apart by symbol or columns. Files of other names are ignored and counted in `describe`. May
    be used from any thread.

    Attributes:
        folder: the folder; None (or an empty text) where nobody set it, which is an error once it is asked.
        mapping_path: the mapping file (see `mapping`): `instruments.csv` in the folder, which may be missing, or
            another one, which may not.
    """

    name = "files"
    has_listings = False
    venues: frozenset[str] | None = None

    def __init__(self, folder: Path | None, mapping: Path | None = None) -> None:
        self.folder = Path(folder) if folder and str(folder).strip() else None
        self._mapping_needed = mapping is not None
        self.mapping_path = mapping or (self.folder or Path()) / MAPPING_NAME
        self._index = FolderIndex(self.folder or Path(), self.mapping_path)
        self._declared: tuple[tuple[int, int, int], Mapping] | None = None

    @property
    def data_types(self) -> tuple[str, ...]:
        """Trades, and the other types of which the folder holds a file of any day; all while it cannot be listed."""
        try:
            listing = self._listing()
        except SourceError:
            return TICK_TYPES
        return tuple(name for name in TICK_TYPES if name == "trades" or listing.days(name))

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """What the folder has of a data type for a day and a selection (see `day_rows`).

        Raises:
            SourceError: the folder is missing or cannot be read, or the mapping file is malformed.
        """
        listed, mapping = self._listing().files.get((data_type, day), []), self._mapping()
        return day_rows(listed, DATASETS[data_type], day, selection, mapping)

    def states(self, data_type: str, days: Iterable[date], selection: Selection) -> dict[date, str]:
        """The state of the files of some days (see `state_of`): one look at each file, and none is opened.

        Raises:
            SourceError: the folder is missing or cannot be read, or the mapping file is malformed.
        """
        files = self._listing().files
        state = state_of(self._index.root, selection, self._mapping())
        found = {day: state(files.get((data_type, day), [])) for day in days}
        return {day: told for day, told in found.items() if told}

    def days_with(self, data_type: str, days: Iterable[date], selection: Selection) -> set[date]:
        """The days of which the folder holds a file of the selection; raises as `states` does."""
        return set(self.states(data_type, days, selection))

    def describe(self, data_type: str) -> str:
        """What the folder holds, in one line: `… holds trades for 3 days, 2024-08-06 to 2024-08-08`.

        Raises:
            SourceError: the folder is missing or cannot be read.
        """
        listing = self._listing()
        days = listing.days(data_type)
        others = [name for name in TICK_TYPES if name != data_type and listing.days(name)]
        text = f"{self.folder} holds {_days(data_type, days)}"
        if others and not days:
            text += f", but {' and '.join(_days(name, listing.days(name)) for name in others)}"
        if listing.ignored:
            text += f" ({listing.ignored} file{'s' * (listing.ignored > 1)} of no known name ignored)"
        return text

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values: the mapping file's word, else the built-in rule's.

        Raises:
            SourceError: the mapping file is malformed.
        """
        return self._mapping().contract(instrument)

    def listings(self, _day: date, _selection: Selection) -> None:
        """None: a folder of files has no master of instruments."""
        return

    def _listing(self) -> Listing:
        if self.folder is None:
            raise SourceError(f"the files source needs a folder: set {_SETTING} to the folder of your vendors' files")
        try:
            mode = self.folder.stat().st_mode
        except OSError as error:
            raise SourceError(f"{_SETTING}={self.folder}: the folder cannot be opened: {error.strerror}") from error
        if not stat.S_ISDIR(mode):
            raise SourceError(f"{_SETTING}={self.folder}: is a file; expected the folder that holds the vendors' files")
        return self._index.listing()

    def _mapping(self) -> Mapping:
        """The mapping file as it is now; read again when it has changed."""
        path = self.mapping_path
        if path.is_symlink() and not self._mapping_needed and not inside(path, path.parent.resolve()):
            raise SourceError(f"{path}: a link that leads out of the folder is not followed; put the file itself there")
        try:
            status = self.mapping_path.stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and not self._mapping_needed:
                return Mapping(self.mapping_path)
            raise SourceError(f"{self.mapping_path}: the mapping file cannot be read: {error.strerror}") from error
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._declared is None or self._declared[0] != version:
            self._declared = (version, read_mapping(self.mapping_path))
        return self._declared[1]


def _days(data_type: str, days: list[date]) -> str:
    if not days:
        return f"no {data_type}"
    if len(days) == 1:
        return f"{data_type} for 1 day, {days[0]}"
    return f"{data_type} for {len(days)} days, {days[0]} to {days[-1]}"
