"""The record of a dataset's day files: where it lies and what it says. It is kept apart from the files themselves.

Hard links share one inode, so of a file that a disk has damaged every path tells the same; the record tells what was
written.
"""

import pyarrow as pa

from market_data_pipeline.model.datasets import META_ROOT, TEXT
from market_data_pipeline.model.layouts import Layout

RECORD = Layout(
    "checksums",
    f"{META_ROOT}/checksums/by_dataset/dataset-{{dataset}}/year-{{year}}/month-{{month}}/{{dataset}}_checksums.parquet",
)
"""One object for each dataset and month."""

SINCE_LATER = {b"since": b"later"}
"""Metadata of a column that older records lack: there it is null."""

RECORD_SCHEMA = pa.schema(
    [
        pa.field("date", pa.date32(), False),
        pa.field("instrument_id", TEXT),  # null where a day file holds all instruments
        pa.field("rows", pa.int64(), False),
        pa.field("bytes", pa.int64(), False),
        pa.field("crc32c", pa.int64(), False),
        pa.field("made_from", TEXT, metadata=SINCE_LATER),
        pa.field("facts", TEXT, metadata=SINCE_LATER),
    ]
)
"""A row for each day file of `by_date`, in order of day and instrument.

Its rows, its bytes, their CRC-32C; what it was made from (see `lake.unchanged`), and what its making told beside the
rows, as JSON. The last two are null where nothing is known, or nothing was told.
"""
