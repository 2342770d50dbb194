"""What Tardis has of an exchange: symbols, data types and days, from the vendor's API of exchanges (no key needed).

Format: https://docs.tardis.dev/api/http-api-reference#exchanges-exchange
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.model.windows import DAY, midnight
from market_data_pipeline.sources.symbols import GROUPED, instrument_of

FRESH = 300.0
"""Seconds for which an answer of the API is taken for what lies there now."""

_TYPES = {
    "spot": InstrumentType.SPOT,
    "perpetual": InstrumentType.PERPETUAL,
    "future": InstrumentType.FUTURE,
    "option": InstrumentType.OPTION,
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of which there are files.

    Attributes:
        id: as in the files' addresses, but not yet in capitals.
        type: what it is; None for what the lake does not know (combos, indices).
        data_types: of which there are files.
        since: the first day.
        until: the end of the last day; None as long as days are added.
    """

    id: str
    type: InstrumentType | None
    data_types: frozenset[str]
    since: datetime
    until: datetime | None

    def on(self, day: date) -> bool:
        """Whether there should be a file of the day, or may be one: see `ends_on`."""
        return self.since < midnight(day) + DAY and (self.until is None or midnight(day) <= self.until)

    def ends_on(self, day: date) -> bool:
        """Whether the day is the one after the last, or the last: the API's `availableTo` is both, by exchange."""
        return self.until is not None and self.until < midnight(day) + DAY

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


class Recent:
    """Answers that are asked for again once they are no longer fresh. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, Any]] = {}

    def get(self, key: str, ask: Callable[[], _T]) -> _T:
        """The answer to a question, at most FRESH seconds old; errors are not kept."""
        with self._lock:
            if key in self._answers and time.monotonic() - self._answers[key][0] < FRESH:
                kept: _T = self._answers[key][1]
                return kept
            answer = ask()
            self._answers[key] = (time.monotonic(), answer)
            return answer


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
        datasets = answer.get("datasets") or {}
        exported = instant(datasets.get("exportedUntil"))
        symbols = [_symbol(told, exported) for told in datasets.get("symbols") or ()]
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
    return Symbol(str(told["id"]), _TYPES.get(told["type"]), frozenset(told["dataTypes"]), since, until)


def instant(text: str | None) -> datetime | None:
    """A time of the API (`2019-03-30T00:00:00.000Z`), in UTC; None for none.

    Raises:
        ValueError: it is no time.
    """
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
