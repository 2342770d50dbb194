"""Which days can be made from what lies upstream: those with files in the lake, or known to be empty; what is lost."""

from collections.abc import Iterable, Sequence
from datetime import date

import dagster as dg

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import known_files
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import MissingInput
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, unreadable

ASKED, ROWS, EMPTY, FAILED = "instruments_asked_for", "rows", "empty_instruments", "failed_instruments"
"""Metadata of a partition: the selection, its rows, whose input had none, and whose could not be read."""


def days_with_input(
    instance: dg.DagsterInstance,
    store: ObjectStore,
    inputs: Sequence[Dataset],
    days: Iterable[date],
    selection: Selection,
) -> list[date]:
    """The days for which the lake holds anything of an input, or the newest run of an input found that it has no rows.

    A day that nobody has materialized, and one that was materialized and is empty, look alike in the lake. The second
    is no error, and only Dagster's own history can tell.
    """
    return [
        day
        for day in days
        if any(_stored(store, dataset, day, selection) for dataset in inputs)
        or any(_known_empty(instance, dataset, day, selection) for dataset in inputs)
    ]


def _stored(store: ObjectStore, dataset: Dataset, day: date, selection: Selection) -> bool:
    return any(found.instrument is None or found.instrument in selection for found in day_objects(store, dataset, day))


def _known_empty(instance: dg.DagsterInstance, dataset: Dataset, day: date, selection: Selection) -> bool:
    newest = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(dataset.name), asset_partitions=[day.isoformat()]), limit=1
    ).records
    materialization = newest[0].asset_materialization if newest else None
    if materialization is None:
        return False
    told = {name: value.value for name, value in materialization.metadata.items()}
    if FAILED in told or told.get(ASKED) not in (str(Selection()), str(selection)):
        return False
    empty = told.get(EMPTY)
    named = [Instrument.parse(str(each)) for each in empty] if isinstance(empty, list) else []
    return told.get(ROWS) == 0 or any(instrument in selection for instrument in named)


def without_input(dataset: Dataset, inputs: Sequence[Dataset], day: date, selection: Selection) -> DayRows:
    """A day that has no input: rows that cannot be read, so that it is told and the lake keeps what it has."""
    named = " or ".join(each.name for each in inputs)
    of = "" if selection.everything else f" of {selection} (MARKET_DATA_INSTRUMENTS)"
    why = f"the lake has no {named}{of} to make {dataset.name} from; materialize {inputs[0].name} first"
    return unreadable(day, None, named, MissingInput(why))


def lost_input(
    store: ObjectStore, dataset: Dataset, inputs: Sequence[Dataset], days: Sequence[date], selection: Selection
) -> list[DayRows]:
    """What cannot be made because a day file of an input is recorded and not there; each day and instrument once.

    An instrument that is lost looks in a listing like one that its source no longer has: without this, what was made
    from it would be taken out of the lake.

    Raises:
        LakeError: the record of an input cannot be read.
    """
    lost: dict[Place, DayRows] = {}
    for each in inputs:
        for found in known_files(store, each, days)[1]:
            if found.instrument is None or found.instrument in selection:
                place = found.day, found.instrument if dataset.per_instrument else None
                whose = f"{each.name} of {found.instrument}" if found.instrument else each.name
                why = (
                    f"{store.uri_of(found.info.key)} is recorded but not there, so no {dataset.name} can be made from "
                    f"it; `market-data repair {found.day} {found.day}` restores what another layout has, else "
                    f"materialize {each.name} of that day again"
                )
                lost.setdefault(place, unreadable(*place, whose, why))
    return list(lost.values())
