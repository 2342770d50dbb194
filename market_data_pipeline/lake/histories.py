"""What features look back on: the candles and days of one instrument, as far as the lake has them.

Look-backs are read from the layout that answers with the fewest objects, once for all days of a month.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.plans import Question, best_layout, pieces, read_piece
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset, Timeframe, candles
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import Window

FINEST = candles("1m")
"""The candles that tell which instruments have features on a day."""


def instrument_days(
    store: ObjectStore, dataset: Dataset, days: Iterable[date], selection: Selection
) -> Iterator[tuple[Instrument, list[date]]]:
    """The instruments of which a dataset has files, each with its days: month by month, in order of instrument."""
    for _, month in groupby(sorted(days), lambda day: (day.year, day.month)):
        found: dict[Instrument, list[date]] = {}
        for day in month:
            for each in day_objects(store, dataset, day):
                if each.instrument and each.instrument in selection:
                    found.setdefault(each.instrument, []).append(day)
        yield from sorted(found.items())


def stored_candles(
    store: ObjectStore, timeframe: Timeframe, instrument: Instrument, window: Window, columns: Sequence[str]
) -> pa.Table:
    """One instrument's candles of a window, rising in time; what is not there has no rows.

    Raises:
        LakeError: a file cannot be read.
    """
    return stored_rows(store, candles(timeframe.name), instrument, window, columns)


def stored_rows(
    store: ObjectStore,
    dataset: Dataset,
    instrument: Instrument,
    window: Window,
    columns: Sequence[str],
    timeframe: Timeframe | None = None,
) -> pa.Table:
    """One instrument's rows of a window in their order, of features those of one timeframe; as `stored_candles`."""
    question = Question(dataset, Selection.of(instrument), window, {})
    found = pieces(store, question, best_layout(question))
    wanted = [*columns, "timeframe"] if timeframe else columns
    tables = [
        _of_timeframe(table, timeframe).select(columns)
        for piece in found
        for table in read_piece(store, question, piece, wanted)
    ]
    empty = pa.schema([dataset.schema.field(name) for name in columns]).empty_table()
    return pa.concat_tables([empty, *tables]).combine_chunks()


def _of_timeframe(table: pa.Table, timeframe: Timeframe | None) -> pa.Table:
    if timeframe is None:
        return table
    return table.filter(pc.equal(table.column("timeframe").cast(pa.string()), timeframe.name))
