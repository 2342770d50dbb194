"""What may be wrong with an object of the lake: a difference between what lies there and what should."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout


class Kind(StrEnum):
    """How an object differs."""

    MISSING = "missing"
    UNRECORDED = "not recorded"
    EXTRA = "too many"
    SIZE = "another size"
    BYTES = "other bytes"
    ROWS = "other rows"
    OUTDATED = "outdated"
    UNREADABLE = "unreadable"
    STRAY = "stray"


@dataclass(frozen=True)
class Difference:
    """One object that is not what it should be.

    Attributes:
        kind: how it differs.
        dataset: whose object it is; empty where it belongs to none.
        layout: the layout's name, `checksums` for a record; empty likewise.
        day: the day that differs; None where the whole object does.
        instrument: whose day file it is, where it is one of an instrument.
        key: the object's key.
        uri: its full address.
        found: what lies there.
        expected: what should.
        remedy: what to do.
    """

    kind: Kind
    dataset: str
    layout: str
    day: date | None
    instrument: Instrument | None
    key: str
    uri: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.uri}: {self.found}; expected {self.expected}; {self.remedy}"


What = tuple[Kind, str, str]
"""How something differs, what was found, what was expected."""


def of_day_file(
    store: ObjectStore, dataset: Dataset, layout: Layout, place: Place, what: What, remedy: str
) -> Difference:
    """A day file that differs."""
    key = dataset.path(layout, *place)
    kind, found, expected = what
    return Difference(kind, dataset.name, layout.name, *place, key, store.uri_of(key), found, expected, remedy)


def mending(first: date, last: date) -> str:
    """The command that mends what is derived."""
    return f"`market-data repair {first} {last}` mends it"


def restoring(day: date) -> str:
    """What to do about a file of `by_date`, from which all else is derived."""
    return f"`market-data repair {day} {day}` restores it if another layout has it, else materialize it again"
