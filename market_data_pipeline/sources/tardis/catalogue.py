"""What Tardis has of an exchange: symbols, data types and days, from the vendor's API of exchanges (no key needed).

Format: https://docs.tardis.dev/api/http-api-reference#exchanges-exchange
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.sources.symbols import GROUPED, instrument_of

_TYPES = {
    "spot": InstrumentType.SPOT,
    "perpetual": InstrumentType.PERPETUAL,
    "future": InstrumentType.FUTURE,
    "option": InstrumentType.OPTION,
}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of which there are files.

    Attributes:
        id: as in the files' addresses, but not yet in capitals.
        type: what it is; None for what the lake does not know (combos, indices).
        data_types: of which there are files.
        since: the first day.
        until: the start or the end of the last day; None as long as days are added.
    """

    id: str
    type: InstrumentType | None
    data_types: frozenset[str]
    since: datetime
    until: datetime | None

    def on(self, start: datetime) -> bool:
        """Whether there is a file of the day that starts then, or may be one: see `ends_on`."""
        return self.since < start + DAY and (self.until is None or start <= self.until)

    def ends_on(self, start: datetime) -> bool:
        """Whether `until` lies in the day that starts then: it need not have a file.

        The vendor does not say whether `availableTo` is the last day's start or its end.
        """
        return self.until is not None and self.until < start + DAY

    def days(self) -> str:
        """The days, in words."""
        return f"from {self.since:%Y-%m-%d} " + (f"to {self.until:%Y-%m-%d}" if self.until else "on")


@dataclass
class Exchange:
    """What there is of one exchange.

    Attributes:
        venue: its id.
        known: the symbols of each instrument (one, or several at different times).
        unknown: symbols that no rule tells apart, of the types that the lake knows.
        groups: symbols that stand for all of a type.
    """

    venue: str
    known: dict[Instrument, list[Symbol]] = field(default_factory=lambda: defaultdict(list))
    unknown: list[Symbol] = field(default_factory=list)
    groups: dict[str, Symbol] = field(default_factory=dict)


def read_exchange(venue: str, answer: Any, url: str) -> Exchange:
    """What the API's answer tells.

    Args:
        venue: the exchange's id.
        answer: the JSON of `/exchanges/{venue}`.
        url: where it comes from, for messages.

    Raises:
        SourceError: the answer has not the form that the vendor describes.
    """
    exchange = Exchange(venue)
    try:
        datasets = answer["datasets"]
        exported = instant(datasets.get("exportedUntil"))
        symbols = [_symbol(told, exported) for told in datasets["symbols"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{url}: the answer has another form than expected ({type(error).__name__}: {error})"
        ) from None
    for symbol in symbols:
        if symbol.id.upper() in GROUPED:
            exchange.groups[symbol.id.upper()] = symbol
        elif symbol.type is not None:
            try:
                instrument = instrument_of(venue, symbol.id)
            except InstrumentError:
                exchange.unknown.append(symbol)
            else:
                exchange.known[instrument].append(symbol)
    return exchange


def _symbol(told: Mapping[str, Any], exported: datetime | None) -> Symbol:
    since, until = instant(told["availableSince"]), instant(told.get("availableTo"))
    if since is None:
        raise ValueError("availableSince is empty")
    if until is not None and exported is not None and until >= exported:
        until = None
    return Symbol(str(told["id"]), _TYPES.get(told.get("type", "")), frozenset(told["dataTypes"]), since, until)


def instant(text: str | None) -> datetime | None:
    """A time of the API (`2019-03-30T00:00:00.000Z`), in UTC; None for none.

    Raises:
        ValueError: it is no time.
    """
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
