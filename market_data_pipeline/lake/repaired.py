"""Bringing the layouts back in step: whatever is derived is made anew from `by_date`, under the writers' preconditions.

A file of `by_date` itself that is damaged or gone is restored where another layout has what was recorded of it. Rows
that `by_date` has lost are never taken out of a month file.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta

from market_data_pipeline.lake.day_files import Place, settle
from market_data_pipeline.lake.differences import Difference, Kind, of_day_file
from market_data_pipeline.lake.month_rows import held_in_month
from market_data_pipeline.lake.months import Target, targets_of
from market_data_pipeline.lake.parquet import opened
from market_data_pipeline.lake.records import Sum, lost_files, read_record, record_targets
from market_data_pipeline.lake.rescue import Rescued, rescue
from market_data_pipeline.lake.splicing import MONTH_DIGESTS
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.survey import Survey, group_of
from market_data_pipeline.lake.verified import PAUSE, verify_days
from market_data_pipeline.lake.verified_days import in_order, list_days
from market_data_pipeline.lake.writer import publish
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import InstrumentError, LakeError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.records import RECORD
from market_data_pipeline.model.windows import DAY, by_month, days_between


@dataclass(frozen=True)
class Repaired:
    """A difference that was found, and whether it is mended."""

    difference: Difference
    mended: bool


def repair(
    store: ObjectStore,
    datasets: Sequence[Dataset],
    first: date,
    last: date,
    *,
    forget: bool = False,
    pause: float = PAUSE,
) -> Iterator[Repaired]:
    """Mends what differs between the layouts of some datasets; a second run finds nothing more to do.

    Everything is read and compared (as `verify` does in full). Other runs may write meanwhile. What belongs to no
    layout is told and left alone.

    Args:
        store: the lake.
        datasets: which datasets.
        first: the first day (UTC).
        last: the last day, included.
        forget: take day files that are gone, and that nothing has any more, out of the record and the month files.
        pause: seconds between looks.

    Raises:
        LakeError: the lake cannot be listed or written.
    """
    survey = Survey()
    for stray in survey.walk(store, datasets, first, last):
        yield Repaired(stray, False)
    for days in by_month(days_between(first, last)):
        for dataset in datasets:
            yield from _repair_days(store, dataset, days, survey, forget, pause)


def _repair_days(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], survey: Survey, forget: bool, pause: float
) -> Iterator[Repaired]:
    def look(at: Sequence[date]) -> list[Difference]:
        return verify_days(store, dataset, at, full=True, survey=survey, pause=pause)

    found = look(days)
    if not found:
        return
    rescued, lost = _mend_day_files(store, dataset, days, found)
    forgotten = _forget(store, dataset, days, lost) if forget else []
    lost -= set(forgotten)
    touched = sorted({*days, *(day for day, _ in rescued)})
    alone = _mend_month_files(store, dataset, look(touched), lost)
    left = [replace(each, remedy=alone.get(each.key, each.remedy)) for each in look(touched)]
    yield from (Repaired(each, False) for each in left)
    unsure = [place for place, has in rescued.items() if not has.sure]
    told = [_brought_back(store, dataset, place) for place in unsure]
    told += [_let_go(store, dataset, place) for place in forgotten]
    yield from (Repaired(each, True) for each in told)
    yield from (Repaired(each, True) for each in found if not any(_same(each, other) for other in [*left, *told]))


def _same(one: Difference, other: Difference) -> bool:
    return (one.key, one.day, one.instrument) == (other.key, other.day, other.instrument)


def _brought_back(store: ObjectStore, dataset: Dataset, place: Place) -> Difference:
    what = (
        Kind.BYTES,
        "came back without the checksum that was recorded, or without a record",
        "the very rows that were lost",
    )
    remedy = "they may be of another version: materializing the day again makes sure"
    return of_day_file(store, dataset, dataset.layouts[0], place, what, remedy)


def _let_go(store: ObjectStore, dataset: Dataset, place: Place) -> Difference:
    what = (Kind.MISSING, "is gone, and nothing else has its rows for certain", "a day file")
    remedy = "it is forgotten: out of the record and the month files"
    return of_day_file(store, dataset, dataset.layouts[0], place, what, remedy)


def _forget(store: ObjectStore, dataset: Dataset, days: Sequence[date], lost: Set[Place]) -> list[Place]:
    """Lets go of what is not there, on days without a file that is there and damaged.

    Nothing is deleted from `by_date`: a file that another run puts back meanwhile is taken in.
    """
    damaged = {day for day, _ in lost & list_days(store, dataset, days).keys()}
    forgotten = in_order(place for place in lost if place[0] in days and place[0] not in damaged)
    targets = [*targets_of(store, dataset, forgotten), *record_targets(dataset, {day for day, _ in forgotten})]
    publish(store, dataset, targets, {})
    settle(store, dataset, forgotten)
    return forgotten


def _mend_day_files(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], found: Sequence[Difference]
) -> tuple[dict[Place, Rescued], set[Place]]:
    """Mends `by_date`, then the record and the other day layouts.

    What only a month file that differs has of any day comes back, too.

    Returns:
        The day files that are sound now, and those that must be made again.
    """
    unreadable = any(each.layout == RECORD.name and each.kind is Kind.UNREADABLE for each in found)
    recorded = None if unreadable else read_record(store, dataset, days[0])
    others = {layout.name for layout in dataset.day_layouts[1:]}
    extra = {(each.day, each.instrument) for each in found if each.kind is Kind.EXTRA and each.layout in others}
    suspect = {(each.day, each.instrument) for each in found if each.layout == dataset.layouts[0].name} | extra
    there = list_days(store, dataset, _month(days[0]))
    for each in found:
        suspect |= _held(store, dataset, each) - there.keys()
    rescued: dict[Place, Rescued] = {}
    lost: set[Place] = set()
    for place in in_order((day, instrument) for day, instrument in suspect if day):
        has = rescue(store, dataset, place, (recorded or {}).get(place))
        if has:
            rescued[place] = has
        elif recorded is None or place in recorded or place not in extra:
            lost.add(place)
    sums = {place: has.sum for place, has in rescued.items()}
    _mend_record(store, dataset, days, recorded, sums, lost.intersection(there))
    copies = {(each.day, each.instrument) for each in found if each.day and each.layout in others}
    settle(store, dataset, in_order({(day, at) for day, at in copies | rescued.keys() if day} - lost))
    return rescued, lost


def _mend_record(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    recorded: Mapping[Place, Sum] | None,
    rescued: Mapping[Place, Sum],
    damaged: Collection[Place],
) -> None:
    """Brings the record in step; what is lost stays in it as it was, so that the loss is not forgotten."""
    asked = {*(_month(days[0]) if recorded is None else days), *(day for day, _ in rescued)}
    asked -= {day for day, _ in damaged}
    targets = record_targets(dataset, asked, anew=recorded is None)
    if recorded is None:
        publish(store, dataset, targets, rescued)
        return
    missed = lost_files(dataset, recorded, list_days(store, dataset, sorted(asked)))
    # taken out first: by its footer a record may be right and yet say something else
    wrong = [place for place, has in rescued.items() if recorded.get(place, has) != has]
    if wrong:
        publish(store, dataset, targets, {}, lost=missed, leaving=wrong)
    publish(store, dataset, targets, rescued, lost=missed)


def _month(day: date) -> list[date]:
    start = day.replace(day=1)
    return list(days_between(start, (start + timedelta(days=31)).replace(day=1) - DAY))


def _mend_month_files(
    store: ObjectStore, dataset: Dataset, found: Sequence[Difference], lost: Collection[Place]
) -> dict[str, str]:
    """Makes month files anew, whole, from all day files of their months; what cannot be made stays as it is.

    Returns:
        Which were left alone because they have rows that `by_date` has lost, or may have, each with what to do.
    """
    alone: dict[str, str] = {}
    layouts = {layout.name: layout for layout in dataset.month_layouts}
    for each in {each.key: each for each in found if each.layout in layouts}.values():
        if only_here := _held(store, dataset, each).intersection(lost):
            whose = ", ".join(f"{instrument or 'all'} on {day}" for day, instrument in in_order(only_here))
            alone[each.key] = (
                f"it alone has rows of {whose}, so it was left as it is: materialize these again, or delete it, and "
                "`market-data repair` makes it without them"
            )
            continue
        if _of_another_tool(store, each):
            alone[each.key] = (
                "what it holds cannot be told, and this lake did not put it together, so it was left as it is: move it "
                "away, and `market-data repair` makes it anew"
            )
            continue
        layout = layouts[each.layout]
        fields = layout.parse(each.key)
        days = tuple(_month(layout.day_of(fields)))
        # one whose day file cannot be read stays as it is; that has a difference of its own
        with suppress(LakeError):
            publish(store, dataset, [Target(layout, each.key, group_of(layout, fields), days, anew=True)], {})
    return alone


def _of_another_tool(store: ObjectStore, found: Difference) -> bool:
    """Whether a month file is a Parquet file that this lake has not put together, and of which rows nobody can tell."""
    foreign = False
    with suppress(LakeError), opened(store, found.key) as file:
        foreign = MONTH_DIGESTS not in (file.metadata.metadata or {})
        held_in_month(file)
        foreign = False  # it tells
    return foreign


def _held(store: ObjectStore, dataset: Dataset, found: Difference) -> set[Place]:
    """The day files whose rows a month file that differs has, as far as they belong into it and it can be read."""
    layout = next((layout for layout in dataset.month_layouts if layout.name == found.layout), None)
    if layout is None:
        return set()
    month, held = layout.day_of(layout.parse(found.key)), set()
    try:
        with opened(store, found.key) as file:
            held = held_in_month(file)
    except LakeError:
        return set()
    held = {(day, text) for day, text in held if day.replace(day=1) == month}
    if not dataset.per_instrument:
        return {(day, None) for day, _ in held}
    with suppress(InstrumentError):
        places = {(day, Instrument.parse(text)) for day, text in held}
        return {place for place in places if dataset.path(layout, *place) == found.key}
    return set()
