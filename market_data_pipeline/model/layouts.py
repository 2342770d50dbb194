"""Path layouts: templates with named placeholders; formatting and parsing are exact inverses.

A layout is one line of data. What lies under a path follows from the placeholders in its template: with `{day}` an
object holds one day, without it one month; with `{instrument_id}` one instrument, without it a group of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from string import Formatter
from types import MappingProxyType
from typing import Any

from market_data_pipeline.model.errors import InstrumentError, LayoutError
from market_data_pipeline.model.instruments import Instrument

_PATTERNS = {
    "year": r"[0-9]{4}",
    "month": r"[0-9]{2}",
    "day": r"[0-9]{2}",
    "dataset": r"[a-z0-9]+(?:_[a-z0-9]+)*",
    "data_type": r"[a-z0-9]+(?:_[a-z0-9]+)*",
    "timeframe": r"[0-9]+[mhd]",
    "venue": r"[a-z0-9]+(?:-[a-z0-9]+)*",
    "instrument_type": r"spot|perpetual|future|option",
    "instrument_id": r"[a-z0-9-]+:[A-Za-z_]+:[A-Z0-9.-]+",
    "short_name": r"[a-z0-9.]+",
    "model": r"[a-z]+-[0-9a-f]{16}",
    "base_asset": r"[A-Z0-9]+",
    "quote_asset": r"[A-Z0-9]+",
}
_CAPITALS = {"base_asset", "quote_asset"}
_OF_DATASET = {"dataset", "data_type", "timeframe"}
_OF_TIME = {"year", "month", "day"}
_HIVE = re.compile(r"(?:^|/)(?:[A-Za-z_]\w*=[^/]*/|(?:year|month|day|date|venue|data_type)=)")


def is_hive(path: str) -> bool:
    """True for a Hive-style path, with folders such as `year=2023`."""
    return _HIVE.search(path) is not None


@lru_cache(4096)
def instrument_fields(instrument: Instrument) -> Mapping[str, str]:
    """The values that an instrument gives to placeholders and to partition columns of the same names."""
    return MappingProxyType(
        {
            "venue": instrument.venue,
            "instrument_id": instrument.id,
            "instrument_type": instrument.type.folder,
            "base_asset": instrument.base,
            "quote_asset": instrument.quote,
            "short_name": instrument.short_name,
        }
    )


@dataclass(frozen=True)
class Layout:
    """One way of laying a dataset's objects out in paths.

    Attributes:
        name: the layout's name, such as `by_date`.
        template: the path of an object, with placeholders in braces.

    Raises:
        LayoutError: on declaration, where a placeholder is unknown, year or month are missing, or the template is not
            a clean relative path.
    """

    name: str
    template: str

    def __post_init__(self) -> None:
        try:
            fields = self.placeholders
        except ValueError as error:
            raise LayoutError(f"layout {self.name}: {self.template!r} is no template: {error}") from None
        unknown = sorted(fields - _PATTERNS.keys())
        if unknown:
            raise LayoutError(
                f"layout {self.name}: unknown placeholder {{{unknown[0]}}} in {self.template!r}; "
                f"known are {', '.join(sorted(_PATTERNS))}"
            )
        if not {"year", "month"} <= fields:
            raise LayoutError(f"layout {self.name}: {self.template!r} needs {{year}} and {{month}}")
        parts = self.template.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in self.template:
            raise LayoutError(f"layout {self.name}: {self.template!r} must be a relative path without empty parts")
        if _HIVE.search(self.template):
            raise LayoutError(f"layout {self.name}: {self.template!r} has key=value folders; write key-value")

    @cached_property
    def placeholders(self) -> frozenset[str]:
        """The names of the placeholders."""
        parsed = list(Formatter().parse(self.template))
        if any(spec or conversion for _, _, spec, conversion in parsed):
            raise ValueError("a placeholder takes no format or conversion")
        return frozenset(name for _, name, _, _ in parsed if name is not None)

    @property
    def daily(self) -> bool:
        """True where an object holds one day, False where it holds a month."""
        return "day" in self.placeholders

    @property
    def per_instrument(self) -> bool:
        """True where an object holds one instrument."""
        return "instrument_id" in self.placeholders

    @cached_property
    def group_fields(self) -> tuple[str, ...]:
        """The fields of an instrument that say to which object it belongs, sorted; empty where one holds all."""
        return tuple(sorted(self.placeholders - _OF_DATASET - _OF_TIME))

    def format(self, day: date, /, **fields: str) -> str:
        """The path of the object for these values; `day` may be any day of the month where objects hold months.

        Raises:
            LayoutError: a placeholder has no value, or a value that cannot stand in a path; or the values do not belong
                together, so that `parse` would not give them back.
        """
        values = _time_fields(day) | fields
        for name in self.placeholders:
            value = values.get(name)
            if value is None:
                raise LayoutError(f"layout {self.name}: no value for {{{name}}} of {self.template!r}")
            self._check(name, value)
        path = self.template.format_map(values)
        if self.parse(path).items() - values.items():
            raise LayoutError(f"layout {self.name}: {path!r} could be read in two ways; {self.template!r} is ambiguous")
        return path

    def _check(self, name: str, value: str) -> None:
        if not re.fullmatch(_PATTERNS[name], value) or ".." in value:
            raise LayoutError(f"layout {self.name}: {value!r} cannot stand for {{{name}}}")

    def prefix(self, day: date | None = None, /, **fields: str) -> str:
        """The deepest folder that holds all objects with these values, ending in `/`; a whole path if all are given.

        Raises:
            LayoutError: a value cannot stand in a path.
        """
        values = (_time_fields(day) if day else {}) | fields
        path = ""
        for part in re.split(r"(?<=/)", self.template):
            names = [name for _, name, _, _ in Formatter().parse(part) if name is not None]
            if any(name not in values for name in names):
                return path
            for name in names:
                self._check(name, values[name])
            path += part.format_map(values)
        return path

    def prefixes(self, days: Iterable[date], /, **fields: str) -> Iterator[str]:
        """The distinct prefixes for some days, in their order."""
        return iter(dict.fromkeys(self.prefix(day, **fields) for day in days))

    @cached_property
    def _pattern(self) -> str:
        seen: set[str] = set()
        pattern = ""
        for literal, name, _, _ in Formatter().parse(self.template):
            pattern += re.escape(literal)
            if name is not None:
                pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_PATTERNS[name]})"
                seen.add(name)
        return pattern

    def parse(self, path: str) -> dict[str, str]:
        """The placeholders' values for a path that this layout made: the exact inverse of `format`.

        Raises:
            LayoutError: the path is none of this layout's; a Hive-style path (`year=2023/…`) is refused by name.
        """
        if is_hive(path):
            raise LayoutError(
                f"{path!r} is a Hive-style path (key=value folders); this lake's paths are written key-value, such as "
                "year-2023/month-05/day-23"
            )
        match = re.fullmatch(self._pattern, path)
        if match is None:
            raise LayoutError(f"{path!r} is not a path of layout {self.name}: {self.template!r}")
        fields = match.groupdict()
        try:
            _day_of(fields)
            if "instrument_id" in fields:
                instrument = Instrument.parse(fields["instrument_id"])
                belongs = instrument_fields(instrument)
                wrong = [name for name in fields if name in belongs and belongs[name] != fields[name]]
                if wrong:
                    raise InstrumentError(f"{wrong[0]} is {fields[wrong[0]]!r}, not {belongs[wrong[0]]!r}")
        except ValueError as error:
            raise LayoutError(f"{path!r} is not a path of layout {self.name}: {error}") from None
        return fields

    def respelled(self, path: str) -> str | None:
        """The path of this layout that differs from this one in the case of letters alone; None if there is none."""
        match = re.fullmatch(self._pattern, path, re.IGNORECASE)
        if match is None:
            return None
        fields = match.groupdict()
        try:
            named = fields.get("instrument_id")
            known = dict(instrument_fields(Instrument.parse(named))) if named else {}
            cased = {name: value.upper() if name in _CAPITALS else value.lower() for name, value in fields.items()}
            spelled = self.format(_day_of(fields), **(cased | known))
        except (LayoutError, ValueError):
            return None
        return spelled if spelled != path and spelled.lower() == path.lower() else None

    def day_of(self, fields: Mapping[str, Any]) -> date:
        """The day that parsed values name; the first of the month where objects hold months."""
        return _day_of(fields)


def _time_fields(day: date) -> dict[str, str]:
    return {"year": f"{day.year:04}", "month": f"{day.month:02}", "day": f"{day.day:02}"}


def _day_of(fields: Mapping[str, Any]) -> date:
    return date(int(fields["year"]), int(fields["month"]), int(fields.get("day", 1)))
