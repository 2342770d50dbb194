"""Bringing the layouts back in step: whatever is derived is made anew from `by_date`, under the writers' preconditions.

A file of `by_date` itself that is damaged or gone is restored where another layout has what was recorded of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from market_data_pipeline.lake.day_files import Place, settle
from market_data_pipeline.lake.differences import Difference, Kind
from market_data_pipeline.lake.months import Target
from market_data_pipeline.lake.records import Sum, read_record, record_targets
from market_data_pipeline.lake.rescue import rescue
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.survey import Survey, group_of
from market_data_pipeline.lake.verified import PAUSE, verify_days
from market_data_pipeline.lake.verified_days import in_order
from market_data_pipeline.lake.writer import publish
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.records import RECORD
from market_data_pipeline.model.windows import DAY, by_month, days_between


@dataclass(frozen=True)
class Repaired:
    """A difference that was found, and whether it is mended."""

    difference: Difference
    mended: bool


def repair(
    store: ObjectStore, datasets: Sequence[Dataset], first: date, last: date, *, pause: float = PAUSE
) -> Iterator[Repaired]:
    """Mends what differs between the layouts of some datasets; a second run finds nothing more to do.

    Everything is read and compared (as `verify` does in full). Other runs may write meanwhile. What belongs to no
    layout is told and left alone.

    Args:
        store: the lake.
        datasets: which datasets.
        first: the first day (UTC).
        last: the last day, included.
        pause: seconds between looks.

    Raises:
        LakeError: the lake cannot be listed or written.
    """
    survey = Survey()
    for stray in survey.walk(store, datasets, first, last):
        yield Repaired(stray, False)
    for days in by_month(days_between(first, last)):
        for dataset in datasets:
            yield from _repair_days(store, dataset, days, survey, pause)


def _repair_days(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], survey: Survey, pause: float
) -> Iterator[Repaired]:
    def look() -> list[Difference]:
        return verify_days(store, dataset, days, full=True, survey=survey, pause=pause)

    found = look()
    if not found:
        return
    lost = _mend_day_files(store, dataset, days, found)
    after = look()
    _mend_month_files(store, dataset, [each for each in after if (each.day, each.instrument) not in lost])
    left = look()
    yield from (Repaired(each, False) for each in left)
    yield from (Repaired(each, True) for each in found if not any(_same(each, other) for other in left))


def _same(one: Difference, other: Difference) -> bool:
    return (one.key, one.day, one.instrument) == (other.key, other.day, other.instrument)


def _mend_day_files(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], found: Sequence[Difference]
) -> set[Place]:
    """Mends `by_date`, then the record and the other day layouts; gives the day files that must be made again."""
    unreadable = any(each.layout == RECORD.name and each.kind is Kind.UNREADABLE for each in found)
    recorded = None if unreadable else read_record(store, dataset, days[0])
    others = {layout.name for layout in dataset.day_layouts[1:]}
    suspect = {
        (each.day, each.instrument)
        for each in found
        if each.layout == dataset.layouts[0].name
        or (recorded is None and each.kind is Kind.EXTRA and each.layout in others)
    }
    rescued: dict[Place, Sum] = {}
    lost: set[Place] = set()
    for place in in_order((day, instrument) for day, instrument in suspect if day):
        has = rescue(store, dataset, place, (recorded or {}).get(place))
        if has:
            rescued[place] = has
        else:
            lost.add(place)
    _mend_record(store, dataset, days, found, rescued, lost)
    copies = {(each.day, each.instrument) for each in found if each.day and each.layout in others}
    settle(store, dataset, in_order({(day, at) for day, at in copies | rescued.keys() if day} - lost))
    return lost


def _mend_record(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    found: Sequence[Difference],
    rescued: dict[Place, Sum],
    lost: set[Place],
) -> None:
    """Brings the record in step; what is lost stays in it as it was, so that the loss is not forgotten."""
    wrong = {(RECORD.name, Kind.UNREADABLE), (dataset.layouts[0].name, Kind.ROWS)}
    anew = any((each.layout, each.kind) in wrong for each in found)
    without = {day for day, _ in lost}
    asked = [day for day in (_month(days[0]) if anew else days) if day not in without]
    publish(store, dataset, record_targets(dataset, asked, anew=anew), rescued)


def _month(day: date) -> list[date]:
    start = day.replace(day=1)
    return list(days_between(start, (start + timedelta(days=31)).replace(day=1) - DAY))


def _mend_month_files(store: ObjectStore, dataset: Dataset, found: Sequence[Difference]) -> None:
    """Makes month files anew, whole, from all day files of their months; what cannot be made stays as it is."""
    layouts = {layout.name: layout for layout in dataset.month_layouts}
    for key, name in dict.fromkeys((each.key, each.layout) for each in found if each.layout in layouts):
        layout = layouts[name]
        fields = layout.parse(key)
        days = tuple(_month(layout.day_of(fields)))
        try:
            publish(store, dataset, [Target(layout, key, group_of(layout, fields), days, anew=True)], {})
        except LakeError:  # a day file of it cannot be read, which has a difference of its own
            continue
