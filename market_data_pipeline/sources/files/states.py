"""The state of a day's files, from names, sizes and times of change alone: no file is opened here."""

from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path

from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.sources.files.file_names import VendorFile
from market_data_pipeline.sources.files.mapping import Mapping
from market_data_pipeline.sources.formats.binance_csv import Market
from market_data_pipeline.sources.symbols import GROUPED, file_symbol

_UNKNOWN = "?"


def state_of(root: Path, selection: Selection, mapping: Mapping) -> Callable[[Iterable[VendorFile]], str | None]:
    """Tells the state of some files: a text that changes with any of them, or with what they are taken for.

    Files that cannot hold anything of the selection do not count; None where no other is left. Of the mapping file
    counts which instrument it makes of a symbol: what it says of contracts leaves ticks as they are.

    Args:
        root: the source's folder; where it lies does not matter.
        selection: the instruments that are asked for.
        mapping: tells the instrument of a symbol.
    """
    meaning = cache(lambda venue, symbol, group: _meaning(venue, symbol, group, selection, mapping))

    def state(files: Iterable[VendorFile]) -> str | None:
        lines = []
        for file in files:
            meant = meaning(file.venue, file.symbol, file.group)
            if meant is not None:
                lines.append(f"{file.path.relative_to(root)}\n{_stamp(file.path)}\n{meant}\n")
        return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:32] if lines else None

    return state


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"{error.strerror}"
    return f"{status.st_size} {status.st_mtime_ns}"


def _meaning(venue: str | None, symbol: str, group: str | None, selection: Selection, mapping: Mapping) -> str | None:
    """Which instruments a file is taken to hold; None where none of them can be of the selection."""
    if venue and group:
        declared = {at: instrument.id for at, instrument in mapping.instruments.items() if at[0] == venue}
        return str(sorted(declared.items())) if selection.may_hold(f"{venue}:{GROUPED[group]}:") else None
    venues = (venue,) if venue else tuple(market.value for market in Market)
    if not any(selection.may_hold(f"{each}:") for each in venues):
        return None
    if venue is None:  # its columns tell the market, and so the instrument
        return " ".join(str(mapping.instruments.get((each, file_symbol(symbol)))) for each in venues)
    try:
        instrument = mapping.instrument(venue, symbol)
    except InstrumentError:
        return _UNKNOWN
    return instrument.id if instrument in selection else None
