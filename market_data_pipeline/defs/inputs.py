"""What rows are made from that come out of the lake: the day files that lineage names, and the settings beside them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import partial

from market_data_pipeline.defs.lineage import Reach
from market_data_pipeline.lake.fingerprints import Moment
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.model.windows import DAY, days_between

ShapedBy = Callable[[date, Instrument | None], object]
"""What shapes an instrument's day (or all of it, with None) beside what the lake holds; told apart by its repr."""


class Inputs:
    """Lets rows tell what they are made from, by recorded checksums: no file is opened.

    Rows may be told of only if they fail where an input cannot be read, rather than go without it.

    Args:
        store: the lake.
        reaches: the inputs, and how far each reaches.
        shaped_by: what else shapes the rows.
    """

    def __init__(self, store: ObjectStore, reaches: Mapping[str, Reach], shaped_by: ShapedBy) -> None:
        self._store, self._reaches, self._shaped_by = store, reaches, shaped_by
        self._moments: dict[object, Moment] = {}

    def told(self, rows: Iterable[DayRows]) -> Iterator[DayRows]:
        """The rows again."""
        for each in rows:
            yield replace(each, made_from=partial(self._made_from, each.day, each.instrument))

    def _made_from(self, day: date, instrument: Instrument | None, look: object) -> str:
        moment = self._moments.setdefault(look, Moment(self._store))
        files = [
            moment.of_instrument(
                DATASETS[name],
                days_between(day - reach.after * DAY, day + reach.before * DAY),
                None if reach.across else instrument,
            )
            for name, reach in sorted(self._reaches.items())
        ]
        return "\n".join([repr(self._shaped_by(day, instrument)), *files])
