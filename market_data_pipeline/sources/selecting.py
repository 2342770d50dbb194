"""What a selection of instruments can mean at a vendor: venues, types, symbols without rules."""

from collections.abc import Iterable
from datetime import date

from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, unreadable

_SHOWN = 10


def venues_meant(selection: Selection, venues: Iterable[str]) -> tuple[str, ...]:
    """Those of some venues of which the selection may hold an instrument, in their order."""
    return tuple(venue for venue in venues if selection.may_hold(f"{venue}:"))


def types_meant(selection: Selection, venue: str) -> frozenset[InstrumentType]:
    """The types of which the selection may hold an instrument of this venue."""
    return frozenset(kind for kind in InstrumentType if selection.may_hold(f"{venue}:{kind}:"))


def named(selection: Selection, venue: str) -> tuple[Instrument, ...]:
    """The instruments of a venue that the selection names one by one, in order."""
    return tuple(sorted(each for each in selection.named if each.venue == venue))


def may_be_meant(selection: Selection, venue: str, kind: InstrumentType, symbol: str) -> bool:
    """Whether a symbol that no rule tells apart may be of the selection.

    Of one that is a base and a quote asset run together, every cut into two is looked at; of others, all that is known
    is venue and type.
    """
    if kind not in types_meant(selection, venue):
        return False
    if kind in (InstrumentType.FUTURE, InstrumentType.OPTION) or not symbol.isalnum():
        return True
    return any(_holds(selection, venue, kind, symbol[:cut], symbol[cut:]) for cut in range(1, len(symbol)))


def _holds(selection: Selection, venue: str, kind: InstrumentType, base: str, quote: str) -> bool:
    try:
        return Instrument(venue, kind, base, quote) in selection
    except InstrumentError:
        return False


def unknown_symbols(day: date, origin: str, venue: str, symbols: list[str]) -> DayRows:
    """The rows of symbols that may be meant, but that no rule tells apart."""
    some = ", ".join(symbols[:_SHOWN]) + (", …" if len(symbols) > _SHOWN else "")
    return unreadable(
        day,
        None,
        origin,
        f"{origin}: {len(symbols)} symbols of {venue} may be meant, but no rule tells what they are: {some}; they are "
        "left out: name the instruments that you want one by one in MARKET_DATA_INSTRUMENTS",
    )
