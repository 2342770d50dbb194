"""The `files` source: a folder of files bought or downloaded from vendors (Tardis, Binance's public archive)."""

import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.sources.files.file_names import TICK_TYPES, Vendor, VendorFile
from market_data_pipeline.sources.files.folder_index import FolderIndex, Listing
from market_data_pipeline.sources.files.mapping import MAPPING_NAME, Mapping, read_mapping
from market_data_pipeline.sources.formats.binance_csv import Market, market_by_columns, read_binance_trades
from market_data_pipeline.sources.formats.tardis_csv import read_tardis
from market_data_pipeline.sources.symbols import GROUPED

_SETTING = "MARKET_DATA_SOURCE_PATH"


class FilesSource:
    """Ticks from a folder of vendors' files, looked through recursively.

    Known are Tardis' files, by name (`{exchange}_{data_type}_{YYYY-MM-DD}_{SYMBOL}.csv.gz`) or lying as in the vendor's
    URLs (`{exchange}/{data_type}/{YYYY}/{MM}/{DD}/{SYMBOL}.csv.gz`), and trades of Binance's public archive
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
    data_types: tuple[str, ...] = (
        "trades",
        "book_snapshot_5",
        "book_snapshot_25",
        "liquidations",
        "derivative_ticker",
    )

    def __init__(self, folder: Path | None, mapping: Path | None = None) -> None:
        self.folder = Path(folder) if folder and str(folder).strip() else None
        self._mapping_needed = mapping is not None
        self.mapping_path = mapping or (self.folder or Path()) / MAPPING_NAME
        self._index = FolderIndex(self.folder or Path(), self.mapping_path)
        self._declared: tuple[tuple[int, int, int], Mapping] | None = None

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """What the folder has of a data type for a day and a selection, in the order of the instruments.

        A file whose symbol or market cannot be told, or that holds a group of instruments, comes without an instrument;
        two files of one instrument come as one. Reading either raises the SourceError that says what to do.

        Raises:
            SourceError: the folder is missing or cannot be read, or the mapping file is malformed.
        """
        listed = self._listing().files.get((data_type, day), [])
        mapping = self._mapping()
        known: dict[Instrument, list[tuple[VendorFile, str]]] = defaultdict(list)
        unknown: list[DayRows] = []
        for file in listed:
            try:
                venue, instrument = _identify(file, mapping)
            except SourceError as error:
                unknown.append(DayRows(day, None, str(file.path), _refusal(str(error))))
            else:
                if instrument in selection:
                    known[instrument].append((file, venue))
        return iter([*(_tick_file(day, key, known[key]) for key in sorted(known)), *unknown])

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


def _identify(file: VendorFile, mapping: Mapping) -> tuple[str, Instrument]:
    """The venue and the instrument of a file; the file is opened only where its path does not tell the venue."""
    if file.vendor is Vendor.TARDIS and file.symbol in GROUPED:
        raise SourceError(
            f"{file.path}: the grouped file of all {file.symbol} of {file.venue} is not read yet; download the "
            "instruments' own files"
        )
    venue = file.venue or _binance_venue(file, mapping)
    try:
        return venue, mapping.instrument(venue, file.symbol)
    except InstrumentError as error:
        raise SourceError(f"{file.path}: {error}") from None


def _binance_venue(file: VendorFile, mapping: Mapping) -> str:
    market = market_by_columns(file.path)
    if market is not None:
        return market.value
    declared = [venue.value for venue in Market if (venue.value, file.symbol) in mapping.instruments]
    if len(declared) == 1:
        return declared[0]
    raise SourceError(
        f"{file.path}: neither path nor columns tell Binance's market; put the file under spot/, um/ or cm/, or "
        + mapping.advice(Market.SPOT.value, file.symbol)
    )


def _tick_file(day: date, instrument: Instrument, files: list[tuple[VendorFile, str]]) -> DayRows:
    if len(files) == 1:
        file, venue = files[0]
        return DayRows(day, instrument, str(file.path), partial(_read, file, venue))
    paths = [str(file.path) for file, _ in files]
    return DayRows(
        day,
        instrument,
        " and ".join(paths),
        _refusal(f"{instrument} on {day}: {len(paths)} files hold it, {' and '.join(paths)}; keep one of them"),
    )


def _read(file: VendorFile, venue: str, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    if file.vendor is Vendor.BINANCE:
        return read_binance_trades(file.path, Market(venue), file.day, rejects)
    return read_tardis(file.path, DATASETS[file.data_type], file.day, venue, file.symbol, rejects)


def _refusal(message: str) -> Callable[[Rejects], Iterator[pa.RecordBatch]]:
    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        raise SourceError(message)

    return read


def _days(data_type: str, days: list[date]) -> str:
    if not days:
        return f"no {data_type}"
    if len(days) == 1:
        return f"{data_type} for 1 day, {days[0]}"
    return f"{data_type} for {len(days)} days, {days[0]} to {days[-1]}"
