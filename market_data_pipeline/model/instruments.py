"""Instrument ids: `venue:TYPE:SYMBOL`, the one canonical form, the aliases that are accepted, and selections of ids.

Ids come out of files from elsewhere and become paths, so everything but the declared form is refused.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache

from market_data_pipeline.model.errors import InstrumentError


class InstrumentType(StrEnum):
    """The kind of an instrument; the value is how an id writes it."""

    SPOT = "SPOT_PAIR"
    PERPETUAL = "Perp"
    FUTURE = "Future"
    OPTION = "Option"

    @property
    def folder(self) -> str:
        """The type's name in paths and in the `instrument_type` column: `spot`, `perpetual`, `future`, `option`."""
        return self.name.lower()

    @classmethod
    def named(cls, name: str) -> "InstrumentType":
        """The type of this folder name or id part, in any letter case; raises InstrumentError."""
        kind = _TYPE_ALIASES.get(name.upper())
        if kind is None:
            raise InstrumentError(
                f"instrument type {name!r} is unknown; expected one of {', '.join(t.folder for t in cls)}"
            )
        return kind


_TYPE_ALIASES = {t.value.upper(): t for t in InstrumentType} | {
    "SPOT": InstrumentType.SPOT,
    "PERPETUAL": InstrumentType.PERPETUAL,
}
_OPTION_SIDES = {"C": "C", "CALL": "C", "P": "P", "PUT": "P"}
_FORMS = {
    InstrumentType.SPOT: "BASE-QUOTE",
    InstrumentType.PERPETUAL: "BASE-QUOTE",
    InstrumentType.FUTURE: "BASE-QUOTE-YYMMDD",
    InstrumentType.OPTION: "BASE-QUOTE-STRIKE-YYMMDD-C (or -P)",
}
_VENUE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_ASSET = re.compile(r"[A-Z0-9]{1,32}")
_STRIKE = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,12})?")
_DATE = re.compile(r"[0-9]{6}")
_LONGEST = 160


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable instrument of one venue.

    Build it with `Instrument.parse`, or with `spot`, `perpetual`, `future` and `option`, which check their parts.
    Instruments sort as their ids do.

    Attributes:
        venue: the data vendor's exchange id, lower case (`binance-futures`).
        type: the kind of instrument.
        base: the asset that is bought and sold, capitals.
        quote: the asset the price is in, capitals.
        expiry: the day of expiry (future, option), else None.
        strike: the strike as text, exactly as it was written (option), else None.
        side: `C` or `P` (option), else None.
    """

    venue: str
    type: InstrumentType
    base: str
    quote: str
    expiry: date | None = None
    strike: str | None = None
    side: str | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise InstrumentError(f"instrument id {self.id!r}: {problem}")

    def _problem(self) -> str | None:
        if not _VENUE.fullmatch(self.venue) or len(self.venue) > 32:
            return f"venue {self.venue!r} must be lower-case letters, digits and single dashes, 32 at most"
        for name, asset in (("base", self.base), ("quote", self.quote)):
            if not _ASSET.fullmatch(asset):
                return f"{name} asset {asset!r} must be 1 to 32 letters A-Z and digits"
        dated = self.type in (InstrumentType.FUTURE, InstrumentType.OPTION)
        if dated != (self.expiry is not None):
            return f"a {self.type.folder} {'needs an' if dated else 'has no'} expiry"
        if isinstance(self.expiry, datetime):
            return f"expiry {self.expiry} must be a day without a time"
        if self.expiry is not None and not 2000 <= self.expiry.year <= 2099:
            return f"expiry {self.expiry} must lie in 2000 to 2099"
        optional = self.type is InstrumentType.OPTION
        if optional != (self.strike is not None) or optional != (self.side is not None):
            return f"a {self.type.folder} {'needs a strike and a side' if optional else 'has no strike and no side'}"
        if self.strike is not None and not _STRIKE.fullmatch(self.strike):
            return f"strike {self.strike!r} must be a plain decimal number such as 50000 or 0.5"
        if self.side is not None and self.side not in ("C", "P"):
            return f"option side {self.side!r} must be C or P"
        return None

    @property
    def symbol(self) -> str:
        """The third part of the id: `BTC-USDT`, `BTC-USD-241225`, `BTC-USD-50000-241225-C`."""
        parts = [self.base, self.quote]
        if self.strike is not None:
            parts.append(self.strike)
        if self.expiry is not None:
            parts.append(self.expiry.strftime("%y%m%d"))
        if self.side is not None:
            parts.append(self.side)
        return "-".join(parts)

    @property
    def option_type(self) -> str | None:
        """`call` or `put`; None for what is no option."""
        return {"C": "call", "P": "put"}.get(self.side or "")

    @property
    def id(self) -> str:
        """The canonical id, as it stands in paths and columns."""
        return f"{self.venue}:{self.type}:{self.symbol}"

    @property
    def short_name(self) -> str:
        """The symbol in lower case without dashes, as the `by_instrument_id` file names have it."""
        return self.symbol.replace("-", "").lower()

    def __str__(self) -> str:
        return self.id

    def __lt__(self, other: "Instrument") -> bool:
        return self.id < other.id

    @classmethod
    def parse(cls, text: str) -> "Instrument":
        """Reads an id in canonical form or in an accepted alias of it.

        Any letter case, `SPOT`/`PERPETUAL` for the types, and options with the date before the strike and `CALL`/`PUT`
        are accepted.

        Raises:
            InstrumentError: anything else; the message says what was expected.
        """
        if not isinstance(text, str):
            raise InstrumentError(f"instrument id {text!r}: expected a text")
        return _parse(text)

    @classmethod
    def spot(cls, venue: str, base: str, quote: str) -> "Instrument":
        """A spot pair."""
        return cls(venue, InstrumentType.SPOT, base, quote)

    @classmethod
    def perpetual(cls, venue: str, base: str, quote: str) -> "Instrument":
        """A perpetual swap."""
        return cls(venue, InstrumentType.PERPETUAL, base, quote)

    @classmethod
    def future(cls, venue: str, base: str, quote: str, expiry: date) -> "Instrument":
        """A dated future."""
        return cls(venue, InstrumentType.FUTURE, base, quote, expiry)

    @classmethod
    def option(cls, venue: str, base: str, quote: str, strike: str, expiry: date, side: str) -> "Instrument":
        """A call (`C`) or a put (`P`); the strike keeps its text."""
        return cls(venue, InstrumentType.OPTION, base, quote, expiry, strike, side)


@lru_cache(maxsize=65_536)
def _parse(text: str) -> Instrument:
    def refuse(why: str) -> InstrumentError:
        return InstrumentError(f"instrument id {text!r}: {why}")

    if len(text) > _LONGEST:
        raise refuse(f"expected a text of at most {_LONGEST} characters")
    parts = text.split(":")
    if len(parts) != 3:
        raise refuse("expected venue:TYPE:SYMBOL, such as binance:SPOT_PAIR:BTC-USDT")
    if not text.isascii():
        raise refuse("only ASCII letters, digits, '-' and '.' can stand in it")
    venue, type_name, symbol = parts[0].lower(), parts[1].upper(), parts[2].upper()
    kind = _TYPE_ALIASES.get(type_name)
    if kind is None:
        raise refuse(f"type {parts[1]!r} is unknown; expected one of {', '.join(InstrumentType)}")
    fields = symbol.split("-")
    try:
        match kind, fields:
            case ((InstrumentType.SPOT | InstrumentType.PERPETUAL), [base, quote]):
                return Instrument(venue, kind, base, quote)
            case InstrumentType.FUTURE, [base, quote, day]:
                return Instrument(venue, kind, base, quote, _expiry(day))
            case InstrumentType.OPTION, [base, quote, third, fourth, side] if side in _OPTION_SIDES:
                # canonically the strike comes first; where both could be a date, the canonical reading wins
                strike, day = (third, fourth) if _is_date(fourth) else (fourth, third)
                return Instrument(venue, kind, base, quote, _expiry(day), strike, _OPTION_SIDES[side])
    except InstrumentError as error:
        raise refuse(str(error).split("': ", 1)[-1]) from None
    raise refuse(f"a symbol of type {kind.folder} is {_FORMS[kind]}")


def _is_date(text: str) -> bool:
    try:
        _expiry(text)
    except InstrumentError:
        return False
    return True


def _expiry(text: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        # a two-digit year always means 2000 to 2099 (strptime alone would turn 69 to 99 into the last century)
        return datetime.strptime(f"20{text}", "%Y%m%d").date()  # noqa: DTZ007
    except ValueError:
        raise InstrumentError(f"expiry {text!r} must be a date YYMMDD") from None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instruments are meant: all, or those that match one of some ids or globs.

    A glob (`binance:*:BTC-*`) is matched against the canonical id without regard to letter case; a type that it spells
    out may be an alias. A pattern without `*`, `?` or `[` must be an id, and is read with `Instrument.parse`.
    `venues` leaves out what is of others.
    """

    patterns: tuple[str, ...] = ()
    venues: frozenset[str] | None = None

    @classmethod
    def of(cls, instruments: "str | Instrument | Iterable[str | Instrument] | None") -> "Selection":
        """A selection from an id, a glob, a list of them, or None for all.

        Raises:
            InstrumentError: a pattern is neither a glob nor an id, or an empty list was given.
        """
        if instruments is None:
            return cls()
        listed = [instruments] if isinstance(instruments, str | Instrument) else list(instruments)
        if not listed:
            raise InstrumentError("an empty list of instruments selects nothing; pass None for all")
        patterns = dict.fromkeys(
            item.id if isinstance(item, Instrument) else _glob(item) if _is_glob(item) else Instrument.parse(item).id
            for item in listed
        )
        return cls(tuple(patterns))

    @property
    def everything(self) -> bool:
        """True where nothing is left out."""
        return not self.patterns and self.venues is None

    def within(self, venues: frozenset[str] | None) -> "Selection":
        """Of these instruments those of some venues; all of them with None."""
        return replace(self, venues=venues)

    @property
    def exact(self) -> tuple[Instrument, ...] | None:
        """The instruments, where the selection names each of them; None where it holds a glob or means all."""
        if not self.patterns or any(_is_glob(p) for p in self.patterns):
            return None
        return tuple(sorted(self.named))

    @property
    def named(self) -> tuple[Instrument, ...]:
        """The instruments that the selection names by their ids, beside any globs."""
        return tuple(Instrument.parse(p) for p in self.patterns if not _is_glob(p))

    def __contains__(self, instrument: Instrument) -> bool:
        if self.venues is not None and instrument.venue not in self.venues:
            return False
        if not self.patterns:
            return True
        canonical, folded = instrument.id, instrument.id.lower()
        return any(
            fnmatch.fnmatchcase(folded, pattern) if _is_glob(pattern) else canonical == pattern
            for pattern in self.patterns
        )

    def may_hold(self, beginning: str) -> bool:
        """Whether an id with this beginning (`binance:`, `deribit:Perp:`) can be among them; False only if none can."""
        start = beginning.lower()
        # a glob matches some text with this start if and only if a beginning of the glob matches the start alone
        return self.everything or any(
            any(fnmatch.fnmatchcase(start, pattern[:length]) for length in range(len(pattern) + 1))
            if _is_glob(pattern)
            else pattern.lower().startswith(start)
            for pattern in self.patterns
        )

    def __str__(self) -> str:
        return ", ".join(self.patterns) or "all instruments"


def _is_glob(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _glob(text: str) -> str:
    parts = text.split(":")
    if len(parts) == 3 and parts[1].upper() in _TYPE_ALIASES:
        parts[1] = _TYPE_ALIASES[parts[1].upper()]
    return ":".join(parts).lower()
