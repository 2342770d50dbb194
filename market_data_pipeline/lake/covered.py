"""What is stored of a dataset, day by day and instrument by instrument: from listings and footers."""

from datetime import date

import pyarrow as pa

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.parquet import explained, parquet_file, span_of
from market_data_pipeline.lake.plans import Question
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.parallel import parallel
from market_data_pipeline.model.datasets import TEXT, TIME
from market_data_pipeline.model.errors import ObjectNotFound
from market_data_pipeline.model.instruments import Instrument

_THREADS = 8
_COVERAGE = pa.schema(
    [
        pa.field("date", pa.date32(), False),
        pa.field("instrument_id", TEXT),
        pa.field("rows", pa.int64(), False),
        pa.field("bytes", pa.int64(), False),
        pa.field("first_timestamp", TIME),
        pa.field("last_timestamp", TIME),
    ]
)


def covered(store: ObjectStore, question: Question) -> pa.Table:
    """A row for each day and instrument of a question; its contract stands at `MarketDataLake.coverage`."""
    asked = question.dataset
    days = list(question.window.days())
    found = {
        (day, each.instrument): each.info
        for day in days
        for each in day_objects(store, asked, day)
        if each.instrument is None or question.wants(each.instrument)
    }
    named = {instrument for _, instrument in found} | set(question.exact or ())

    @whole
    def describe(place: tuple[date, Instrument | None]) -> dict[str, object]:
        info = found.get(place)
        row: dict[str, object] = {
            "date": place[0],
            "instrument_id": place[1] and place[1].id,
            "rows": 0,
            "bytes": 0,
        }
        if info is None:
            return row
        try:
            with store.open(info.key) as pinned, explained(store.uri_of(info.key)):
                span = span_of(parquet_file(pinned.file).metadata, asked)
                size = pinned.info.size
        except ObjectNotFound:  # another run has deleted it since it was listed
            return row
        return row | {
            "rows": span.rows,
            "bytes": size,
            "first_timestamp": span.first,
            "last_timestamp": span.last,
        }

    places = [(day, instrument) for day in days for instrument in sorted(named, key=str)]
    return pa.Table.from_pylist(list(parallel(describe, places, _THREADS)), _COVERAGE)
