"""What lies in a lake, read round the reader: the rows of each layout, and the bytes of each object."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, ROOTS, Dataset
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.layouts import Layout


def objects(store: ObjectStore) -> dict[str, bytes]:
    """All objects of the lake, by key."""
    found = {}
    for root in ROOTS:
        for info in store.list(f"{root}/"):
            with store.open(info.key) as pinned:
                found[info.key] = pinned.file.read()
    return found


def layout_rows(contents: dict[str, bytes], dataset: Dataset, layout: Layout) -> pa.Table:
    """All rows of one layout, sorted by all plain columns."""
    tables = []
    for key, content in contents.items():
        try:
            if layout.parse(key).get("dataset", dataset.name) != dataset.name:
                continue
        except LayoutError:
            continue
        tables.append(pq.read_table(pa.BufferReader(content)).cast(dataset.schema))
    return sorted_rows(pa.concat_tables(tables) if tables else dataset.schema.empty_table())


def sorted_rows(table: pa.Table) -> pa.Table:
    """The rows in one order, with texts as plain texts, so that equal rows make equal tables."""
    plain = [
        pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type, f.nullable) for f in table.schema
    ]
    table = table.cast(pa.schema(plain))
    keys = [(f.name, "ascending") for f in table.schema if not pa.types.is_nested(f.type)]
    return table.sort_by(keys).combine_chunks()


def assert_layouts_agree(store: ObjectStore, names: Iterable[str] = DATASETS) -> dict[str, int]:
    """Asserts that all layouts of all datasets hold the same rows; returns how many rows each dataset has."""
    contents = objects(store)
    rows = {}
    for name in names:
        dataset = DATASETS[name]
        primary = layout_rows(contents, dataset, dataset.layouts[0])
        for layout in dataset.layouts[1:]:
            assert layout_rows(contents, dataset, layout).equals(primary), f"{name}: {layout.name} differs"
        if primary.num_rows:
            rows[name] = primary.num_rows
    return rows
