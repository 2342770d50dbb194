"""One walk over what lies under the roots of some datasets: what belongs nowhere, and which groups there are.

Only keys are looked at. The groups tell where objects may lie that `by_date` knows nothing of.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache

from market_data_pipeline.lake.differences import Difference, Kind
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, META_ROOT, Dataset
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.layouts import Layout, is_hive
from market_data_pipeline.model.records import RECORD

Group = tuple[tuple[str, str], ...]


@dataclass
class Survey:
    """What a walk has seen.

    Attributes:
        groups: the groups of each dataset's day layouts, such as the venues, by dataset and layout.
        months: the month files of each dataset, by dataset and first day of the month: layout and group.
    """

    groups: dict[tuple[str, str], set[Group]] = field(default_factory=lambda: defaultdict(set))
    months: dict[tuple[str, date], set[tuple[Layout, Group]]] = field(default_factory=lambda: defaultdict(set))

    def walk(self, store: ObjectStore, datasets: Sequence[Dataset], first: date, last: date) -> Iterator[Difference]:
        """Lists everything once; gives each object that belongs to no layout, and notes what else it sees."""
        for folder in dict.fromkeys(folder for dataset in datasets for folder in _folders(dataset)):
            homes = [home for home in _homes() if home.start.startswith(folder) or folder.startswith(home.start)]
            for info in store.list(folder):
                found = _home(homes, info.key)
                if found is None:
                    yield _stray(store, homes, info.key)
                else:
                    self._note(*found, first, last)

    def _note(self, dataset: Dataset, layout: Layout, fields: dict[str, str], first: date, last: date) -> None:
        day = layout.day_of(fields)
        if layout == RECORD or layout == dataset.layouts[0]:
            return
        group = group_of(layout, fields)
        if layout.daily:
            if first <= day <= last:
                self.groups[dataset.name, layout.name].add(group)
        elif first.replace(day=1) <= day <= last:
            self.months[dataset.name, day].add((layout, group))


def group_of(layout: Layout, fields: dict[str, str]) -> Group:
    """The fields that name the folder of a group in a day layout, or the month file of one in a month layout."""
    left_out = {"instrument_id", "short_name"} if layout.daily else set()
    return tuple((name, fields[name]) for name in layout.group_fields if name not in left_out)


def _folders(dataset: Dataset) -> Iterator[str]:
    root = dataset.layouts[0].template.partition("/")[0]
    yield f"{META_ROOT}/{dataset.name}/" if root == META_ROOT else f"{root}/"
    yield f"{RECORD.template.partition('{')[0]}{dataset.name}/"


@dataclass(frozen=True)
class _Home:
    """A layout with its datasets by name, and what all its paths begin with."""

    layout: Layout
    datasets: dict[str, Dataset]

    @property
    def start(self) -> str:
        return self.layout.template.partition("{")[0]


@cache
def _homes() -> tuple[_Home, ...]:
    datasets: dict[Layout, dict[str, Dataset]] = {RECORD: dict(DATASETS)}
    for dataset in DATASETS.values():
        for layout in dataset.layouts:
            datasets.setdefault(layout, {})[dataset.name] = dataset
    return tuple(_Home(layout, of) for layout, of in datasets.items())


def _home(homes: Sequence[_Home], key: str) -> tuple[Dataset, Layout, dict[str, str]] | None:
    for home in homes:
        if not key.startswith(home.start):
            continue
        try:
            fields = home.layout.parse(key)
        except LayoutError:
            continue
        named = fields.get("dataset")
        found = home.datasets.get(named) if named else next(iter(home.datasets.values()))
        fixed = found.path_fields().items() if found else ()
        if found and all(fields.get(name, value) == value for name, value in fixed):
            return found, home.layout, fields
    return None


def _stray(store: ObjectStore, homes: Sequence[_Home], key: str) -> Difference:
    found, expected, remedy = (
        "belongs to no layout",
        "a path of one of the layouts",
        "move it out of the lake, or delete it",
    )
    spelled = next((path for home in homes if (path := home.layout.respelled(key))), None)
    if is_hive(key):
        found = "a Hive-style path (key=value folders)"
        expected = "folders such as year-2023/month-05/day-23"
        remedy = "rename its folders and take it in with `market-data adopt`, or move it out of the lake"
    elif spelled:
        found, expected = "a path that differs from one of the lake's in the case of letters alone", spelled
        remedy = "rename it, or delete it"
    return Difference(Kind.STRAY, "", "", None, None, key, store.uri_of(key), found, expected, remedy)
