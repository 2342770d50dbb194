"""The instrument master of a day: what the source lists, kept in the lake, and what amounts of an instrument count."""

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial

import pyarrow as pa

from market_data_pipeline.lake.day_files import own_rows
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import NoData, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects

INSTRUMENTS = DATASETS["instruments"]
ContractOf = Callable[[Instrument], Contract]


def listed_rows(
    store: ObjectStore, day: date, selection: Selection, listings: Callable[[date, Selection], pa.Table | None]
) -> DayRows:
    """The master of a day as the source knows it; instruments outside the selection keep the rows that are stored.

    Reading raises NoData where the source has no master of the day.
    """
    return DayRows(day, None, f"the listings of {day}", partial(_listed, store, day, selection, listings))


def _listed(
    store: ObjectStore,
    day: date,
    selection: Selection,
    listings: Callable[[date, Selection], pa.Table | None],
    _: Rejects,
) -> Iterator[pa.RecordBatch]:
    listed = listings(day, selection)
    if listed is None:
        raise NoData(f"the source has no list of instruments for {day}")
    chosen = of_selection(listed, selection)
    yield from with_others(store, INSTRUMENTS, chosen, day, selection).to_batches()


def listing_on(store: ObjectStore, day: date) -> pa.Table:
    """The stored master of a day in LISTING_SCHEMA, in order of instrument_id; without rows where there is none."""
    return _stored(store, INSTRUMENTS, day)


def contracts_on(store: ObjectStore, day: date, rule: ContractOf) -> ContractOf:
    """How amounts become values on a day: by the rule, and where it has no multiplier with the day's stored master's.

    Of a quanto contract (paid in neither of its assets) the multiplier is of a third asset: it stays unknown.
    """
    rows = listing_on(store, day).select(["instrument_id", "inverse", "contract_multiplier", "settle_asset"])
    known = {row["instrument_id"]: row for row in rows.to_pylist() if row["contract_multiplier"]}

    def contract_of(instrument: Instrument) -> Contract:
        contract, row = rule(instrument), known.get(instrument.id)
        if contract.multiplier is not None or row is None or row["inverse"] is None:
            return contract
        if row["settle_asset"] not in (instrument.base, instrument.quote):
            return contract
        return Contract(row["inverse"], row["contract_multiplier"], contract.unit)

    return contract_of


def of_selection(rows: pa.Table, selection: Selection, *, inside: bool = True) -> pa.Table:
    """The rows of instruments that a selection holds, or (not inside) of all the others."""
    ids = rows.column("instrument_id").to_pylist()
    return rows.filter(pa.array([(Instrument.parse(text) in selection) is inside for text in ids], pa.bool_()))


def with_others(store: ObjectStore, dataset: Dataset, made: pa.Table, day: date, selection: Selection) -> pa.Table:
    """Rows made for a selection, and beside them the stored ones of all other instruments, in order of instrument_id.

    For datasets whose day file holds all instruments: what a run was not asked for stays as it is.
    """
    if selection.everything:
        return made
    others = of_selection(_stored(store, dataset, day), selection, inside=False)
    both = pa.concat_tables([made, others]).unify_dictionaries().combine_chunks()
    ids = both.column("instrument_id").to_pylist()
    return both.take(pa.array(sorted(range(len(ids)), key=ids.__getitem__), pa.int64()))


def _stored(store: ObjectStore, dataset: Dataset, day: date) -> pa.Table:
    try:
        return own_rows(store, dataset, dataset.path(dataset.layouts[0], day))
    except ObjectNotFound:
        return dataset.own_schema.empty_table()
