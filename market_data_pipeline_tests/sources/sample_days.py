"""Days of the sample source, read as tables; the instruments and the day that its tests are about."""

import zlib
from datetime import date
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import InstrumentType, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import DAY, midnight
from market_data_pipeline.sources.sample.listing import listed_on
from market_data_pipeline.sources.sample.source import SampleSource

THE_DAY = date(2024, 8, 8)
SPOT_BTC = "binance:SPOT_PAIR:BTC-USDT"
FUTURES_BTC = "binance-futures:Perp:BTC-USDT"
DELIVERY_BTC = "binance-delivery:Perp:BTC-USD"
DERIBIT_BTC = "deribit:Perp:BTC-USD"
FUTURE = "deribit:Future:BTC-USD-240927"
CALL, PUT = "deribit:Option:BTC-USD-65000-240830-C", "deribit:Option:BTC-USD-65000-240830-P"


def file_of(instrument, day=THE_DAY, data_type="trades"):
    (file,) = SampleSource().files(data_type, day, Selection.of(instrument))
    return file


def rows_of(data_type, instrument, day=THE_DAY):
    files = SampleSource().files(data_type, day, Selection.of(instrument))
    batches = [batch for file in files for batch in file.read(Rejects())]
    return pa.Table.from_batches(batches, DATASETS[data_type].own_schema)


def around(data_type, instrument, day=THE_DAY):
    """The rows whose exchange time lies within the day, from the three files that may hold them, in order of time."""
    table = pa.concat_tables([rows_of(data_type, instrument, each) for each in (day - DAY, day, day + DAY)])
    stamps = table["timestamp"]
    start, end = pa.scalar(midnight(day), TIME), pa.scalar(midnight(day) + DAY, TIME)
    table = table.filter(pc.and_(pc.greater_equal(stamps, start), pc.less(stamps, end)))
    return table.take(pa.array(np.argsort(times(table), kind="stable")))


def trades(instrument, day=THE_DAY):
    return rows_of("trades", instrument, day)


def times(table, name="timestamp"):
    return table[name].cast(pa.int64()).to_numpy()


def reals(table, name):
    return table[name].to_numpy()


def names(day, data_type="trades"):
    return [file.instrument.id for file in SampleSource().files(data_type, day, Selection())]


def listed(instrument, day=THE_DAY):
    return next(each for each in listed_on(day) if each.instrument.id == instrument)


def options(day):
    return [each for each in listed_on(day) if each.instrument.type is InstrumentType.OPTION]


def on_grid(values, step):
    """Whether all numbers are whole multiples of a step, as their decimal texts are."""
    exact = Fraction(repr(step))
    return all((Fraction(repr(value)) / exact).denominator == 1 for value in set(values) if value is not None)


def crc(table):
    """A checksum of the values, which no release of Arrow can change."""
    total = 0
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            values = "\n".join(text or "" for text in column.to_pylist()).encode()
        else:
            numbers = column if pa.types.is_floating(column.type) else column.cast(pa.int64())
            values = np.asarray(pc.fill_null(numbers, -1).to_numpy()).tobytes()
        total = zlib.crc32(values, total)
    return total
