"""What is odd about the ticks and candles that lie in the lake: each day file is read once, a row group at a time."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date, datetime
from functools import lru_cache

import pyarrow as pa

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.checked import Finding, findings
from market_data_pipeline.lake.master import listing_on
from market_data_pipeline.lake.parquet import opened, read_columns, span_at
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset, Kind
from market_data_pipeline.model.errors import MarketDataError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.transforms.quality import Life, Thresholds, columns_of, oddities, rules_of, setting


def quality_problems(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    selection: Selection,
    thresholds: Thresholds,
    blocking: Collection[str] = (),
) -> Iterator[Finding]:
    """What is odd about each stored day of an instrument; a file that cannot be read is a finding, too.

    Args:
        store: the lake.
        dataset: a dataset that stands in `transforms.quality.FLAWS`.
        days: the days.
        selection: which instruments.
        thresholds: from where on something is odd.
        blocking: the flaws that are errors; all others are warnings.
    """
    lives = lru_cache(maxsize=1)(lambda day: _Lives(store, dataset, day))

    def look(found: DayObject, instrument: Instrument) -> Iterator[Finding]:
        rules = rules_of(dataset, instrument, lives(found.day).of(instrument), thresholds)
        for oddity in oddities(rules, _pieces(store, found.info.key, columns_of(rules))):
            limits = ", ".join(f"{setting(name)}={getattr(thresholds, name):g}" for name in oddity.limits)
            yield Finding(
                f"{instrument} on {found.day}: {oddity.flaw}: {oddity.text}{f' ({limits})' if limits else ''}; "
                f"{oddity.advice}",
                odd=oddity.flaw not in blocking,
            )

    return findings(store, dataset, days, selection, look)


class _Lives:
    """What the lake knows of when instruments could be traded on a day."""

    def __init__(self, store: ObjectStore, dataset: Dataset, day: date) -> None:
        self._store, self._dataset, self._day = store, dataset, day
        listed = listing_on(store, day).select(["instrument_id", "available_to"]).to_pylist()
        self._ends: dict[str, datetime | None] = {row["instrument_id"]: row["available_to"] for row in listed}
        self._before = {found.instrument: found.info.key for found in day_objects(store, dataset, day - DAY)}

    def of(self, instrument: Instrument) -> Life:
        """An instrument that nothing knew before the day may have begun on it; one that expires on it ends early."""
        end = self._ends.get(instrument.id)
        return Life(
            self._day,
            since=self._since(instrument),
            to_end=instrument.expiry != self._day and (end is None or end >= midnight(self._day + DAY)),
        )

    def _since(self, instrument: Instrument) -> int | None:
        """When its last tick of the day before came: the first pause began then, not at midnight."""
        start, before = microseconds(midnight(self._day)), self._before.get(instrument)
        # the last candle does not tell when a price last moved
        if before is None or self._dataset.kind is not Kind.TICKS:
            return start if before or instrument.id in self._ends else None
        try:
            last = span_at(self._store, self._dataset, before).last
        except MarketDataError:  # its own day tells of a file that cannot be read
            return start
        return microseconds(last) if last else start


def _pieces(store: ObjectStore, key: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    with opened(store, key) as file:
        for group in range(file.num_row_groups):
            yield read_columns(file, columns, [group])
