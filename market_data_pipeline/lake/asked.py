"""What readers ask, from what callers give, and what becomes of the tables that answer it."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from market_data_pipeline.lake.plans import Question
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import DatasetError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.windows import Moment, Window

Instruments = str | Instrument | Iterable[str | Instrument] | None
"""An id, a glob (`binance:*:BTC-*`), a list of them, or None for all."""


def instrument_of(instrument: str | Instrument) -> Instrument:
    """An instrument from itself or its id; raises InstrumentError."""
    return instrument if isinstance(instrument, Instrument) else Instrument.parse(instrument)


def columns_of(asked: Dataset, columns: Sequence[str] | None) -> list[str]:
    """Some columns of a dataset, each once, by default all; raises DatasetError where there is none of a name."""
    known: list[str] = asked.schema.names
    if columns is None:
        return known
    unknown = [name for name in columns if name not in known]
    if isinstance(columns, str) or unknown:
        raise DatasetError(
            f"{asked.name} has no column {unknown[0] if unknown else columns!r}; it has {', '.join(known)}"
        )
    return list(dict.fromkeys(columns))


def narrowed(venue: str | None, instrument_type: str | None) -> dict[str, str]:
    """The fields that instruments must have; raises InstrumentError where there is no such type."""
    fields = {}
    if venue is not None:
        fields["venue"] = venue.lower()
    if instrument_type is not None:
        fields["instrument_type"] = InstrumentType.named(instrument_type).folder
    return fields


def question_of(
    asked: Dataset,
    instruments: Instruments,
    start: Moment,
    end: Moment,
    venue: str | None = None,
    instrument_type: str | None = None,
) -> Question:
    """A question; raises InstrumentError or WindowError where it cannot be understood."""
    return Question(asked, Selection.of(instruments), Window.of(start, end), narrowed(venue, instrument_type))


def one_table(asked: Dataset, names: Sequence[str], tables: Iterable[pa.Table]) -> pa.Table:
    """Some columns of tables below one another, with the dataset's types."""
    schema = pa.schema([asked.schema.field(name) for name in names])
    parts = [table.select(names) for table in tables]
    if not parts:
        return schema.empty_table()
    alike = [part if part.schema.equals(schema, check_metadata=True) else part.cast(schema) for part in parts]
    return pa.concat_tables(alike).unify_dictionaries()


def by_instrument(table: pa.Table) -> pa.Table:
    """Rows in order of instrument; within an instrument they keep their order, which is that of time."""
    if not table.num_rows:
        return table
    ids = table.column("instrument_id").combine_chunks()
    names = ids.dictionary.to_pylist()
    rank = np.empty(len(names), np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    places = rank[np.asarray(ids.indices)]
    if np.all(places[1:] >= places[:-1]):
        return table
    return table.take(pa.array(np.argsort(places, kind="stable")))
